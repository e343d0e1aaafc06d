//! Escapes text from clusters inside markup.

use std::borrow::Cow;

/// For HTML and SVG: elements and quoted attributes.
pub fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// For a line of GitHub's Markdown, including table cells.
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '\n' | '\t' => escaped.push(' '),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' => escaped.extend(['\\', character]),
            other => escaped.push(other),
        }
    }
    escaped
}

/// For inline code: as an element, since nothing can be escaped between backticks.
pub fn code(text: &str) -> String {
    format!("<code>{}</code>", markdown(text))
}

/// For a block of text, inside a fence that is longer than any fence in the text.
pub fn fenced(text: &str) -> String {
    let text = visible(text);
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}text\n{text}\n{fence}\n")
}

/// Removes terminal colors, and marks invisible characters and those that reorder text.
pub fn visible(text: &str) -> String {
    let plain: Cow<str> = console::strip_ansi_codes(text);
    let shown = |character: char| match character {
        '\n' | '\t' => character,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        other if other.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    plain.replace("\r\n", "\n").chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_stays_text() {
        assert_eq!(html(r#"<a href="x" id='y'>&"#), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
        assert_eq!(markdown("a|b\\|c `d`\n<e> _f_"), "a\\|b\\\\\\|c \\`d\\` &lt;e&gt; \\_f\\_");
    }

    #[test]
    fn invisible_characters_are_marked() {
        assert_eq!(visible("\u{1b}[31mred\u{1b}[0m\r\n\0 \u{202e}x"), "red\n\u{fffd} \u{fffd}x");
    }
}
