//! JSON on stdout: one event per line, or one document.

use jiff::Timestamp;

use super::Printer;
use crate::base::event::{Event, Sink};

/// Writes each event as one JSON line.
pub(super) struct Json {
    printer: Printer,
}

impl Json {
    pub fn new(printer: &Printer) -> Self {
        Self { printer: printer.clone() }
    }
}

impl Sink for Json {
    fn event(&mut self, time: Timestamp, event: &Event) {
        self.printer.result(&event.line(time));
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verbosity;
    use crate::report::testing::{Captured, failing_run, good_run, replay};

    #[test]
    fn a_good_run() {
        let captured = Captured::new(Verbosity::Quiet);
        replay(&mut Json::new(&captured.printer), &good_run());
        insta::assert_snapshot!(captured.stdout(), @r#"
        {"time":"2026-07-01T08:00:00.000Z","event":"stepStarted","step":"network"}
        {"time":"2026-07-01T08:00:00.200Z","event":"stepFinished","step":"network","seconds":0.213,"changed":false}
        {"time":"2026-07-01T08:00:00.200Z","event":"stepStarted","step":"cluster","cluster":"cluster1"}
        {"time":"2026-07-01T08:00:00.200Z","event":"stepStarted","step":"cluster","cluster":"cluster2"}
        {"time":"2026-07-01T08:00:01.000Z","event":"waiting","step":"cluster","cluster":"cluster1","for":"nodes are ready","last":"0 of 1"}
        {"time":"2026-07-01T08:00:06.000Z","event":"waiting","step":"cluster","cluster":"cluster1","for":"nodes are ready","last":"0 of 1: NetworkPluginNotReady"}
        {"time":"2026-07-01T08:00:06.500Z","event":"waiting","step":"cluster","cluster":"cluster2","for":"nodes are ready","last":"0 of 1"}
        {"time":"2026-07-01T08:00:07.000Z","event":"waiting","step":"cluster","cluster":"cluster1","for":"nodes are ready","last":"0 of 1: taints"}
        {"time":"2026-07-01T08:00:14.400Z","event":"stepFinished","step":"cluster","cluster":"cluster1","seconds":14.2,"changed":true}
        {"time":"2026-07-01T08:00:15.000Z","event":"stepFinished","step":"cluster","cluster":"cluster2","seconds":14.8,"changed":true}
        {"time":"2026-07-01T08:00:15.000Z","event":"note","message":"samples unchanged"}
        {"time":"2026-07-01T08:00:29.800Z","event":"ready","seconds":29.8,"environment":"kindmesh","kubeconfig":"/home/ada/.local/state/kindmesh/kindmesh/kubeconfig"}
        "#);
        assert_eq!(captured.stderr(), "");
    }

    #[test]
    fn a_failing_run() {
        let captured = Captured::new(Verbosity::Normal);
        replay(&mut Json::new(&captured.printer), &failing_run());
        insta::assert_snapshot!(captured.stdout(), @r#"
        {"time":"2026-07-01T08:00:00.000Z","event":"stepStarted","step":"istiod","cluster":"cluster1"}
        {"time":"2026-07-01T08:00:00.000Z","event":"stepStarted","step":"istiod","cluster":"cluster2"}
        {"time":"2026-07-01T08:00:01.000Z","event":"waiting","step":"istiod","cluster":"cluster2","for":"istiod is available","last":"0 of 1 pods: ImagePullBackOff"}
        {"time":"2026-07-01T08:01:32.500Z","event":"failed","step":"istiod","cluster":"cluster2","error":"istiod is available: not after 90 s","evidence":["last seen: 0 of 1 pods: ImagePullBackOff"],"hint":"kindmesh doctor"}
        "#);
    }

    #[test]
    fn every_line_is_json() {
        let captured = Captured::new(Verbosity::Normal);
        let event = Event::Note { message: "\"quoted\"\n\x1b[31m{".into() };
        Json::new(&captured.printer).event(crate::report::testing::at(0.0), &event);
        let line: serde_json::Value = serde_json::from_str(&captured.stdout()).unwrap();
        assert_eq!(line["message"], "\"quoted\"\n\x1b[31m{");
    }
}
