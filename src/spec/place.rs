//! Positions: the path of a field in a spec, and a place in a file.

use serde_saphyr::Location;

/// A part of a file: its line and column, from 1 in characters, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
    /// The number of characters.
    pub length: u64,
}

impl Place {
    pub(super) fn of(location: Location) -> Self {
        Self { line: location.line(), column: location.column(), length: location.span().len() }
    }
}

pub(super) use crate::base::difference::field;
