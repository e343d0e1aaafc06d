//! Reads YAML and JSON with the meaning that kubectl gives it, and with the position of each field.
//!
//! kubectl reads YAML 1.1 with go-yaml v2: `0400` is 256, `yes` and `on` are true, `<<` merges a map, and timestamps
//! are text. serde_yaml and serde-saphyr follow YAML 1.2 and do not tell quoted scalars from plain ones, so this
//! builds on the events of the parser that serde-saphyr uses: they have the style, the tag and the position of each
//! scalar. See `resolve.go` and `decode.go` of sigs.k8s.io/yaml/goyaml.v2.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;

use serde_json::Value;
use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

mod scalar;

/// The maximum number of values of a document, including those that aliases repeat: an alias of aliases grows
/// exponentially. The largest CustomResourceDefinitions have some 50 000.
const VALUES_MAX: usize = 500_000;

/// A position in a file: line and column, from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    fn of(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The positions of a document's fields, by JSON pointer: of a field that of its key, of an item that of its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    /// Returns the position of a field, or of the nearest field around it.
    pub fn nearest(&self, pointer: &str) -> Option<Place> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.0.get(pointer) {
                return Some(*place);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }

    /// Returns the positions within the value at a pointer, as those of a document of its own.
    #[must_use]
    pub fn below(&self, pointer: &str) -> Self {
        let inside = |(path, place): (&String, &Place)| {
            let rest = path.strip_prefix(pointer)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| (rest.to_owned(), *place))
        };
        Self(self.0.iter().filter_map(inside).collect())
    }
}

/// Returns the pointer of a field of the value at `pointer`.
pub fn pointer(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// A document of a YAML text.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its value.
    pub value: Value,
    /// The positions of its fields; empty if only a JSON parser can read it.
    pub places: Places,
    /// Fields that are set twice in one map, with the later position. The later one counts, as with kubectl.
    pub twice: Vec<(String, Place)>,
}

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// What is wrong, in lower case.
    pub message: String,
    /// Where.
    pub place: Place,
}

impl Invalid {
    fn at(marker: &Marker, message: impl Into<String>) -> Self {
        Self { message: message.into(), place: Place::of(marker) }
    }
}

impl From<granit_parser::ScanError> for Invalid {
    fn from(error: granit_parser::ScanError) -> Self {
        Self::at(error.marker(), error.info())
    }
}

/// Reads the documents of a YAML text, or the values of a JSON text. Empty documents are skipped.
///
/// # Errors
/// What is wrong, and where.
pub fn documents(text: &str) -> Result<Vec<Document>, Invalid> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let read = read(text);
    // Some JSON is not YAML: a pair of escaped surrogates, indentation with tabs.
    match json(text) {
        Some(values) => match read {
            Ok(documents) if documents.len() == values.len() => {
                Ok(documents.into_iter().zip(values).map(|(read, value)| Document { value, ..read }).collect())
            }
            _ => Ok(values
                .into_iter()
                .map(|value| Document { value, places: Places::default(), twice: Vec::new() })
                .collect()),
        },
        None => read,
    }
}

/// Returns the values of a text that is JSON.
fn json(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()
}

fn read(text: &str) -> Result<Vec<Document>, Invalid> {
    // A file may begin with any number of comments.
    let options = granit_parser::options! { emit_comments: false };
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        twice: Vec::new(),
    };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        let root = match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => continue,
            event => reader.node(event, span)?,
        };
        let twice = std::mem::take(&mut reader.twice);
        if matches!(root.kind, Kind::Scalar(Value::Null)) {
            continue;
        }
        let mut written = Written::default();
        let value = written.value(&root, "")?;
        written.places.0.insert(String::new(), Place::of(&root.at));
        documents.push(Document { value, places: written.places, twice });
    }
    Ok(documents)
}

/// A value as it was read. Aliases share it.
struct Node {
    at: Marker,
    kind: Kind,
}

enum Kind {
    Scalar(Value),
    List(Vec<Rc<Node>>),
    Map(BTreeMap<String, Field>),
}

#[derive(Clone)]
struct Field {
    at: Marker,
    value: Rc<Node>,
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Rc<Node>>,
    twice: Vec<(String, Place)>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Invalid> {
        Ok(self.parser.next_event().transpose()?)
    }

    /// Reads the value that begins with an event.
    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Rc<Node>, Invalid> {
        let at = span.start;
        let (anchor, kind) = match event {
            Event::Alias(anchor) => {
                // An anchor is known once its value is complete.
                let known = self.anchors.get(&anchor).cloned();
                return known.ok_or_else(|| Invalid::at(&at, "an alias inside the value that it repeats"));
            }
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, Kind::Scalar(scalar_value(&text, style, tag.as_deref(), &at)?))
            }
            Event::SequenceStart(_, anchor, _) => (anchor, Kind::List(self.list()?)),
            Event::MappingStart(_, anchor, _) => (anchor, Kind::Map(self.map()?)),
            _ => return Err(Invalid::at(&at, "expected a value")),
        };
        let node = Rc::new(Node { at, kind });
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Vec<Rc<Node>>, Invalid> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.node(event, span)?);
        }
        Ok(items)
    }

    fn map(&mut self) -> Result<BTreeMap<String, Field>, Invalid> {
        let (mut fields, mut explicit) = (BTreeMap::new(), BTreeSet::new());
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let merges =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, tag) if text == "<<" && tag.is_none());
            let key = self.node(event, span)?;
            let at = span.start;
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, span)?;
            if merges {
                // go-yaml v2 merges where the key stands: a field before it is replaced, one after it replaces.
                merge(&mut fields, &value)?;
                continue;
            }
            let name = match &key.kind {
                Kind::Scalar(name) => scalar::key(name),
                _ => None,
            };
            let name =
                name.ok_or_else(|| Invalid::at(&at, "the name of a field must be text, a number or a boolean"))?;
            if !explicit.insert(name.clone()) {
                self.twice.push((name.clone(), Place::of(&at)));
            }
            fields.insert(name, Field { at, value });
        }
        Ok(fields)
    }
}

/// Adds the fields of a map, or of several, of which the first takes precedence.
fn merge(fields: &mut BTreeMap<String, Field>, from: &Node) -> Result<(), Invalid> {
    match &from.kind {
        Kind::Map(more) => fields.extend(more.clone()),
        Kind::List(maps) if maps.iter().all(|map| matches!(map.kind, Kind::Map(_))) => {
            for map in maps.iter().rev() {
                merge(fields, map)?;
            }
        }
        _ => return Err(Invalid::at(&from.at, "<< merges a map, or a list of maps")),
    }
    Ok(())
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: &Marker) -> Result<Value, Invalid> {
    const YAML: &str = "tag:yaml.org,2002:";
    let named = tag.map(|tag| tag.suffix_in_namespace(YAML).map(|name| name.into_owned()).unwrap_or_default());
    let resolved = match named {
        None if style == ScalarStyle::Plain => scalar::plain(text),
        None => Ok(Value::String(text.to_owned())),
        Some(tag) => scalar::tagged(text, &tag),
    };
    resolved.map_err(|message| Invalid::at(at, message))
}

/// A document on its way from nodes to values.
#[derive(Default)]
struct Written {
    places: Places,
    count: usize,
}

impl Written {
    fn value(&mut self, node: &Node, path: &str) -> Result<Value, Invalid> {
        self.count += 1;
        if self.count > VALUES_MAX {
            return Err(Invalid::at(
                &node.at,
                format!("more than {VALUES_MAX} values, with those that aliases repeat"),
            ));
        }
        Ok(match &node.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => {
                let item = |(index, item): (usize, &Rc<Node>)| {
                    self.field(item, pointer(path, &index.to_string()), &item.at)
                };
                Value::Array(items.iter().enumerate().map(item).collect::<Result<_, _>>()?)
            }
            Kind::Map(fields) => {
                let field = |(name, field): (&String, &Field)| {
                    Ok((name.clone(), self.field(&field.value, pointer(path, name), &field.at)?))
                };
                Value::Object(fields.iter().map(field).collect::<Result<_, Invalid>>()?)
            }
        })
    }

    fn field(&mut self, node: &Node, path: String, at: &Marker) -> Result<Value, Invalid> {
        let value = self.value(node, &path)?;
        self.places.0.insert(path, Place::of(at));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        let mut documents = documents(text).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0).value
    }

    fn refused(text: &str) -> String {
        let error = documents(text).unwrap_err();
        format!("{}: {}", error.place, error.message)
    }

    #[test]
    fn maps_are_merged_where_the_key_stands() {
        let common = "common: &common {a: 1, b: {c: 2}}\n";
        assert_eq!(value(&format!("{common}x: {{<<: *common, a: 3}}"))["x"], json!({"a": 3, "b": {"c": 2}}));
        // Differs from YAML 1.2 libraries, but not from kubectl.
        assert_eq!(value(&format!("{common}x: {{a: 3, <<: *common}}"))["x"]["a"], json!(1));
        let both = format!("{common}other: &other {{a: 7, d: 8}}\nx:\n  <<: [*other, *common]\n");
        assert_eq!(value(&both)["x"], json!({"a": 7, "b": {"c": 2}, "d": 8}));
        assert_eq!(value("{'<<': {a: 1}}"), json!({"<<": {"a": 1}}));
        assert_eq!(refused("a: {<<: text}"), "1:9: << merges a map, or a list of maps");
    }

    #[test]
    fn quoted_scalars_and_block_scalars_are_text() {
        let text = "a: \"0400\"\nb: 'yes'\nc: |\n  0400\nd: 0400\ne: yes\nf: !!str 0400\n";
        assert_eq!(value(text), json!({"a": "0400", "b": "yes", "c": "0400\n", "d": 256, "e": true, "f": "0400"}));
    }

    #[test]
    fn names_of_fields_become_text() {
        assert_eq!(
            value("{0400: a, yes: b, 1.10: c, \"01\": d}"),
            json!({"256": "a", "true": "b", "1.1": "c", "01": "d"})
        );
        assert!(refused("? [a]\n: b").ends_with("must be text, a number or a boolean"));
        assert!(refused("~: b").ends_with("must be text, a number or a boolean"));
    }

    #[test]
    fn documents_have_their_places() {
        let text = "# first\n---\n---\na:\n  b:\n    - c: 1\n      d/e: 2\n---\nx: &x {w: 1}\nz: *x\n";
        let read = documents(text).unwrap();
        assert_eq!(read.len(), 2);
        let at = |number: usize, pointer: &str| read[number].places.nearest(pointer).unwrap().to_string();
        assert_eq!([at(0, ""), at(0, "/a"), at(0, "/a/b/0"), at(0, "/a/b/0/d~1e")], ["4:1", "4:1", "6:7", "7:7"]);
        // A field that does not exist has the place of what is around it.
        assert_eq!([at(0, "/a/b/0/f/g"), at(1, "/z/w")], ["6:7", "9:8"]);
        let below = read[0].places.below("/a/b/0");
        assert_eq!(below.nearest("/c").unwrap().to_string(), "6:7");
        assert_eq!(below.nearest("").unwrap().to_string(), "6:7");
    }

    #[test]
    fn later_of_two_fields_counts_and_is_named() {
        let read = documents("a: 1\nb: {c: 2, c: 3}\n").unwrap().remove(0);
        assert_eq!(read.value, json!({"a": 1, "b": {"c": 3}}));
        assert_eq!(read.twice, [("c".to_owned(), Place { line: 2, column: 11 })]);
        assert_eq!(documents("x: &x {a: 1}\ny: {<<: *x, a: 2}").unwrap()[0].twice, []);
    }

    #[test]
    fn json_keeps_its_own_rules() {
        let text = "{\n\t\"a\": \"\\ud83d\\ude00\",\n\t\"b\": 1.0\n}\n{\"c\": \"yes\"}";
        let read = documents(text).unwrap();
        assert_eq!(read[0].value, json!({"a": "😀", "b": 1.0}));
        assert_eq!(read[1].value, json!({"c": "yes"}));
        // JSON that is YAML, too, has places.
        assert_eq!(
            documents("{\"a\":\n {\"b\": 1}}").unwrap()[0].places.nearest("/a/b").unwrap().to_string(),
            "2:3"
        );
    }

    #[test]
    fn truncated_text_is_read_or_refused() {
        let text = "\u{feff}# ü\na: &a {b: [0x1F, \"\\u00fc\", 'x'], <<: {c: |\n  d}}\n---\n- *a\n- !!int 0o7\n- >-\n  ü\n...\n";
        for (end, _) in text.char_indices() {
            let _ = documents(&text[..end]);
        }
        for (start, _) in text.char_indices() {
            let _ = documents(&text[start..]);
        }
    }

    #[test]
    fn mistakes_have_a_place() {
        assert!(refused("a: b: c").starts_with("1:"), "{}", refused("a: b: c"));
        assert!(refused("a:\n\t- b").starts_with("2:"), "{}", refused("a:\n\t- b"));
        assert!(refused("a: &a {b: *a}").contains("1:11"), "{}", refused("a: &a {b: *a}"));
        assert!(refused("a: *b").contains("1:4"), "{}", refused("a: *b"));
        assert_eq!(refused("a: .inf"), "1:4: .inf is not a number in JSON");
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let before = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", ")));
        }
        assert!(refused(&bomb).contains("that aliases repeat"));
    }
}
