//! What this process asked of others, counted. Times differ from machine to machine; these do not much, so a test can
//! hold them: `tests/e2e/counts.rs`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

static KUBE_REQUESTS: AtomicU64 = AtomicU64::new(0);
static ENGINE_REQUESTS: AtomicU64 = AtomicU64::new(0);
static PROCESSES: AtomicU64 = AtomicU64::new(0);
static EXPORTED_BYTES: AtomicU64 = AtomicU64::new(0);

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Requests to API servers; not what goes over a port-forward or an exec that was opened by one.
    pub kube_requests: u64,
    /// Requests to the container engine by this process; not those of child processes.
    pub engine_requests: u64,
    /// Child processes that were started.
    pub processes: u64,
    /// Bytes of images read from the engine.
    pub exported_bytes: u64,
}

impl Counts {
    /// Since this process began.
    pub fn so_far() -> Self {
        Self {
            kube_requests: KUBE_REQUESTS.load(Relaxed),
            engine_requests: ENGINE_REQUESTS.load(Relaxed),
            processes: PROCESSES.load(Relaxed),
            exported_bytes: EXPORTED_BYTES.load(Relaxed),
        }
    }

    /// Since other counts were taken. What else this process does at the same time is counted, too.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            kube_requests: self.kube_requests - before.kube_requests,
            engine_requests: self.engine_requests - before.engine_requests,
            processes: self.processes - before.processes,
            exported_bytes: self.exported_bytes - before.exported_bytes,
        }
    }
}

pub(crate) fn kube_request() {
    KUBE_REQUESTS.fetch_add(1, Relaxed);
}

pub(crate) fn engine_request() {
    ENGINE_REQUESTS.fetch_add(1, Relaxed);
}

pub(crate) fn process() {
    PROCESSES.fetch_add(1, Relaxed);
}

pub(crate) fn exported(bytes: usize) {
    EXPORTED_BYTES.fetch_add(bytes as u64, Relaxed);
}
