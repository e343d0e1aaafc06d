//! The source of each field of a merged spec, for errors that are found only after merging.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::file;
use super::place::{Place, field};
use super::places::places;
use crate::base::error::Error;

/// The source of each field that is set: a file's path as the user specified it and the position in the file, or a
/// flag.
///
/// Fields are identified by paths such as `clusters[1].name`. A field without a source has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    fields: BTreeMap<String, Origin>,
    /// The last source that set fields of a map, for messages about the map as a whole.
    maps: BTreeMap<String, Origin>,
}

/// What set a field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    source: Arc<Source>,
    place: Option<Place>,
}

/// A source of fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// A file's path as the user specified it, or a flag.
    pub(crate) shown: String,
    /// A file's text.
    pub(crate) text: String,
}

impl Source {
    /// A flag or a variable.
    pub(crate) fn flag(name: &str) -> Arc<Self> {
        Arc::new(Self { shown: name.to_owned(), text: String::new() })
    }
}

impl Origins {
    /// Returns the source of a field, or of the nearest enclosing field that was set as a whole.
    pub fn of(&self, path: &str) -> Option<&str> {
        self.nearest(path).map(|origin| origin.source.shown.as_str())
    }

    /// Returns a message about a field, with the file, line and column where it was set, or the flag that set it; and
    /// an excerpt of the file.
    pub(super) fn locate(&self, path: &str, message: &str) -> (String, Option<String>) {
        let message = &file::clipped(message.to_owned());
        // A word without a dot may be prose.
        let map = || self.maps.get(path).filter(|_| path.contains('.'));
        let Some(origin) = self.nearest(path).or_else(map) else { return (message.to_owned(), None) };
        let shown = &origin.source.shown;
        match origin.place {
            Some(place) => (
                format!("{shown}:{}:{}: {message}", place.line, place.column),
                Some(file::excerpt(&origin.source.text, place)),
            ),
            None => (format!("{message} (from {shown})"), None),
        }
    }

    /// Adds the position to an error whose message begins with a field's path. The code that checks a spec against a
    /// host does not know the files.
    #[must_use]
    pub fn place(&self, mut error: Error) -> Error {
        let path = error.message.split(' ').next().unwrap_or_default();
        let (message, excerpt) = self.locate(path, &error.message);
        error.message = message;
        error.evidence.splice(0..0, excerpt.iter().flat_map(|excerpt| excerpt.lines()).map(str::to_owned));
        error
    }

    fn nearest(&self, path: &str) -> Option<&Origin> {
        let mut path = path;
        loop {
            if let Some(origin) = self.fields.get(path) {
                return Some(origin);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Records what `source` sets, in the same way as [`crate::spec::merge::merge`] merges: maps are merged,
    /// everything else is replaced.
    pub(crate) fn record(&mut self, value: &Value, source: &Arc<Source>) {
        self.record_field("", value, source, &places(&source.text));
    }

    fn record_field(&mut self, path: &str, value: &Value, source: &Arc<Source>, places: &BTreeMap<String, Place>) {
        let origin = || Origin { source: source.clone(), place: places.get(path).copied() };
        match value {
            Value::Object(fields) if path.is_empty() || !fields.is_empty() => {
                self.fields.remove(path);
                self.maps.insert(path.to_owned(), origin());
                for (key, value) in fields {
                    self.record_field(&field(path, key), value, source, places);
                }
            }
            _ => {
                self.fields.retain(|known, _| !is_within(known, path));
                self.maps.retain(|known, _| !is_within(known, path));
                self.fields.insert(path.to_owned(), origin());
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    // A message about an item as a whole points at its start.
                    let path = format!("{path}[{index}]");
                    self.record_field(&path, item, source, places);
                }
            }
        }
    }
}

fn is_within(known: &str, path: &str) -> bool {
    known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn later_source_overrides_what_it_sets() {
        let mut origins = Origins::default();
        let one = json!({"mesh": {"version": "1", "values": {"a": {"b": 1}}}, "clusters": [{"name": "x"}, {"name": "y"}]});
        origins.record(&one, &Source::flag("one"));
        origins.record(&json!({"mesh": {"version": "2"}, "clusters": [{"name": "z"}]}), &Source::flag("two"));
        assert_eq!(origins.of("mesh.version"), Some("two"));
        assert_eq!(origins.of("mesh.values.a.b"), Some("one"));
        assert_eq!(origins.of("clusters[0].name"), Some("two"));
        // The list was replaced, so nothing of the first source is left.
        assert_eq!(origins.of("clusters[1].name"), Some("two"));
        assert_eq!(origins.of("network.subnet"), None);
        assert_eq!(origins.of("mesh"), None);
    }

    #[test]
    fn map_has_the_position_of_its_key() {
        let mut origins = Origins::default();
        let source = Arc::new(Source {
            shown: "a.yaml".into(),
            text: "mesh:\n  values:\n    pilot: {env: {A: b}}\n".into(),
        });
        origins.record(&json!({"mesh": {"values": {"pilot": {"env": {"A": "b"}}}}}), &source);
        let placed = |path: &str| origins.locate(path, "wrong").0;
        assert_eq!(placed("mesh.values"), "a.yaml:2:3: wrong");
        assert_eq!(placed("mesh.values.pilot"), "a.yaml:3:5: wrong");
        assert_eq!(placed("mesh.version"), "wrong");
        origins.record(&json!({"mesh": {"values": null}}), &Source::flag("--set"));
        assert_eq!(origins.locate("mesh.values.pilot", "wrong").0, "wrong (from --set)");
    }
}
