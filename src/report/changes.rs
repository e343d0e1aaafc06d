//! What would change in a cluster, as text.

use serde_json::Value;

use super::Style;
use crate::cluster::mesh::apply::{Change, Changes, Effect};

/// Longer values are cut.
const MAX_VALUE: usize = 60;

/// Returns what would change in one cluster: objects that would not stay as they are, with their fields if asked for, and a count.
pub fn text(changes: &Changes, fields: bool, style: Style) -> String {
    let Changes { cluster, objects } = changes;
    let count = |effect: Effect| objects.iter().filter(|change| change.effect == effect).count();
    let counts = [
        (Effect::Refuse, "refused"),
        (Effect::Create, "to create"),
        (Effect::Change, "to change"),
        (Effect::Delete, "to delete"),
        (Effect::Keep, "unchanged"),
    ];
    let counts = counts.into_iter().filter(|(effect, _)| count(*effect) > 0 || *effect == Effect::Keep);
    let counts: Vec<_> = counts.map(|(effect, what)| format!("{} {what}", count(effect))).collect();
    let mut text = format!("\n{}: {}\n", style.bold(cluster), counts.join(", "));
    let mut changes: Vec<&Change> = objects.iter().filter(|change| change.effect != Effect::Keep).collect();
    changes.sort_by_key(|change| change.effect);
    for change in changes {
        let note = change.note.as_deref().map(|note| style.dim(&format!("  {note}"))).unwrap_or_default();
        text.push_str(&format!("  {} {}{note}\n", sign(change.effect), change.object));
        for field in change.fields.iter().filter(|_| fields) {
            let values = match (&field.from, &field.to) {
                // Of a Secret.
                (Value::Null, Value::Null) => "changes".into(),
                (from, to) => format!("{} → {}", value(from), value(to)),
            };
            text.push_str(&format!("      {}: {values}\n", field.path));
        }
    }
    text
}

fn sign(effect: Effect) -> char {
    match effect {
        Effect::Refuse => '!',
        Effect::Delete => '-',
        Effect::Create => '+',
        Effect::Change => '~',
        Effect::Keep => ' ',
    }
}

fn value(value: &Value) -> String {
    let text = match value {
        Value::Null => return "unset".into(),
        other => other.to_string(),
    };
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
