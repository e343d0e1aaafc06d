//! What reaches the terminal, and the only direct writes: results to stdout, progress to stderr.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::Style;

/// How much is printed in addition to results and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// Only errors and results.
    Quiet,
    /// Also progress.
    #[default]
    Normal,
    /// Also details, as plain lines that fit into a log.
    Verbose,
}

/// When to use colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum ColorChoice {
    /// On a terminal, unless environment variables override it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The properties of the process's environment that determine its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Whether stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether stderr is a terminal.
    pub stderr_is_terminal: bool,
    /// `NO_COLOR` is set and not empty (<https://no-color.org>).
    pub no_color: bool,
    /// `CLICOLOR_FORCE` is set and not `0` (<https://bixense.com/clicolors>).
    pub force_color: bool,
    /// `TERM` is `dumb` or not set: no colors, no cursor codes.
    pub dumb: bool,
    /// `CI` is set: a terminal there ends up as a log file.
    pub ci: bool,
    /// The locale's characters are Unicode.
    pub unicode: bool,
}

impl Surroundings {
    /// Reads them from this process.
    pub fn detect() -> Self {
        let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            ..Self::from_variables(variable)
        }
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Self {
            stdout_is_terminal: false,
            stderr_is_terminal: false,
            no_color: set("NO_COLOR").is_some(),
            force_color: set("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
            dumb: set("TERM").is_none_or(|term| term == "dumb"),
            ci: set("CI").is_some_and(|value| value != "false"),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    fn style(&self, choice: ColorChoice, is_terminal: bool) -> Style {
        Style::when(match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if self.no_color => false,
            ColorChoice::Auto => self.force_color || (is_terminal && !self.dumb),
        })
    }
}

/// Decides what reaches the terminal and writes it. Cheap to clone; clones share the streams.
#[derive(Debug, Clone)]
pub struct Printer {
    verbosity: Verbosity,
    surroundings: Surroundings,
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
    stdout_style: Style,
    stderr_style: Style,
}

impl Printer {
    /// Creates a printer for this process's stdout and stderr.
    pub fn new(verbosity: Verbosity, color: ColorChoice) -> Self {
        Self::on(verbosity, color, Surroundings::detect(), io::stdout(), io::stderr())
    }

    /// Creates a printer for two streams.
    pub fn on(
        verbosity: Verbosity,
        color: ColorChoice,
        surroundings: Surroundings,
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
    ) -> Self {
        Self {
            verbosity,
            surroundings,
            stdout: Arc::new(Stream::new(stdout)),
            stderr: Arc::new(Stream::new(stderr)),
            stdout_style: surroundings.style(color, surroundings.stdout_is_terminal),
            stderr_style: surroundings.style(color, surroundings.stderr_is_terminal),
        }
    }

    /// Writes a result and a newline to stdout.
    pub fn result(&self, text: &str) {
        self.stdout.write_line(text);
    }

    /// Writes progress and a newline to stderr, unless quiet.
    ///
    /// While events are shown, send an `Event::Note` instead: the live display owns stderr then.
    pub fn progress(&self, text: &str) {
        if self.verbosity != Verbosity::Quiet {
            self.stderr.write_line(text);
        }
    }

    /// Writes a detail and a newline to stderr, if verbose.
    pub fn detail(&self, text: &str) {
        if self.verbosity == Verbosity::Verbose {
            self.stderr.write_line(text);
        }
    }

    /// Writes an error and a newline to stderr.
    pub fn error(&self, text: &str) {
        self.stderr.write_line(text);
    }

    /// Writes text and cursor codes to stderr unchanged, for the live display.
    pub(super) fn draw(&self, codes: &str) {
        self.stderr.write(codes);
    }

    /// Returns how much is printed.
    pub fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Returns the styles for results.
    pub fn stdout_style(&self) -> Style {
        self.stdout_style
    }

    /// Returns the styles for progress and errors.
    pub fn stderr_style(&self) -> Style {
        self.stderr_style
    }

    /// Whether characters beyond ASCII are displayed correctly.
    pub fn unicode(&self) -> bool {
        self.surroundings.unicode
    }

    /// Returns the width of results: the terminal's width, or 100 columns without a terminal.
    pub fn columns(&self) -> usize {
        let terminal = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        terminal.filter(|_| self.surroundings.stdout_is_terminal).unwrap_or(100)
    }

    /// Whether stderr supports a live display. Not if verbose: log lines would break it.
    pub fn live(&self) -> bool {
        let Surroundings { stderr_is_terminal, dumb, ci, .. } = self.surroundings;
        self.verbosity == Verbosity::Normal && stderr_is_terminal && !dumb && !ci
    }

    /// Whether stdout is closed, as after `| head -1`; work that only produces results may stop.
    pub fn stdout_closed(&self) -> bool {
        self.stdout.failure().is_some_and(|kind| kind == ErrorKind::BrokenPipe)
    }

    /// Returns whether all results were written; call it once, at the end. A closed pipe counts as written.
    ///
    /// # Errors
    /// The first error of writing to stdout, for example a full disk.
    pub fn check(&self) -> io::Result<()> {
        match self.stdout.failure() {
            None | Some(ErrorKind::BrokenPipe) => Ok(()),
            Some(kind) => Err(kind.into()),
        }
    }
}

/// A stream that keeps its first error and drops all later writes.
struct Stream(Mutex<Inner>);

struct Inner {
    writer: Box<dyn Write + Send>,
    failure: Option<ErrorKind>,
}

impl Stream {
    fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Inner { writer: Box::new(writer), failure: None }))
    }

    fn write_line(&self, text: &str) {
        // In one write, so that lines of several processes on one pipe stay whole.
        self.write(&format!("{text}\n"));
    }

    fn write(&self, text: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.failure.is_some() {
            return;
        }
        let written = inner.writer.write_all(text.as_bytes()).and_then(|()| inner.writer.flush());
        inner.failure = written.err().map(|error| error.kind());
    }

    fn failure(&self) -> Option<ErrorKind> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failure
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("failure", &self.failure()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::Captured;

    fn found(variables: &[(&str, &str)]) -> Surroundings {
        let found = Surroundings::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        Surroundings { stderr_is_terminal: true, ..found }
    }

    fn printer(verbosity: Verbosity, color: ColorChoice, variables: &[(&str, &str)]) -> Printer {
        Printer::on(verbosity, color, found(variables), io::sink(), io::sink())
    }

    #[test]
    fn color_flag_overrides_variables_and_terminal() {
        let colored = |color, variables: &[_]| {
            let printer = printer(Verbosity::Normal, color, variables);
            (printer.stdout_style() == Style::colored(), printer.stderr_style() == Style::colored())
        };
        let xterm = ("TERM", "xterm");
        assert_eq!(colored(ColorChoice::Auto, &[xterm]), (false, true));
        assert_eq!(colored(ColorChoice::Auto, &[("TERM", "dumb")]), (false, false));
        assert_eq!(colored(ColorChoice::Auto, &[]), (false, false));
        assert_eq!(colored(ColorChoice::Auto, &[xterm, ("NO_COLOR", "")]), (false, true));
        assert_eq!(colored(ColorChoice::Auto, &[xterm, ("NO_COLOR", "1")]), (false, false));
        assert_eq!(colored(ColorChoice::Auto, &[xterm, ("CLICOLOR_FORCE", "0")]), (false, true));
        assert_eq!(colored(ColorChoice::Auto, &[("CLICOLOR_FORCE", "1")]), (true, true));
        assert_eq!(colored(ColorChoice::Auto, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), (false, false));
        assert_eq!(colored(ColorChoice::Always, &[("NO_COLOR", "1")]), (true, true));
        assert_eq!(colored(ColorChoice::Never, &[xterm, ("CLICOLOR_FORCE", "1")]), (false, false));
    }

    #[test]
    fn live_display_requires_a_terminal_and_normal_verbosity() {
        let live = |verbosity, variables: &[_]| printer(verbosity, ColorChoice::Auto, variables).live();
        let xterm = ("TERM", "xterm");
        assert!(live(Verbosity::Normal, &[xterm]));
        assert!(live(Verbosity::Normal, &[xterm, ("NO_COLOR", "1")]));
        assert!(!live(Verbosity::Normal, &[("TERM", "dumb")]));
        assert!(!live(Verbosity::Normal, &[xterm, ("CI", "true")]));
        assert!(!live(Verbosity::Quiet, &[xterm]));
        assert!(!live(Verbosity::Verbose, &[xterm]));
        assert!(!Captured::new(Verbosity::Normal).printer.live());
    }

    #[test]
    fn first_set_locale_variable_decides_unicode() {
        assert!(found(&[("LANG", "en_US.UTF-8")]).unicode);
        assert!(found(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]).unicode);
        assert!(!found(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]).unicode);
        assert!(!found(&[]).unicode);
    }

    #[test]
    fn verbosity_controls_output() {
        let said = |verbosity| {
            let captured = Captured::new(verbosity);
            captured.printer.result("result");
            captured.printer.progress("progress");
            captured.printer.detail("detail");
            captured.printer.error("error");
            (captured.stdout(), captured.stderr())
        };
        assert_eq!(said(Verbosity::Quiet), ("result\n".into(), "error\n".into()));
        assert_eq!(said(Verbosity::Normal), ("result\n".into(), "progress\nerror\n".into()));
        assert_eq!(said(Verbosity::Verbose), ("result\n".into(), "progress\ndetail\nerror\n".into()));
    }

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn closed_pipe_is_detected_and_full_disk_is_an_error() {
        let after = |kind| {
            let found = Surroundings::default();
            let printer = Printer::on(Verbosity::Normal, ColorChoice::Auto, found, Broken(kind), io::sink());
            printer.result("one");
            printer.result("two");
            (printer.stdout_closed(), printer.check().is_ok())
        };
        assert_eq!(after(ErrorKind::BrokenPipe), (true, true));
        assert_eq!(after(ErrorKind::StorageFull), (false, false));
    }
}
