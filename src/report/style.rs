//! A few ANSI styles, or none.

/// Styles text for one stream; without colour, text stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    color: bool,
}

impl Style {
    /// Styles that are seen.
    pub fn colored() -> Self {
        Self { color: true }
    }

    /// Leaves every text as it is.
    pub fn plain() -> Self {
        Self { color: false }
    }

    /// Styles that are seen if `color` holds.
    pub fn when(color: bool) -> Self {
        Self { color }
    }

    /// For what the eye should find first.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// For what may be overlooked.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// For what failed.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// For what is well.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// For what needs attention.
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
    fn text_is_wrapped_only_with_color_and_when_there_is_any() {
        assert_eq!(Style::colored().red("no"), "\x1b[31mno\x1b[0m");
        assert_eq!(Style::colored().red(""), "");
        assert_eq!(Style::plain().red("no"), "no");
    }
}
