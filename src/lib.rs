//! Two real Kubernetes clusters in one Istio mesh on this machine, and proof that a call crosses.
//!
//! ```text
//! kindmesh.yaml ─► spec ─► plan ─► up ─► verify ─► report
//!                   │        ▲      │
//!               validation   │      └─► docker, kind, trust, mesh, link, workloads
//!                         inventory
//! ```
//!
//! [`spec`] is what the user wants, [`plan::inventory`] what exists, [`plan`] the pure decision from both,
//! [`lifecycle::up`] the idempotent steps that carry it out, [`base::event`] the only way from there to the screen.
//!
//! The modules are floors, `base` the lowest and `cli` the highest: nothing imports from a floor above its own.

#[cfg(not(unix))]
compile_error!("kindmesh runs on Linux and macOS; on Windows, build and run it inside WSL2");

pub mod apps;
pub mod base;
pub mod cli;
pub mod cluster;
pub mod diagnose;
pub mod host;
pub mod lifecycle;
pub mod plan;
pub mod report;
pub mod sample;
pub mod spec;

pub use apps::testing;
