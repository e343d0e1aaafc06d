//! Mutations of a corpus: each input is one of its texts with a few edits, which shrink away one by one.

use proptest::prelude::*;
use proptest::sample::Index;

/// Text that readers tend to trip over.
const TOKENS: [&str; 44] = [
    "",
    " ",
    "\n",
    "\t",
    "\0",
    "\r\n",
    "\u{feff}",
    "\u{1b}[31m",
    "é",
    "日本",
    "\u{202e}",
    ":",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "|",
    ">",
    "---\n",
    "null",
    "~",
    "true",
    "0",
    "-1",
    "1.5",
    "99999999999999999999",
    "0x",
    "/",
    "::",
    "=",
    "+",
    ",",
    "%",
    "\\",
    "..",
];

/// One edit of a text, on bytes: what is cut in the middle of a character is no text any more, as on a broken disk.
#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, Index),
    InsertByte(Index, u8),
    Flip(Index, u8),
    Remove(Index, Index),
    Repeat(Index, Index, u8),
    Cut(Index),
    /// A piece of another text of the corpus.
    Splice(Index, Index, Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), at()).prop_map(|(at, token)| Edit::Insert(at, token)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::InsertByte(at, byte)),
        2 => (at(), any::<u8>()).prop_map(|(at, bits)| Edit::Flip(at, bits)),
        3 => (at(), at()).prop_map(|(from, to)| Edit::Remove(from, to)),
        1 => (at(), at(), 1..20_u8).prop_map(|(from, to, times)| Edit::Repeat(from, to, times)),
        1 => at().prop_map(Edit::Cut),
        2 => (at(), at(), at(), at()).prop_map(|(at, text, from, to)| Edit::Splice(at, text, from, to)),
    ]
}

/// Longer ones only take longer.
const LONGEST: usize = 16 * 1024;

/// Inputs made of a corpus.
pub fn mutated(corpus: &'static [&'static str]) -> impl Strategy<Value = Input> {
    (any::<Index>(), prop::collection::vec(edit(), 0..8)).prop_map(move |(text, edits)| {
        let mut bytes = corpus[text.index(corpus.len())].as_bytes().to_vec();
        for edit in &edits {
            apply(edit, &mut bytes, corpus);
            bytes.truncate(LONGEST);
        }
        Input(bytes)
    })
}

/// A place in or behind the bytes, and a piece of them.
fn place(at: &Index, bytes: &[u8]) -> usize {
    at.index(bytes.len() + 1)
}

fn piece(from: &Index, to: &Index, bytes: &[u8]) -> std::ops::Range<usize> {
    let (from, to) = (place(from, bytes), place(to, bytes));
    from.min(to)..from.max(to)
}

fn apply(edit: &Edit, bytes: &mut Vec<u8>, corpus: &[&str]) {
    match edit {
        Edit::Insert(at, token) => {
            let token = TOKENS[token.index(TOKENS.len())];
            insert(bytes, place(at, bytes), token.as_bytes());
        }
        Edit::InsertByte(at, byte) => insert(bytes, place(at, bytes), &[*byte]),
        Edit::Flip(at, bits) => {
            let at = place(at, bytes);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
        Edit::Remove(from, to) => {
            let piece = piece(from, to, bytes);
            bytes.drain(piece);
        }
        Edit::Repeat(from, to, times) => {
            let piece = piece(from, to, bytes);
            let repeated = bytes[piece.clone()].repeat(usize::from(*times));
            insert(bytes, piece.end, &repeated);
        }
        Edit::Cut(at) => bytes.truncate(place(at, bytes)),
        Edit::Splice(at, text, from, to) => {
            let other = corpus[text.index(corpus.len())].as_bytes();
            insert(bytes, place(at, bytes), &other[piece(from, to, other)]);
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    bytes.splice(at..at, what.iter().copied());
}

/// Bytes, shown as text as far as they are.
#[derive(Clone)]
pub struct Input(pub Vec<u8>);

impl Input {
    /// As programs read what others write.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}
