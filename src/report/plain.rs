//! Plain lines for a pipe, a log or CI: finished steps, and waits from time to time.

use jiff::{SignedDuration, Timestamp};

use super::look::{Look, ready};
use super::running::{Running, Waiting};
use super::{Printer, Verbosity};
use crate::base::event::{Event, Sink};

/// The interval of a step's waiting lines, and of the first one since its start: most waits end sooner, and a log
/// should only contain news.
const EVERY: SignedDuration = SignedDuration::from_secs(5);

/// Writes plain lines, without cursor codes. If verbose, also the start of each step and every change of a wait's
/// status.
pub(super) struct Plain {
    printer: Printer,
    look: Look,
    running: Running,
}

impl Plain {
    pub fn new(printer: &Printer) -> Self {
        Self { printer: printer.clone(), look: Look::new(printer), running: Running::default() }
    }

    /// Prints a status that is new and due. A status that came too early is printed at a later tick if it still
    /// holds.
    fn print_waits(&mut self, time: Timestamp) {
        let all = self.printer.verbosity() == Verbosity::Verbose;
        for step in self.running.iter_mut() {
            let (told_at, told) = &step.told;
            let due = all || time.duration_since(*told_at) >= EVERY;
            if let Some(waiting) = step.waiting.clone().filter(|waiting| due && told.as_ref() != Some(waiting)) {
                self.printer.progress(&self.look.waiting(step, &waiting, time));
                step.told = (time, Some(waiting));
            }
        }
    }

    /// Prints how many steps were unchanged.
    fn print_unchanged(&mut self) {
        let steps = self.running.take_unchanged();
        if steps > 0 {
            self.printer.progress(&self.look.unchanged(steps));
        }
    }
}

impl Sink for Plain {
    fn event(&mut self, time: Timestamp, event: &Event) {
        match event {
            Event::StepStarted { step, cluster } => {
                let cluster = cluster.as_deref();
                self.look.make_room(cluster);
                self.running.start(time, step, cluster);
                self.printer.detail(&self.look.started(step, cluster));
            }
            Event::StepFinished { step, cluster, seconds, changed } => {
                let cluster = cluster.as_deref();
                self.running.end(step, cluster);
                let verbose = self.printer.verbosity() == Verbosity::Verbose;
                if verbose || self.running.is_worth_a_line(*seconds, *changed) {
                    self.printer.progress(&self.look.finished(step, cluster, *seconds, *changed));
                }
            }
            Event::Waiting { step, cluster, r#for, last } => {
                let waiting = Waiting { what: r#for.clone(), last: last.clone() };
                self.running.wait(step, cluster.as_deref(), waiting);
                self.print_waits(time);
            }
            Event::CheckStarted { id } => self.running.start(time, id, None),
            Event::CheckFinished { verdict } => {
                self.running.end(&verdict.id, None);
                self.printer.progress(&self.look.verdict(verdict, None));
            }
            // For the record only.
            Event::Counted { .. } => {}
            Event::Note { message } => self.printer.progress(&self.look.note(message)),
            Event::Ready { seconds, environment, kubeconfig } => {
                self.print_unchanged();
                let style = self.printer.stdout_style();
                self.printer.result(&ready(style, *seconds, environment, kubeconfig));
            }
            // Only which step failed: the command prints the error itself, at the end.
            Event::Failed { step, cluster, .. } => {
                self.print_unchanged();
                if let Some(failed) = self.running.end(step, cluster.as_deref()) {
                    let seconds = failed.seconds(time);
                    self.printer.progress(&self.look.failed(step, cluster.as_deref(), seconds));
                }
            }
        }
    }

    fn tick(&mut self, time: Timestamp) {
        self.print_waits(time);
    }

    fn finish(&mut self) {
        self.print_unchanged();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{Captured, at, failing_run, finished, good_run, replay, started, waiting};

    #[test]
    fn a_good_run() {
        let captured = Captured::new(Verbosity::Normal);
        replay(&mut Plain::new(&captured.printer), &good_run());
        insta::assert_snapshot!(captured.stderr(), @r"
        ✓           Network ready                  0.2s  unchanged
        … cluster1  Starting Kubernetes              5s  nodes are ready: 0 of 1: NetworkPluginNotReady
        … cluster2  Starting Kubernetes              6s  nodes are ready: 0 of 1
        … cluster1  Starting Kubernetes             11s  nodes are ready: 0 of 1: taints
        ✓ cluster1  Kubernetes ready              14.2s
        ✓ cluster2  Kubernetes ready              14.8s
        note: samples unchanged
        ");
        insta::assert_snapshot!(captured.stdout(), @r"
        kindmesh is ready after 29.8s
        export KUBECONFIG=/home/ada/.local/state/kindmesh/kindmesh/kubeconfig
        ");
    }

    #[test]
    fn a_good_run_verbosely() {
        let captured = Captured::new(Verbosity::Verbose);
        replay(&mut Plain::new(&captured.printer), &good_run());
        insta::assert_snapshot!(captured.stderr(), @r"
        ·           Preparing the network
        ✓           Network ready                  0.2s  unchanged
        · cluster1  Starting Kubernetes
        · cluster2  Starting Kubernetes
        … cluster1  Starting Kubernetes              0s  nodes are ready: 0 of 1
        … cluster1  Starting Kubernetes              5s  nodes are ready: 0 of 1: NetworkPluginNotReady
        … cluster2  Starting Kubernetes              6s  nodes are ready: 0 of 1
        … cluster1  Starting Kubernetes              6s  nodes are ready: 0 of 1: taints
        ✓ cluster1  Kubernetes ready              14.2s
        ✓ cluster2  Kubernetes ready              14.8s
        note: samples unchanged
        ");
    }

    #[test]
    fn a_failing_run() {
        let captured = Captured::new(Verbosity::Normal);
        replay(&mut Plain::new(&captured.printer), &failing_run());
        insta::assert_snapshot!(captured.stderr(), @r"
        … cluster2  Starting istiod                 10s  istiod is available: 0 of 1 pods: ImagePullBackOff
        ✗ cluster2  Starting istiod               1m33s  failed
        ");
        assert_eq!(captured.stdout(), "");
    }

    #[test]
    fn quiet_run_prints_only_the_result() {
        let captured = Captured::new(Verbosity::Quiet);
        replay(&mut Plain::new(&captured.printer), &good_run());
        assert_eq!(captured.stderr(), "");
        assert!(captured.stdout().starts_with("kindmesh is ready after 29.8s\n"));
    }

    #[test]
    fn repeated_status_is_printed_once() {
        let captured = Captured::new(Verbosity::Normal);
        let status = |seconds, last| (seconds, waiting("istiod", None, "istiod is available", last));
        let run = [
            (0.0, started("istiod", None)),
            status(5.0, "pending"),
            status(6.0, "starting"),
            status(7.0, "pending"),
            (20.0, None),
        ];
        replay(&mut Plain::new(&captured.printer), &run);
        assert_eq!(captured.stderr().lines().count(), 1);
    }

    #[test]
    fn unchanged_steps_share_one_line() {
        let run = [
            (0.0, started("lock", None)),
            (0.0, finished("lock", None, 0.001, false)),
            (0.0, started("kind", None)),
            (0.0, finished("kind", None, 0.099, false)),
            (0.0, started("trust", None)),
            (0.0, finished("trust", None, 0.002, true)),
        ];
        let captured = Captured::new(Verbosity::Normal);
        replay(&mut Plain::new(&captured.printer), &run);
        let lines: Vec<String> = captured.stderr().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(crate::report::title("trust").done), "{lines:?}");
        assert_eq!(lines[1], "✓           2 steps unchanged");
        let verbose = Captured::new(Verbosity::Verbose);
        replay(&mut Plain::new(&verbose.printer), &run);
        assert_eq!(verbose.stderr().lines().count(), 6);
    }

    #[test]
    fn clock_set_back_is_harmless() {
        let captured = Captured::new(Verbosity::Normal);
        let mut sink = Plain::new(&captured.printer);
        sink.event(at(100.0), &started("istiod", None).unwrap());
        sink.event(at(0.0), &waiting("istiod", None, "istiod is available", "pending").unwrap());
        assert_eq!(captured.stderr(), "");
    }
}
