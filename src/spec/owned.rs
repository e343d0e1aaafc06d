//! Fields of free-form settings that only kindmesh sets.

use serde_json::Value;

use super::Values;

/// Returns the owned fields that free-form settings set, or remove by replacing an enclosing map: the path and the
/// problem.
pub(super) fn problems(values: &Values, owned: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (path, why) in owned {
        let problem = match touched(values, path) {
            None => continue,
            Some(touched) if touched == *path => (touched.to_owned(), format!("may not be set: {why}")),
            Some(around) => (around.to_owned(), "must be a map".to_owned()),
        };
        if !found.contains(&problem) {
            found.push(problem);
        }
    }
    found
}

/// Returns the field at `path` if it is set, or the first enclosing field that is set and is not a map.
fn touched<'a>(values: &Values, path: &'a str) -> Option<&'a str> {
    let (first, mut rest) = path.split_once('.').unwrap_or((path, ""));
    let mut at = values.get(first)?;
    while !rest.is_empty() {
        let Value::Object(fields) = at else {
            return Some(path[..path.len() - rest.len()].trim_end_matches('.'));
        };
        let (key, behind) = rest.split_once('.').unwrap_or((rest, ""));
        at = fields.get(key)?;
        rest = behind;
    }
    Some(path)
}
