//! The live display on a terminal: a line for each running step; finished steps are printed above them.
//!
//! Between two frames the cursor is at the start of the line below the display. So the `^C` that a terminal echoes
//! moves nothing, and a killed process leaves the prompt on its own line.

use console::{Term, measure_text_width};
use jiff::Timestamp;

use super::Printer;
use super::look::{Look, ready};
use super::running::{Running, Waiting};
use crate::base::event::{Event, Sink};

/// Erases from the cursor to the end of the line, and of the screen.
const ERASE_LINE: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";

/// A live display on stderr.
pub(super) struct Live {
    printer: Printer,
    look: Look,
    running: Running,
    /// The lines on the screen.
    drawn: Vec<String>,
    /// The terminal's rows and columns.
    size: Box<dyn Fn() -> (usize, usize) + Send>,
}

impl Live {
    pub fn new(printer: &Printer) -> Self {
        Self::on(printer, || {
            let (rows, columns) = Term::stderr().size();
            (rows.into(), columns.into())
        })
    }

    fn on(printer: &Printer, size: impl Fn() -> (usize, usize) + Send + 'static) -> Self {
        Self {
            printer: printer.clone(),
            look: Look::new(printer),
            running: Running::default(),
            drawn: Vec::new(),
            // Read for every frame: the window may be resized.
            size: Box::new(size),
        }
    }

    /// Redraws the screen in one write, without clearing it first, which would flicker.
    fn draw(&mut self, time: Timestamp) {
        let lines = self.lines(time);
        if lines != self.drawn {
            let text: String = lines.iter().map(|line| format!("{line}{ERASE_LINE}\n")).collect();
            self.printer.draw(&format!("{}{text}{ERASE_BELOW}", self.to_first_line()));
            self.drawn = lines;
        }
    }

    /// Returns the visible lines, one for each step as far as they fit.
    fn lines(&self, time: Timestamp) -> Vec<String> {
        let (rows, columns) = (self.size)();
        // The last column stays free, because some terminals wrap there; the last row is the cursor's.
        let (room, width) = (rows.saturating_sub(1).max(1), columns.saturating_sub(1));
        let line = |step| self.look.running(step, time, width);
        let steps = self.running.len();
        let shown = if steps > room { room - 1 } else { steps };
        let more = (steps > shown).then(|| self.look.more(steps - shown, time));
        self.running.iter().take(shown).map(line).chain(more).collect()
    }

    /// Removes the display, to print something instead. The next [`Live::draw`] restores it.
    fn erase(&mut self) {
        if !self.drawn.is_empty() {
            self.printer.draw(&format!("{}{ERASE_BELOW}", self.to_first_line()));
            self.drawn.clear();
        }
    }

    /// Prints how many steps were unchanged, if no display is drawn.
    fn print_unchanged(&mut self) {
        let steps = self.running.take_unchanged();
        if steps > 0 {
            self.printer.progress(&self.look.unchanged(steps));
        }
    }

    fn to_first_line(&self) -> String {
        let columns = (self.size)().1.max(1);
        // A narrower window has wrapped long lines.
        let rows: usize = self.drawn.iter().map(|line| measure_text_width(line).div_ceil(columns).max(1)).sum();
        if rows > 0 { format!("\r\x1b[{rows}A") } else { "\r".to_owned() }
    }
}

impl Sink for Live {
    fn event(&mut self, time: Timestamp, event: &Event) {
        match event {
            Event::StepStarted { step, cluster } => {
                self.look.make_room(cluster.as_deref());
                self.running.start(time, step, cluster.as_deref());
            }
            Event::StepFinished { step, cluster, seconds, changed } => {
                let cluster = cluster.as_deref();
                self.running.end(step, cluster);
                if self.running.is_worth_a_line(*seconds, *changed) {
                    self.erase();
                    self.printer.progress(&self.look.finished(step, cluster, *seconds, *changed));
                }
            }
            Event::Waiting { step, cluster, r#for, last } => {
                let waiting = Waiting { what: r#for.clone(), last: last.clone() };
                self.running.wait(step, cluster.as_deref(), waiting);
            }
            Event::CheckStarted { id } => self.running.start(time, id, None),
            Event::CheckFinished { verdict } => {
                self.running.end(&verdict.id, None);
                self.erase();
                let width = (self.size)().1.saturating_sub(1);
                self.printer.progress(&self.look.verdict(verdict, Some(width)));
            }
            // For the record only.
            Event::Counted { .. } => {}
            Event::Note { message } => {
                self.erase();
                self.printer.progress(&self.look.note(message));
            }
            Event::Ready { seconds, environment, kubeconfig } => {
                self.erase();
                self.print_unchanged();
                let style = self.printer.stdout_style();
                self.printer.result(&ready(style, *seconds, environment, kubeconfig));
            }
            // Only which step failed: the command prints the error itself, at the end.
            Event::Failed { step, cluster, .. } => {
                self.erase();
                self.print_unchanged();
                if let Some(failed) = self.running.end(step, cluster.as_deref()) {
                    let seconds = failed.seconds(time);
                    self.printer.progress(&self.look.failed(step, cluster.as_deref(), seconds));
                }
                // The other steps are being canceled.
                self.running.clear();
            }
        }
        self.draw(time);
    }

    fn tick(&mut self, time: Timestamp) {
        self.draw(time);
    }

    fn finish(&mut self) {
        self.erase();
        self.print_unchanged();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::report::printer::Surroundings;
    use crate::report::testing::{at, failing_run, good_run, started};
    use crate::report::{ColorChoice, Verbosity};

    /// A terminal in memory that shows what the sink writes.
    #[derive(Clone)]
    struct Screen(Arc<Mutex<vt100::Parser>>);

    impl Screen {
        fn contents(&self) -> String {
            self.0.lock().unwrap().screen().contents()
        }

        fn echo(&self, typed: &str) {
            self.0.lock().unwrap().process(typed.as_bytes());
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // As the kernel's terminal driver does.
            let text = std::str::from_utf8(bytes).unwrap().replace('\n', "\r\n");
            self.echo(&text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn live(rows: u16, columns: u16) -> (Live, Screen) {
        let screen = Screen(Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0))));
        let surroundings = Surroundings { unicode: true, ..Surroundings::default() };
        let (verbosity, color) = (Verbosity::Normal, ColorChoice::Always);
        let printer = Printer::on(verbosity, color, surroundings, screen.clone(), screen.clone());
        (Live::on(&printer, move || (rows.into(), columns.into())), screen)
    }

    fn replay_until(live: &mut Live, run: &[(f64, Option<Event>)], end: f64) {
        for (seconds, event) in run.iter().filter(|(seconds, _)| *seconds <= end) {
            match event {
                Some(event) => live.event(at(*seconds), event),
                None => live.tick(at(*seconds)),
            }
        }
        live.tick(at(end));
    }

    #[test]
    fn running_steps_are_below_finished_ones() {
        let (mut live, screen) = live(20, 80);
        replay_until(&mut live, &good_run(), 8.0);
        insta::assert_snapshot!(screen.contents(), @r"
        ✓           Network ready                  0.2s  unchanged
        ⠋ cluster1  Starting Kubernetes              7s  nodes are rea…: 0 of 1: taints
        ⠋ cluster2  Starting Kubernetes              7s  nodes are ready: 0 of 1
        ");
        replay_until(&mut live, &[], 9.5);
        insta::assert_snapshot!(screen.contents(), @r"
        ✓           Network ready                  0.2s  unchanged
        ⠴ cluster1  Starting Kubernetes              9s  nodes are rea…: 0 of 1: taints
        ⠴ cluster2  Starting Kubernetes              9s  nodes are ready: 0 of 1
        ");
    }

    #[test]
    fn successful_run_leaves_steps_and_result() {
        let (mut live, screen) = live(20, 120);
        replay_until(&mut live, &good_run(), 30.0);
        live.finish();
        insta::assert_snapshot!(screen.contents(), @r"
        ✓           Network ready                  0.2s  unchanged
        ✓ cluster1  Kubernetes ready              14.2s
        ✓ cluster2  Kubernetes ready              14.8s
        note: samples unchanged
        kindmesh is ready after 29.8s
        export KUBECONFIG=/home/ada/.local/state/kindmesh/kindmesh/kubeconfig
        ");
    }

    #[test]
    fn failed_run_leaves_the_failed_step() {
        let (mut live, screen) = live(20, 80);
        let run = failing_run();
        let (failed, before) = run.split_last().unwrap();
        replay_until(&mut live, before, 92.0);
        insta::assert_snapshot!(screen.contents(), @r"
        ⠋ cluster1  Starting istiod               1m32s
        ⠋ cluster2  Starting istiod               1m32s  0 of 1 pods: ImagePullBackOff
        ");
        live.event(at(failed.0), failed.1.as_ref().unwrap());
        live.finish();
        insta::assert_snapshot!(screen.contents(), @"✗ cluster2  Starting istiod               1m33s  failed");
    }

    #[test]
    fn interrupted_display_leaves_no_running_steps() {
        let (mut live, screen) = live(20, 80);
        replay_until(&mut live, &good_run(), 8.0);
        screen.echo("^C");
        live.tick(at(8.1));
        live.finish();
        insta::assert_snapshot!(screen.contents(), @"✓           Network ready                  0.2s  unchanged");
    }

    #[test]
    fn short_terminal_scrolls_finished_steps_and_counts_hidden_ones() {
        let (mut live, screen) = live(4, 60);
        replay_until(&mut live, &good_run(), 8.0);
        for cluster in ["cluster3", "cluster4"] {
            live.event(at(8.0), &started("cluster", Some(cluster)).unwrap());
        }
        insta::assert_snapshot!(screen.contents(), @r"
        ⠋ cluster1  Starting Kubernetes              7s  0 of 1: t…
        ⠋ cluster2  Starting Kubernetes              7s  0 of 1
        ⠋ and 2 more
        ");
    }

    #[test]
    fn narrower_window_leaves_no_remains() {
        let (mut live, screen) = live(20, 80);
        let columns = Arc::new(Mutex::new(80));
        let now = columns.clone();
        live.size = Box::new(move || (20, *now.lock().unwrap()));
        replay_until(&mut live, &good_run(), 8.0);
        // The emulator cuts lines where real terminals wrap them, so only the number of rows can be checked.
        *columns.lock().unwrap() = 50;
        assert_eq!(live.to_first_line(), "\r\x1b[4A");
        drop(screen);
    }
}
