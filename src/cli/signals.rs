//! Ctrl-C and SIGTERM: the first one ends the work, or asks it to clean up; the second one exits at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::task::Done;
use crate::base::event::Events;
use crate::base::interrupt::Interrupt;

/// Exit statuses of a process that a signal ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// How a command's work ended.
pub enum Ended {
    /// It completed.
    Done(anyhow::Result<Done>),
    /// A signal ended it.
    Signal {
        /// The exit status.
        code: u8,
        /// Whether incomplete objects may be left.
        left: bool,
        /// Whether a second signal asked for an immediate exit.
        again: bool,
        /// The error of the work after its cleanup.
        told: Option<anyhow::Error>,
    },
}

/// The signals that end a command. From its construction on, no signal between two waits is lost.
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// Starts to listen.
    pub fn new() -> Self {
        Self { interrupt: signal(SignalKind::interrupt()).ok(), terminate: signal(SignalKind::terminate()).ok() }
    }

    /// Waits for the next signal and returns its exit status.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            () = received(self.interrupt.as_mut()) => INTERRUPTED,
            () = received(self.terminate.as_mut()) => TERMINATED,
        }
    }

    /// Runs the work until it completes or a signal arrives. Work that armed the interrupt may then clean up.
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
        events.note(format!("interrupted: {doing}; interrupt again to exit at once"));
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
