//! Enforces the layers of docs/architecture.md on imports: no module imports from a higher layer, there are no import
//! cycles, and `src` has no module outside the layers.
//!
//! Code that is compiled only for tests may import from higher layers, to check texts for the user. A module may use its
//! children: they are its parts.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

/// The layers, the lowest first.
const FLOORS: [&str; 11] =
    ["base", "spec", "sample", "plan", "host", "cluster", "diagnose", "lifecycle", "report", "apps", "cli"];

/// A module, as its path in the crate: `["host", "docker", "image"]`.
type Module = Vec<String>;

/// The imports of each module of a crate.
#[derive(Default)]
struct Imports(BTreeMap<Module, BTreeSet<Module>>);

impl Imports {
    /// Reads the imports from the texts of files, by module.
    fn of(files: &BTreeMap<Module, String>) -> Self {
        let test_only: BTreeSet<Module> = files
            .iter()
            .flat_map(|(module, text)| test_modules(text).map(|child| joined(module, &child)))
            .collect();
        let is_test = |module: &Module| test_only.iter().any(|test| module.starts_with(test));
        let mut imports = Self::default();
        for (module, text) in files.iter().filter(|(module, _)| !is_test(module)) {
            let found = paths(&without_tests(text)).into_iter().filter_map(|path| resolve(module, &path, files));
            let found = found.filter(|target| target != module && !target.starts_with(module));
            imports.0.insert(module.clone(), found.collect());
        }
        imports
    }

    /// Returns imports from a higher layer: `host/kind.rs imports diagnose/diagnosis.rs`.
    fn upward(&self) -> Vec<String> {
        let floor = |module: &Module| FLOORS.iter().position(|floor| *floor == module[0]);
        let edges = self.0.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)));
        let up = edges.filter(|(from, to)| floor(to) > floor(from));
        up.map(|(from, to)| format!("{} imports {}", file(from), file(to))).collect()
    }

    /// Returns the files of an import cycle, if there is one.
    fn circle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.0.keys().find_map(|start| self.walk(start, &mut Vec::new(), &mut done))
    }

    fn walk<'a>(
        &'a self,
        at: &'a Module,
        way: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = way.iter().position(|module| *module == at) {
            return Some(way[begin..].iter().map(|module| file(module)).collect());
        }
        if done.contains(at) {
            return None;
        }
        way.push(at);
        let found = self.0.get(at).into_iter().flatten().find_map(|next| self.walk(next, way, done));
        way.pop();
        done.insert(at);
        found
    }
}

fn file(module: &Module) -> String {
    format!("{}.rs", module.join("/"))
}

fn joined(module: &Module, child: &str) -> Module {
    module.iter().cloned().chain([child.to_owned()]).collect()
}

/// Returns the modules that a file declares only for tests.
fn test_modules(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        loop {
            if lines.next()?.trim() != "#[cfg(test)]" {
                continue;
            }
            let Some(name) = lines.peek().and_then(|line| line.strip_suffix(';')) else { continue };
            if let Some((_, name)) = name.rsplit_once("mod ") {
                return Some(name.to_owned());
            }
        }
    })
}

/// Returns a file's text without comments and without its test module, which is at its end.
fn without_tests(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let code = text[..end].lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    code.collect::<Vec<_>>().join("\n")
}

/// Returns every path that starts with `crate` or `super`, with `use` trees expanded.
fn paths(code: &str) -> Vec<Vec<String>> {
    let tree = Regex::new(r"\buse\s+((?:crate|super)\b[^;]*);").unwrap();
    let inline = Regex::new(r"\b(?:crate|super)(?:::\w+)+").unwrap();
    let uses = tree.captures_iter(code).flat_map(|found| spelled_out(&found[1]));
    let rest = tree.replace_all(code, "");
    let inline = inline.find_iter(&rest).map(|found| found.as_str().to_owned());
    let all: Vec<String> = uses.chain(inline).collect();
    all.iter().map(|path| path.split("::").map(|name| name.trim().to_owned()).collect()).collect()
}

/// Expands `a::{b, c::{d, e}}` to `a::b`, `a::c::d`, `a::c::e`.
fn spelled_out(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or(tree).to_owned()];
    };
    let inside = &rest[..rest.rfind('}').unwrap_or(rest.len())];
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[from..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(spelled_out).map(|part| format!("{before}{part}")).collect()
}

/// Returns the module that a path refers to: its longest prefix that is a file.
fn resolve(from: &Module, path: &[String], files: &BTreeMap<Module, String>) -> Option<Module> {
    let ups = path.iter().take_while(|name| *name == "super").count();
    let (base, rest) = match ups {
        0 => (Vec::new(), &path[1..]),
        _ => (from[..from.len().checked_sub(ups)?].to_vec(), &path[ups..]),
    };
    let whole: Module = base.into_iter().chain(rest.iter().cloned()).collect();
    (1..=whole.len()).rev().map(|length| whole[..length].to_vec()).find(|module| files.contains_key(module))
}

/// Returns the modules of the crate: every file below `src` except the crate roots.
fn files() -> BTreeMap<Module, String> {
    fn read(folder: &Path, module: &Module, files: &mut BTreeMap<Module, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let module = joined(module, path.file_stem().unwrap().to_str().unwrap());
            if path.is_dir() {
                read(&path, &module, files);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.insert(module, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &Vec::new(), &mut files);
    files.retain(|module, _| !["lib", "main"].contains(&module[0].as_str()) || module.len() > 1);
    files
}

#[test]
fn no_import_from_a_higher_layer() {
    assert_eq!(Imports::of(&files()).upward(), [""; 0]);
}

#[test]
fn imports_have_no_cycle() {
    assert_eq!(Imports::of(&files()).circle(), None);
}

#[test]
fn every_module_is_in_a_layer() {
    let found: BTreeSet<String> = files().into_keys().map(|module| module[0].clone()).collect();
    assert_eq!(found, FLOORS.map(str::to_owned).into());
}

#[test]
fn upward_imports_and_cycles_are_detected() {
    let of = |files: &[(&str, &str)]| {
        let files = files
            .iter()
            .map(|(module, text)| (module.split('/').map(str::to_owned).collect::<Module>(), (*text).to_owned()));
        Imports::of(&files.collect())
    };
    let imports = of(&[
        ("host/kind", "use crate::base::{error::Error, event::{Event, Step}};\nuse crate::cluster::mesh as m;\n"),
        ("base/error", "// crate::cli::Cli\n#[cfg(test)]\nmod tests {\n    use crate::cli::Cli;\n}\n"),
        ("base/event", "fn f() { super::error::find(crate::plan::inventory::sort()) }"),
        ("plan/inventory", ""),
        ("cluster/mesh", "#[cfg(test)]\nmod testing;\n"),
        ("cluster/mesh/testing", "use crate::cli::Cli;"),
        ("cli", ""),
    ]);
    assert_eq!(
        imports.upward(),
        ["base/event.rs imports plan/inventory.rs", "host/kind.rs imports cluster/mesh.rs",]
    );
    assert_eq!(imports.circle(), None);
    let circle = of(&[
        ("host/a", "mod part;\nuse crate::host::b::B;"),
        ("host/a/part", "use super::A;"),
        ("host/b", "use super::c;"),
        ("host/c", "use crate::host::a;"),
    ]);
    assert_eq!(circle.circle().unwrap(), ["host/a.rs", "host/b.rs", "host/c.rs"]);
}
