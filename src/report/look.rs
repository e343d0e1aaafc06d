//! The layout of a step's line: mark, cluster, title, seconds, and details.

use std::borrow::Cow;

use console::{measure_text_width, pad_str, strip_ansi_codes, truncate_str};
use jiff::Timestamp;

use super::running::{Step, Waiting};
use super::titles::{self, title};
use super::{Printer, Style};
use crate::diagnose::verify::{Status, Verdict};

/// Columns for seconds: `59m59s`.
const SECONDS: usize = 6;
/// Columns that fit the name of every check.
const CHECK: usize = 17;
/// A condition cut shorter than this is omitted: the status alone says more.
const MIN_CONDITION_WIDTH: usize = 10;

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const ASCII_SPINNER: [&str; 4] = ["-   ", "\\   ", "|   ", "/   "];

/// The layout of lines on stderr.
#[derive(Debug)]
pub(super) struct Look {
    style: Style,
    unicode: bool,
    /// Columns for the cluster: as wide as the widest name so far, so that later lines stay aligned.
    cluster_width: usize,
}

impl Look {
    /// Returns the layout that fits the printer's stderr.
    pub fn new(printer: &Printer) -> Self {
        let cluster_width = "cluster1".len();
        Self { style: printer.stderr_style(), unicode: printer.unicode(), cluster_width }
    }

    /// Makes space for a cluster's name.
    pub fn make_room(&mut self, cluster: Option<&str>) {
        self.cluster_width = self.cluster_width.max(cluster.map_or(0, measure_text_width));
    }

    /// A step that has started.
    pub fn started(&self, name: &str, cluster: Option<&str>) -> String {
        let head = self.head(cluster, title(name).doing);
        format!("{} {}", self.style.dim(self.pick("·", "....")), head.trim_end())
    }

    /// A step that succeeded.
    pub fn finished(&self, name: &str, cluster: Option<&str>, seconds: f64, changed: bool) -> String {
        let mark = self.style.green(self.pick("✓", "ok  "));
        let head = self.head(cluster, title(name).done);
        let seconds = format!("{:>SECONDS$}", duration(seconds));
        if changed {
            format!("{mark} {head} {seconds}")
        } else {
            format!("{mark} {head} {}", self.style.dim(&format!("{seconds}  unchanged")))
        }
    }

    /// Steps that were unchanged and took no time.
    pub fn unchanged(&self, steps: usize) -> String {
        let mark = self.style.green(self.pick("✓", "ok  "));
        let words = if steps == 1 { "1 step unchanged".to_owned() } else { format!("{steps} steps unchanged") };
        format!("{mark} {}", self.style.dim(self.head(None, &words).trim_end()))
    }

    /// A step that failed.
    pub fn failed(&self, name: &str, cluster: Option<&str>, seconds: f64) -> String {
        let head = self.head(cluster, title(name).doing);
        let mark = self.style.red(self.pick("✗", "FAIL"));
        format!("{mark} {head} {:>SECONDS$}  {}", duration(seconds), self.style.red("failed"))
    }

    /// A step that waits, regardless of the line's width.
    pub fn waiting(&self, step: &Step, waiting: &Waiting, now: Timestamp) -> String {
        let head = self.head(step.cluster.as_deref(), title(&step.name).doing);
        let mark = self.style.dim(self.pick("…", "wait"));
        let Waiting { what, last } = waiting;
        let text = one_line(&format!("{what}: {last}")).into_owned();
        format!("{mark} {head} {:>SECONDS$}  {}", whole_seconds(step.seconds(now)), self.style.dim(&text))
    }

    /// A running step, in at most `width` columns.
    pub fn running(&self, step: &Step, now: Timestamp, width: usize) -> String {
        let head = self.head(step.cluster.as_deref(), title(&step.name).doing);
        let left = format!("{head} {:>SECONDS$}", whole_seconds(step.seconds(now)));
        let mark = self.spinner(now);
        let room = width.saturating_sub(measure_text_width(mark) + 1);
        let left = self.cut(&left, room);
        let room = room.saturating_sub(measure_text_width(&left) + 2);
        let status = step.waiting.as_ref().map(|waiting| self.status(waiting, room)).unwrap_or_default();
        let line = format!("{} {left}  {}", self.style.yellow(mark), self.style.dim(&status));
        line.trim_end().to_owned()
    }

    /// Running steps that do not fit on the screen.
    pub fn more(&self, steps: usize, now: Timestamp) -> String {
        format!("{} {}", self.style.yellow(self.spinner(now)), self.style.dim(&format!("and {steps} more")))
    }

    /// A claim and whether it holds, cut to a width if there is one.
    pub fn verdict(&self, verdict: &Verdict, width: Option<usize>) -> String {
        let seconds = format!("{:>SECONDS$}", duration(verdict.seconds));
        let mark = match verdict.status {
            Status::Passed => self.style.green(self.pick("✓", "ok  ")),
            Status::Failed => self.style.red(self.pick("✗", "FAIL")),
            Status::Skipped => self.style.yellow(self.pick("-", "skip")),
        };
        let last = verdict.evidence.last().map(|last| one_line(last).into_owned()).unwrap_or_default();
        let text = match verdict.status {
            Status::Passed => verdict.claim.clone(),
            Status::Failed => format!("failed: {last}"),
            Status::Skipped => format!("skipped: {last}"),
        };
        let line = format!("{mark} {:<CHECK$} {seconds}  {text}", verdict.id);
        width.map_or(line.clone(), |width| self.cut(&line, width).into_owned())
    }

    /// A note.
    pub fn note(&self, message: &str) -> String {
        format!("{} {}", self.style.bold("note:"), strip_ansi_codes(message))
    }

    /// What a step waits for, and the last status. If both do not fit, the former is cut first: the step's title
    /// says almost the same.
    fn status(&self, waiting: &Waiting, room: usize) -> String {
        let (what, last) = (one_line(&waiting.what), one_line(&waiting.last));
        let room_for_what = room.saturating_sub(measure_text_width(&last) + 2);
        if room_for_what < MIN_CONDITION_WIDTH && measure_text_width(&what) > room_for_what {
            return self.cut(&last, room).into_owned();
        }
        format!("{}: {last}", self.cut(&what, room_for_what))
    }

    fn head(&self, cluster: Option<&str>, words: &str) -> String {
        let cluster = format!("{:width$}", cluster.unwrap_or_default(), width = self.cluster_width);
        let words = pad_str(words, titles::WIDTH, console::Alignment::Left, None);
        format!("{cluster}  {words}")
    }

    fn spinner(&self, now: Timestamp) -> &'static str {
        let frames: &[&str] = if self.unicode { &SPINNER } else { &ASCII_SPINNER };
        let tenths = usize::try_from(now.as_millisecond() / 100).unwrap_or_default();
        frames[tenths % frames.len()]
    }

    fn cut<'a>(&self, text: &'a str, room: usize) -> Cow<'a, str> {
        let tail = self.pick("…", "...");
        truncate_str(text, room, if room > tail.len() { tail } else { "" })
    }

    fn pick(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }
}

/// The result of `up`: what is ready and how to use it.
pub(super) fn ready(style: Style, seconds: f64, environment: &str, kubeconfig: &str) -> String {
    let first = format!("{} is ready after {}", style.bold(environment), duration(seconds));
    format!("{first}\nexport KUBECONFIG={}", quoted(kubeconfig))
}

/// A path, quoted for a shell.
fn quoted(path: &str) -> Cow<'_, str> {
    let harmless = |c: char| c.is_alphanumeric() || "/._-+,@%:".contains(c);
    if path.chars().all(harmless) { path.into() } else { format!("'{}'", path.replace('\'', r"'\''")).into() }
}

/// Seconds for a person: `14.2s`, `1m05s`, `1h02m`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 59.95 { format!("{seconds:.1}s") } else { whole_seconds(seconds.round()) }
}

/// Like [`duration`], without the digits that change too fast to read.
fn whole_seconds(seconds: f64) -> String {
    // Saturates; no step takes 500 billion years.
    let seconds = seconds as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// Removes cursor codes and line breaks from text of other programs, which would break the display.
fn one_line(text: &str) -> Cow<'_, str> {
    let text = strip_ansi_codes(text);
    if text.contains(char::is_control) {
        Cow::Owned(text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{Captured, at};
    use crate::report::{ColorChoice, Verbosity};

    fn look(unicode: bool) -> Look {
        Look::new(&Captured::with(Verbosity::Normal, ColorChoice::Never, unicode).printer)
    }

    fn step(what: &str, last: &str) -> Step {
        Step {
            name: "cluster".into(),
            cluster: Some("cluster1".into()),
            started: at(0.0),
            told: (at(0.0), None),
            waiting: Some(Waiting { what: what.into(), last: last.into() }),
        }
    }

    #[test]
    fn durations_are_rounded() {
        let shown = [0.0, 14.23, 59.94, 59.97, 65.0, 3725.0].map(duration);
        assert_eq!(shown, ["0.0s", "14.2s", "59.9s", "1m00s", "1m05s", "1h02m"]);
    }

    #[test]
    fn running_step_fits_the_width_and_keeps_its_status() {
        let step = step("all nodes of the cluster are ready", "0 of 1: NetworkPluginNotReady");
        let lines = [200, 100, 90, 80, 70, 50, 20, 3].map(|width| {
            let line = look(true).running(&step, at(14.0), width);
            assert!(measure_text_width(&line) <= width, "{line} is wider than {width}");
            line
        });
        insta::assert_snapshot!(lines.join("\n"), @r"
        ⠋ cluster1  Starting Kubernetes             14s  all nodes of the cluster are ready: 0 of 1: NetworkPluginNotReady
        ⠋ cluster1  Starting Kubernetes             14s  all nodes of the cl…: 0 of 1: NetworkPluginNotReady
        ⠋ cluster1  Starting Kubernetes             14s  all nodes…: 0 of 1: NetworkPluginNotReady
        ⠋ cluster1  Starting Kubernetes             14s  0 of 1: NetworkPluginNotReady
        ⠋ cluster1  Starting Kubernetes             14s  0 of 1: NetworkPlugi…
        ⠋ cluster1  Starting Kubernetes             14s  0
        ⠋ cluster1  Startin…
        ⠋ c
        ");
    }

    #[test]
    fn without_unicode_lines_are_ascii() {
        let step = step("all nodes of the cluster are ready", "0 of 1: NetworkPluginNotReady");
        let look = look(false);
        let lines = [
            look.started("cluster", Some("cluster1")),
            look.running(&step, at(14.0), 80),
            look.waiting(&step, step.waiting.as_ref().unwrap(), at(14.0)),
            look.finished("cluster", Some("cluster1"), 14.2, true),
            look.failed("cluster", Some("cluster1"), 14.2),
        ];
        assert!(lines.iter().all(|line| line.is_ascii()));
        insta::assert_snapshot!(lines.join("\n"), @r"
        .... cluster1  Starting Kubernetes
        -    cluster1  Starting Kubernetes             14s  0 of 1: NetworkPluginNotR...
        wait cluster1  Starting Kubernetes             14s  all nodes of the cluster are ready: 0 of 1: NetworkPluginNotReady
        ok   cluster1  Kubernetes ready              14.2s
        FAIL cluster1  Starting Kubernetes           14.2s  failed
        ");
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        assert_eq!(quoted("/home/ada/kube_config-1.yaml"), "/home/ada/kube_config-1.yaml");
        assert_eq!(quoted("/home/ada's files"), r"'/home/ada'\''s files'");
    }

    #[test]
    fn control_characters_of_other_programs_are_removed() {
        assert_eq!(one_line("\x1b[2J0 of 1\r\n pending\tpods"), "0 of 1  pending pods");
    }
}
