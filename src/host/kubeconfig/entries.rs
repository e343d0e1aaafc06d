//! An environment's entries in a user's kubeconfig: added with a mark, found by it, and removed. Text in, text
//! out; everything else in the file is kept, including unknown fields.

use serde_yaml::{Mapping, Value};

use crate::base::error::Error;

/// The owner of an entry, in its `extensions`, which are meant for tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The environment.
    pub environment: String,
    /// The identity of its engine, empty if unknown.
    pub engine: String,
}

/// The name of kindmesh's extension.
const EXTENSION: &str = "kindmesh";
/// The lists of a kubeconfig, the field with an entry's content in each, and the kubectl command to delete an
/// entry.
const LISTS: [(&str, &str, &str); 3] = [
    ("clusters", "cluster", "delete-cluster"),
    ("users", "user", "delete-user"),
    ("contexts", "context", "delete-context"),
];

/// Returns the text of a kubeconfig with an environment's entries, replacing its earlier ones and removing those that it no
/// longer has; none if they are up to date. `shown` names the file in messages.
///
/// # Errors
/// An invalid file, with the position; a usage error if kindmesh did not add an entry of a planned name.
pub fn with(text: &str, environment: &str, mark: &Mark, shown: &str) -> Result<Option<String>, Error> {
    let old = read(text, shown)?;
    let from = read(environment, "the environment's kubeconfig")?;
    let mut new = old.clone();
    for (list, inner, delete) in LISTS {
        let added = marked(entries(&from, list, "the environment's kubeconfig")?, inner, mark);
        let mut there = entries(&new, list, shown)?;
        let before = there.len();
        let is_added = |other: &Value| added.iter().any(|entry| name(entry) == name(other));
        there.retain(|other| is_added(other) || !is_marked(other, inner, mark));
        for entry in &added {
            let name = name(entry);
            if there
                .iter()
                .any(|other| self::name(other) == name && owner(other, inner) != Some(&mark.environment))
            {
                return Err(Error::usage(format!(
                    "{shown} already has \"{name}\" among its {list}, but kindmesh did not add it"
                ))
                .hint(format!(
                    "rename it, or delete it: kubectl config {delete} {name}; or create the environment with another \
                        --name"
                )));
            }
            match there.iter_mut().find(|other| self::name(other) == name) {
                Some(other) => *other = entry.clone(),
                None => there.push(entry.clone()),
            }
        }
        if !there.is_empty() || before > 0 {
            new.insert(list.into(), Value::Sequence(there));
        }
    }
    let contexts = entries(&new, "contexts", shown)?;
    let current =
        |map: &Mapping| map.get("current-context").and_then(Value::as_str).unwrap_or_default().to_owned();
    let was_removed = |name: &str| {
        let had = entries(&old, "contexts", shown).unwrap_or_default();
        had.iter().any(|entry| self::name(entry) == name)
            && !contexts.iter().any(|entry| self::name(entry) == name)
    };
    if was_removed(&current(&new)) {
        new.insert("current-context".into(), "".into());
    }
    for (key, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        if new.get(key).is_none_or(Value::is_null) {
            new.insert(key.into(), value.into());
        }
    }
    let has_current = new.get("current-context").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if let (false, Some(current)) = (has_current, from.get("current-context")) {
        new.insert("current-context".into(), current.clone());
    }
    written(&old, new)
}

/// Returns the text of a kubeconfig without an environment's entries; none if it has none of them.
///
/// # Errors
/// An invalid file, with the position.
pub fn without(text: &str, mark: &Mark, shown: &str) -> Result<Option<String>, Error> {
    let old = read(text, shown)?;
    let mut new = old.clone();
    let mut gone = Vec::new();
    for (list, inner, _) in LISTS {
        let mut there = entries(&new, list, shown)?;
        let before = there.len();
        there.retain(|entry| {
            let ours = is_marked(entry, inner, mark);
            if ours && list == "contexts" {
                gone.push(name(entry).to_owned());
            }
            !ours
        });
        if there.len() < before {
            new.insert(list.into(), Value::Sequence(there));
        }
    }
    if new
        .get("current-context")
        .and_then(Value::as_str)
        .is_some_and(|current| gone.iter().any(|name| name == current))
    {
        new.insert("current-context".into(), "".into());
    }
    written(&old, new)
}

fn written(old: &Mapping, new: Mapping) -> Result<Option<String>, Error> {
    if *old == new {
        return Ok(None);
    }
    let text = serde_yaml::to_string(&new);
    text.map(Some).map_err(|error| Error::environment(format!("writing a kubeconfig as YAML: {error}")))
}

fn read(text: &str, shown: &str) -> Result<Mapping, Error> {
    let broken = |what: String| {
        Error::environment(format!("{shown}{what}"))
            .hint("the file is unchanged; to see what is wrong: kubectl config view")
    };
    match serde_yaml::from_str(text) {
        Ok(Value::Mapping(fields)) => Ok(fields),
        Ok(Value::Null) => Ok(Mapping::new()),
        Ok(_) => Err(broken(": not a kubeconfig: it is not a map of fields".into())),
        Err(error) => Err(broken(match error.location() {
            Some(at) => format!(":{}:{}: not a kubeconfig: {error}", at.line(), at.column()),
            None => format!(": not a kubeconfig: {error}"),
        })),
    }
}

/// Returns a list of a kubeconfig; a missing list is empty.
fn entries(config: &Mapping, list: &str, shown: &str) -> Result<Vec<Value>, Error> {
    match config.get(list) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Sequence(entries)) => Ok(entries.clone()),
        Some(_) => {
            Err(Error::environment(format!("{shown}: not a kubeconfig: its field {list} must contain a list"))
                .hint("the file is unchanged; to see what is wrong: kubectl config view"))
        }
    }
}

fn name(entry: &Value) -> &str {
    entry.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Adds the mark to the content of entries.
fn marked(entries: Vec<Value>, inner: &str, mark: &Mark) -> Vec<Value> {
    let mut extension = Mapping::new();
    extension.insert("environment".into(), mark.environment.clone().into());
    extension.insert("engine".into(), mark.engine.clone().into());
    let mut named = Mapping::new();
    named.insert("name".into(), EXTENSION.into());
    named.insert("extension".into(), Value::Mapping(extension));
    let mark = |mut entry: Value| {
        if let Some(Value::Mapping(content)) = entry.get_mut(inner) {
            content.insert("extensions".into(), Value::Sequence(vec![Value::Mapping(named.clone())]));
        }
        entry
    };
    entries.into_iter().map(mark).collect()
}

fn extension<'a>(entry: &'a Value, inner: &str) -> Option<&'a Value> {
    let extensions = entry.get(inner)?.get("extensions")?.as_sequence()?;
    extensions.iter().find(|named| name(named) == EXTENSION)?.get("extension")
}

/// Returns the environment that an entry's mark names.
fn owner<'a>(entry: &'a Value, inner: &str) -> Option<&'a str> {
    extension(entry, inner)?.get("environment")?.as_str()
}

/// Whether an entry belongs to this environment on this engine.
fn is_marked(entry: &Value, inner: &str, mark: &Mark) -> bool {
    let engine = extension(entry, inner).and_then(|found| found.get("engine")?.as_str()).unwrap_or_default();
    owner(entry, inner) == Some(&mark.environment)
        && (engine == mark.engine || engine.is_empty() || mark.engine.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    fn kubeconfig(name: &str, server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\nclusters:\n- {{name: {name}, cluster: {{server: \
             \"{server}\"}}}}\nusers:\n- {{name: {name}, user: {{token: t}}}}\ncontexts:\n- {{name: {name}, context: \
             {{cluster: {name}, user: {name}}}}}\n"
        )
    }

    fn mark(environment: &str) -> Mark {
        Mark { environment: environment.into(), engine: "E".into() }
    }

    fn value(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn adding_and_removing_entries_keeps_others() {
        let users =
            kubeconfig("work", "https://work") + "preferences: {colors: true}\nfromTheFuture: [1, {a: b}]\n";
        let first = with(&users, &kubeconfig("kind-e-a", "https://old"), &mark("e"), "f").unwrap().unwrap();
        let second = with(&first, &kubeconfig("kind-e-a", "https://new"), &mark("e"), "f").unwrap().unwrap();
        let environment = kubeconfig("kind-e-a", "https://new");
        assert_eq!(with(&second, &environment, &mark("e"), "f").unwrap(), None, "nothing has changed");
        let merged = value(&second);
        assert_eq!(merged["clusters"].as_sequence().unwrap().len(), 2);
        assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://new");
        assert_eq!(merged["current-context"], "work");
        // A cluster that was removed, and was the current one.
        let both = second.replace("current-context: work", "current-context: kind-e-a");
        let other = with(&both, &kubeconfig("kind-e-b", "https://b"), &mark("e"), "f").unwrap().unwrap();
        assert!(!other.contains("kind-e-a"), "{other}");
        assert_eq!(value(&other)["current-context"], "kind-e-b");
        let again = without(&second, &mark("e"), "f").unwrap().unwrap();
        assert_eq!(value(&again), value(&users));
        assert_eq!(without(&again, &mark("e"), "f").unwrap(), None);
    }

    #[test]
    fn entries_without_our_mark_are_kept() {
        let own = kubeconfig("kind-e-a", "https://mine");
        let error = with(&own, &kubeconfig("kind-e-a", "https://new"), &mark("e"), "f").unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.message.starts_with("f already has \"kind-e-a\" among its clusters"), "{}", error.message);
        assert_eq!(without(&own, &mark("e"), "f").unwrap(), None);
        let others = with("", &own, &mark("other"), "f").unwrap().unwrap();
        assert_eq!(without(&others, &mark("e"), "f").unwrap(), None);
        let elsewhere = Mark { engine: "F".into(), ..mark("other") };
        assert_eq!(without(&others, &elsewhere, "f").unwrap(), None, "it has that name, but is on another engine");
        let gone = without(&others, &mark("other"), "f").unwrap().unwrap();
        assert_eq!(value(&gone)["current-context"], "");
    }

    #[test]
    fn invalid_kubeconfig_has_a_position() {
        for (text, starts) in [
            ("clusters: [\n", "f:2:1: not a kubeconfig"),
            ("- a\n", "f: not a kubeconfig"),
            ("clusters: 3\n", "f: not a kubeconfig: its field clusters must contain a list"),
            ("a: 1\na: 2\n", "f:1:1: not a kubeconfig: duplicate"),
        ] {
            let error = with(text, &kubeconfig("a", "s"), &mark("e"), "f").unwrap_err();
            assert!(error.message.starts_with(starts), "{}", error.message);
        }
    }
}
