//! Whether a sample service is shutting down, and the connections that it has to finish before.

use tokio::sync::watch;

/// Whether the service is shutting down.
#[derive(Debug, Clone, Default)]
pub(super) struct Stopping(watch::Sender<bool>);

/// A connection that the shutdown waits for, until this is dropped.
pub(super) struct Connection(watch::Receiver<bool>);

impl Stopping {
    pub(super) fn begin(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the shutdown begins.
    pub(super) async fn begun(&self) {
        self.connection().begun().await;
    }

    /// Registers a connection.
    pub(super) fn connection(&self) -> Connection {
        Connection(self.0.subscribe())
    }

    /// Waits until no connection is registered.
    pub(super) async fn finished(&self) {
        self.0.closed().await;
    }
}

impl Connection {
    /// Waits until the shutdown begins.
    pub(super) async fn begun(&mut self) {
        // The sender exists as long as the service does.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}
