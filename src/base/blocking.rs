//! Work that blocks its thread for more than a few milliseconds: large files, digests, process lists. A command has only
//! two threads for async tasks, so blocking work runs on a separate thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

/// Runs blocking work on a thread for such work. Dropping the future does not stop the work.
///
/// # Errors
/// The work's error.
pub async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("a background task failed")?
}

/// Signals work on another thread to stop when its future is dropped. Otherwise it would continue after an interrupt.
#[derive(Debug, Default)]
pub struct StopOnDrop(pub Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs work and returns its result. Panics if the work does not use a blocking thread: the only one is busy at first, so
/// the work must be pending.
#[cfg(test)]
pub fn waits_for_a_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
    runtime.unwrap().block_on(async {
        let (release, released) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || released.recv());
        let mut work = std::pin::pin!(work);
        assert!(futures::poll!(&mut work).is_pending(), "the work blocks a thread for async tasks");
        drop(release);
        work.await
    })
}
