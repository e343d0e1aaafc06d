//! Ctrl-C for work that must clean up first.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// An interrupt request. Cheap to clone.
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

/// A guard: while it is alive, an interrupt waits for the work instead of dropping it.
#[derive(Debug)]
pub struct Armed(Arc<Mutex<Vec<&'static str>>>);

impl Interrupt {
    /// Makes an interrupt wait for the work; `doing` describes the cleanup. The work must end soon after the interrupt.
    pub fn arm(&self, doing: &'static str) -> Armed {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).push(doing);
        Armed(self.armed.clone())
    }

    /// Returns the description of the cleanup, if an interrupt has to wait for one.
    pub fn armed(&self) -> Option<&'static str> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    /// Requests an interrupt.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Waits until an interrupt is requested.
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
    async fn armed_work_is_notified() {
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
