//! Counters of the requests that this process sends. Unlike durations, they hardly differ between hosts, so a test can
//! limit them: `tests/e2e/counts.rs`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

static KUBE_REQUESTS: AtomicU64 = AtomicU64::new(0);
static ENGINE_REQUESTS: AtomicU64 = AtomicU64::new(0);
static PROCESSES: AtomicU64 = AtomicU64::new(0);
static EXPORTED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts of requests, processes and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Requests to API servers, without the traffic inside a port-forward or an exec.
    pub kube_requests: u64,
    /// Requests of this process to the container engine, without those of child processes.
    pub engine_requests: u64,
    /// Child processes started.
    pub processes: u64,
    /// Bytes of images exported from the engine.
    pub exported_bytes: u64,
}

impl Counts {
    /// Returns the counts since this process started.
    pub fn so_far() -> Self {
        Self {
            kube_requests: KUBE_REQUESTS.load(Relaxed),
            engine_requests: ENGINE_REQUESTS.load(Relaxed),
            processes: PROCESSES.load(Relaxed),
            exported_bytes: EXPORTED_BYTES.load(Relaxed),
        }
    }

    /// Returns the counts since `before`. They include everything that this process did in the meantime.
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
