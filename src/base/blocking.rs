//! Work that blocks its thread for more than a few milliseconds: large files, digests, lists of processes. A command has
//! two threads for all that waits, so such work gets one of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

/// Does work that blocks on a thread that may be blocked. Whoever stops waiting for it does not stop it.
///
/// # Errors
/// The work's own.
pub async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("work on another thread broke off")?
}

/// Tells work on another thread that nobody waits for it any more; else it would go on after an interruption.
#[derive(Debug, Default)]
pub struct StopOnDrop(pub Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What work comes to. Fails where the work does not wait for a thread that may be blocked: it ends although there is
/// none.
#[cfg(test)]
pub fn waits_for_a_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
    runtime.unwrap().block_on(async {
        let (release, released) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || released.recv());
        let mut work = std::pin::pin!(work);
        assert!(futures::poll!(&mut work).is_pending(), "it blocks the thread of all that waits");
        drop(release);
        work.await
    })
}
