//! The command line: what it prints, to which stream, and its exit status. No engine is used.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails")]

mod bundle;
mod deploy;
mod engine;
mod environment;
mod help;
mod kubeconfig;
mod lint;
mod plans;
mod sandbox;
mod streams;
mod surroundings;
mod timeouts;
mod wrong;
