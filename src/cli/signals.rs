//! Ctrl-C and SIGTERM: the first ends the work or asks it to put away what it made, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::task::Done;
use crate::base::event::Events;
use crate::base::interrupt::Interrupt;

/// Exit statuses of a process that a signal ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// How a command's work ended.
pub enum Ended {
    /// By itself.
    Done(anyhow::Result<Done>),
    /// By a signal.
    Signal {
        /// The exit status.
        code: u8,
        /// Something may have been left half-made.
        left: bool,
        /// A second one came: all is to end at once.
        again: bool,
        /// What the work said when it had put away what it made.
        told: Option<anyhow::Error>,
    },
}

/// The signals that end a command, from the moment this is made: none is lost between two waits.
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// Begins to take them.
    pub fn new() -> Self {
        Self { interrupt: signal(SignalKind::interrupt()).ok(), terminate: signal(SignalKind::terminate()).ok() }
    }

    /// Waits for the next one; gives its exit status.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            () = received(self.interrupt.as_mut()) => INTERRUPTED,
            () = received(self.terminate.as_mut()) => TERMINATED,
        }
    }

    /// Runs the work to its end or to a signal; work that asked for it may then put away what it made.
    pub async fn during(
        &mut self,
        work: impl Future<Output = anyhow::Result<Done>>,
        interrupt: &Interrupt,
        events: &Events,
    ) -> Ended {
        let mut work = std::pin::pin!(work);
        let code = tokio::select! {
            result = &mut work => return Ended::Done(result),
            code = self.next() => code,
        };
        let Some(doing) = interrupt.armed() else {
            return Ended::Signal { code, left: true, again: false, told: None };
        };
        events.note(format!("interrupted: {doing}; once more ends at once"));
        interrupt.request();
        tokio::select! {
            ended = &mut work => Ended::Signal { code, left: false, again: false, told: ended.err() },
            _ = self.next() => Ended::Signal { code, left: true, again: true, told: None },
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => signal.recv().await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}
