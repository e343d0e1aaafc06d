//! A few ANSI styles, or none.

/// Styles text for one stream; without color, text is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    color: bool,
}

impl Style {
    /// Returns visible styles.
    pub fn colored() -> Self {
        Self { color: true }
    }

    /// Returns styles that leave text unchanged.
    pub fn plain() -> Self {
        Self { color: false }
    }

    /// Returns visible styles if `color` is true.
    pub fn when(color: bool) -> Self {
        Self { color }
    }

    /// For the most important text.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// For less important text.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// For failures.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// For success.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// For warnings.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_styled_only_with_color_and_if_not_empty() {
        assert_eq!(Style::colored().red("no"), "\x1b[31mno\x1b[0m");
        assert_eq!(Style::colored().red(""), "");
        assert_eq!(Style::plain().red("no"), "no");
    }
}
