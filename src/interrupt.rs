//! Ctrl-C, for work that has something to put away first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// Told to whoever armed it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interrupt {
    requested: Arc<watch::Sender<bool>>,
    armed: Arc<AtomicUsize>,
}

impl Default for Interrupt {
    fn default() -> Self {
        Self { requested: Arc::new(watch::Sender::new(false)), armed: Arc::default() }
    }
}

/// As long as it lives, an interruption is waited for instead of dropping the work.
#[derive(Debug)]
pub struct Armed(Arc<AtomicUsize>);

impl Interrupt {
    /// Asks to be told of an interruption, and waited for. The work must end soon after it was told.
    pub fn arm(&self) -> Armed {
        self.armed.fetch_add(1, Ordering::Relaxed);
        Armed(self.armed.clone())
    }

    /// Whether work wants to be told.
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed) > 0
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
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_is_armed_is_told() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.is_armed());
        let armed = interrupt.arm();
        assert!(interrupt.is_armed());
        interrupt.request();
        interrupt.requested().await;
        drop(armed);
        assert!(!interrupt.is_armed());
    }
}
