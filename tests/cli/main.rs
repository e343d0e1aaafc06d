//! The command as a person runs it: what it says, where it says it, and its exit status. No engine is touched.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bundle;
mod engine;
mod environment;
mod help;
mod kubeconfig;
mod plans;
mod sandbox;
mod streams;
mod surroundings;
mod timeouts;
mod wrong;
