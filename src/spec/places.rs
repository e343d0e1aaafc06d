//! The position of each field in a spec file, for errors that are found only after merging.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::file;
use super::place::{Place, field};

/// Returns the position of every field of a file, by its path: that of a scalar, and that of the key for a map or
/// list. Empty for a file that cannot be parsed.
pub(super) fn places(text: &str) -> BTreeMap<String, Place> {
    let mut found = BTreeMap::new();
    if let Ok(tree) = file::parse::<Spanned<Tree>>(text, "") {
        note(&tree.value, "", &mut found);
    }
    found
}

/// A file's structure: fields and items with their positions, without values.
enum Tree {
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
    List(Vec<Spanned<Tree>>),
    Scalar,
}

fn note(tree: &Tree, path: &str, found: &mut BTreeMap<String, Place>) {
    match tree {
        Tree::Map(fields) => {
            for (key, value) in fields {
                let path = field(path, &key.value);
                let at = if matches!(value.value, Tree::Scalar) { value.referenced } else { key.referenced };
                found.insert(path.clone(), Place::of(at));
                note(&value.value, &path, found);
            }
        }
        Tree::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                found.insert(path.clone(), Place::of(item.referenced));
                note(&item.value, &path, found);
            }
        }
        Tree::Scalar => {}
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = map.next_entry()? {
            fields.push(entry);
        }
        Ok(Tree::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Tree::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_place() {
        let text = "name: shop\nclusters:\n  - name: a\n    kind: {nodes: [{image: x}]}\n  - {name: ü, zone: }\nmesh:\n  values: {1: {a.b: 2}}\n";
        let found = places(text);
        let at = |path: &str| found.get(path).map(|place| (place.line, place.column, place.length));
        assert_eq!(at("name"), Some((1, 7, 4)));
        assert_eq!(at("clusters"), Some((2, 1, 8)));
        assert_eq!(at("clusters[0].name"), Some((3, 11, 1)));
        assert_eq!(at("clusters[0].kind.nodes[0].image"), Some((4, 28, 1)));
        assert_eq!(at("clusters[1].name"), Some((5, 12, 1)));
        assert_eq!(at("mesh.values.1.a.b"), Some((7, 21, 1)));
        assert!(at("clusters[1].zone").is_some());
        assert!(places("a: [").is_empty());
    }
}
