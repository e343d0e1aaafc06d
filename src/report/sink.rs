//! The sinks of events, and the loop that feeds them.

use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::Printer;
use super::json::Json;
use super::live::Live;
use super::plain::Plain;
use crate::base::event::{Event, Feed, Sink};

/// Ten frames per second make a spinner look smooth.
const TICK: Duration = Duration::from_millis(100);

/// Several sinks that receive the same events.
pub struct Several(pub Vec<Box<dyn Sink>>);

impl Sink for Several {
    fn event(&mut self, time: Timestamp, event: &Event) {
        self.0.iter_mut().for_each(|sink| sink.event(time, event));
    }

    fn tick(&mut self, time: Timestamp) {
        self.0.iter_mut().for_each(|sink| sink.tick(time));
    }

    fn finish(&mut self) {
        self.0.iter_mut().for_each(|sink| sink.finish());
    }
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// Text.
    #[default]
    Human,
    /// JSON.
    Json,
    /// YAML; only `plan` supports it.
    #[value(hide = true)]
    Yaml,
    /// HTML; only `timeline` supports it.
    #[value(hide = true)]
    Html,
}

/// Returns the sink for an output format: JSON lines, a live display if the terminal supports it, otherwise plain
/// lines.
pub fn sink(output: Output, printer: &Printer) -> Box<dyn Sink> {
    match output {
        Output::Json => Box::new(Json::new(printer)),
        Output::Human | Output::Yaml | Output::Html if printer.live() => Box::new(Live::new(printer)),
        Output::Human | Output::Yaml | Output::Html => Box::new(Plain::new(printer)),
    }
}

/// Shows events until the channel ends, then leaves the terminal clean.
///
/// Await it to the end, also after an interrupt: print the error only then.
pub async fn show(mut feed: Feed, mut sink: Box<dyn Sink>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            next = feed.next() => match next {
                Some((time, event)) => sink.event(time, &event),
                None => break,
            },
            _ = ticks.tick() => sink.tick(Timestamp::now()),
        }
    }
    sink.finish();
}

/// Runs [`show`] beside the work, on its own thread: a stalled reader blocks nothing else. End the `Events` and
/// await the handle before printing anything else.
pub fn spawn(feed: Feed, sink: Box<dyn Sink>) -> JoinHandle<()> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(show(feed, sink)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::base::event::Events;
    use crate::report::Verbosity;
    use crate::report::testing::Captured;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Sink for Log {
        fn event(&mut self, _time: Timestamp, event: &Event) {
            let Event::Note { message } = event else { return };
            self.0.lock().unwrap().push(message.clone());
        }

        fn finish(&mut self) {
            self.0.lock().unwrap().push("finish".into());
        }
    }

    #[tokio::test]
    async fn every_event_is_shown_before_finish() {
        let (events, feed) = Events::channel();
        let log = Log::default();
        let shown = spawn(feed, Box::new(log.clone()));
        let clone = events.clone();
        events.note("one");
        clone.note("two");
        events.end();
        // A leaked thread may still hold a sender.
        clone.note("late");
        shown.await.unwrap();
        assert_eq!(*log.0.lock().unwrap(), ["one", "two", "finish"]);
    }

    #[tokio::test]
    async fn the_output_chooses_the_sink() {
        for (output, events_on_stdout, stderr) in [(Output::Human, 0, "note: hello\n"), (Output::Json, 1, "")] {
            let captured = Captured::new(Verbosity::Normal);
            let (events, feed) = Events::channel();
            events.note("hello");
            events.end();
            show(feed, sink(output, &captured.printer)).await;
            let stdout = captured.stdout();
            assert_eq!(stdout.lines().count(), events_on_stdout, "{stdout}");
            assert!(stdout.lines().all(|line| line.ends_with(r#""event":"note","message":"hello"}"#)), "{stdout}");
            assert_eq!(captured.stderr(), stderr);
        }
    }
}
