//! Mutations of a corpus: each input is a text of the corpus with a few edits. Shrinking removes edits one by one.

use std::ops::Range;

use proptest::prelude::*;

/// Tokens that parsers often handle wrongly.
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

/// The maximum length of an input, in bytes: longer inputs only cost time.
const MAX_LENGTH: usize = 16 * 1024;

/// Returns inputs from a corpus: one of its texts, with up to seven edits, each derived from a number. A failing input
/// shrinks to the fewest edits that still fail.
pub fn mutated(corpus: &'static [&'static str]) -> impl Strategy<Value = Input> {
    (any::<u8>(), prop::collection::vec(any::<u64>(), 0..8)).prop_map(move |(text, edits)| {
        let mut bytes = corpus[usize::from(text) % corpus.len()].as_bytes().to_vec();
        for edit in edits {
            apply(&mut Choices(edit), &mut bytes, corpus);
            bytes.truncate(MAX_LENGTH);
        }
        Input(bytes)
    })
}

/// Choices that are derived from a number (splitmix64).
struct Choices(u64);

impl Choices {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    /// Returns an index into the bytes, or their length.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }

    /// Returns a range of the bytes.
    fn piece(&mut self, bytes: &[u8]) -> Range<usize> {
        let (from, to) = (self.place(bytes), self.place(bytes));
        from.min(to)..from.max(to)
    }
}

/// Applies one edit to bytes. It may split a character, so that the result is not valid UTF-8.
fn apply(choices: &mut Choices, bytes: &mut Vec<u8>, corpus: &[&str]) {
    let kind = choices.below(14);
    let at = choices.place(bytes);
    match kind {
        0..4 => insert(bytes, at, TOKENS[choices.below(TOKENS.len())].as_bytes()),
        4 => insert(bytes, at, &[choices.below(256) as u8]),
        5 | 6 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= choices.below(256) as u8;
            }
        }
        7 | 8 => {
            // Short ranges, so that something is left to parse.
            let end = bytes.len().min(at + choices.below(24));
            bytes.drain(at..end);
        }
        9 => {
            let piece = choices.piece(bytes);
            bytes.drain(piece);
        }
        10 => {
            let piece = choices.piece(bytes);
            let repeated = bytes[piece.clone()].repeat(1 + choices.below(20));
            insert(bytes, piece.end, &repeated);
        }
        11 => bytes.truncate(at),
        _ => {
            // A range of another text.
            let other = corpus[choices.below(corpus.len())].as_bytes();
            insert(bytes, at, &other[choices.piece(other)]);
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    bytes.splice(at..at, what.iter().copied());
}

/// Bytes, displayed as ASCII with escapes.
#[derive(Clone)]
pub struct Input(pub Vec<u8>);

impl Input {
    /// Returns the bytes as text, with invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}
