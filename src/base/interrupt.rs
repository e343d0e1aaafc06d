//! Ctrl-C, for work that has something to put away first.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Told to whoever armed it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interrupt {
    requested: Arc<watch::Sender<bool>>,
    armed: Arc<Mutex<Vec<&'static str>>>,
}

impl Default for Interrupt {
    fn default() -> Self {
        Self { requested: Arc::new(watch::Sender::new(false)), armed: Arc::default() }
    }
}

/// As long as it lives, an interruption is waited for instead of dropping the work.
#[derive(Debug)]
pub struct Armed(Arc<Mutex<Vec<&'static str>>>);

impl Interrupt {
    /// Asks to be told of an interruption, and waited for; `doing` says what will be done then. The work must end soon
    /// after it was told.
    pub fn arm(&self, doing: &'static str) -> Armed {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).push(doing);
        Armed(self.armed.clone())
    }

    /// What work does that wants to be told, if any does.
    pub fn armed(&self) -> Option<&'static str> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    /// Interrupts.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Ends when an interruption was requested.
    pub async fn requested(&self) {
        let mut receiver = self.requested.subscribe();
        // The sender lives as long as `self`.
        let _ = receiver.wait_for(|requested| *requested).await;
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_is_armed_is_told() {
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.armed(), None);
        let armed = interrupt.arm("cleaning up");
        assert_eq!(interrupt.armed(), Some("cleaning up"));
        interrupt.request();
        interrupt.requested().await;
        drop(armed);
        assert_eq!(interrupt.armed(), None);
    }
}
