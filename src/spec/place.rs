//! Where something stands: in a spec, by the path of its field, and in a file.

use serde_saphyr::Location;

/// A piece of a file: its line and column, counted from 1 in characters, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
    /// How many characters are meant.
    pub length: u64,
}

impl Place {
    pub(super) fn of(location: Location) -> Self {
        Self { line: location.line(), column: location.column(), length: location.span().len() }
    }
}

/// The path of a field of the map at `path`.
pub(super) fn field(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
