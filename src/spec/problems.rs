//! The problems of one part of a spec, for its validation as a whole.

/// The problems found so far: the path, what is wrong, and the fix.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<(String, String, String)>);

impl Problems {
    pub(super) fn add(&mut self, path: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.0.push((path.to_owned(), what.into(), hint.into()));
    }
}
