//! Two real Kubernetes clusters in one Istio mesh on this machine, and proof that a call crosses.
//!
//! ```text
//! kindmesh.yaml ─► spec ─► plan ─► up ─► verify ─► report
//!                   │        ▲      │
//!               validation   │      └─► docker, kind, trust, mesh, link, workloads
//!                         inventory
//! ```
//!
//! [`spec`] is what the user wants, [`inventory`] what exists, [`plan`] the pure decision from both, [`up`] the
//! idempotent steps that carry it out, [`event`] the only way from there to the screen.

#[cfg(not(unix))]
compile_error!("kindmesh runs on Linux and macOS; on Windows, build and run it inside WSL2");

pub mod bundle;
pub mod cache;
pub mod call;
pub mod cli;
pub mod commands;
pub mod counts;
pub mod deploy;
pub mod diagnosis;
pub mod docker;
pub mod doctor;
pub mod down;
pub mod environment;
pub mod error;
pub mod event;
pub mod forward;
pub mod images;
pub mod interrupt;
pub mod inventory;
pub mod kind;
pub mod kubeconfig;
pub mod labs;
mod lease;
pub mod link;
pub mod logs;
pub mod merge;
pub mod mesh;
pub mod offline;
pub mod pause;
pub mod plan;
pub mod policies;
mod probes;
pub mod prove;
pub mod render;
pub mod report;
pub mod sample;
pub mod spec;
pub mod start;
pub mod state;
pub mod status;
pub mod testing;
pub mod timeline;
pub mod tool;
pub mod trust;
pub mod ui;
pub mod up;
pub mod verify;
pub mod wait;
pub mod why;
pub mod workloads;
