//! The services themselves, which the sample image runs.
//!
//! - `producer`, `caller`: what each role does
//! - `http2`, `grpc`, `tcp`, `websocket`: the protocols besides HTTP/1.1, both sides of each; `clients` calls in any of them
//! - `probe`: both roles at once, and requests to any address, for checks of a mesh; `load`: calls at a steady rate
//! - `message`: parses a body into a message, or rejects it
//! - `target`, `connection`: how the caller reaches the producer
//! - `server`, `stopping`: the listeners, health, shutdown

mod caller;
mod clients;
mod connection;
mod grpc;
mod http2;
mod load;
mod message;
mod options;
mod outcome;
mod probe;
mod producer;
mod request_log;
mod routes;
mod server;
mod stopping;
mod target;
mod tcp;
mod websocket;

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub use options::Options;
pub use server::Server;

/// The role of a sample service process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Receives a message, calls the producer with it, and returns what both sides saw. Also serves the caller
    /// page.
    Caller,
    /// Responds to messages as they specify.
    Producer,
    /// Both roles, and sends arbitrary requests on demand: for checks, in their own namespaces.
    Probe,
}

impl Role {
    /// Returns the role as on the command line: `caller`, `producer` or `probe`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Producer => "producer",
            Self::Probe => "probe",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// An unknown role.
#[derive(Debug, thiserror::Error)]
#[error("unknown role {0}: use caller, producer or probe")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        match text {
            "caller" => Ok(Self::Caller),
            "producer" => Ok(Self::Producer),
            "probe" => Ok(Self::Probe),
            other => Err(RoleError(other.to_owned())),
        }
    }
}

/// Runs one sample service until SIGTERM or SIGINT, with JSON logs on stdout.
///
/// `RUST_LOG` filters the logs; health probes are logged at `debug`, everything else at `info`.
///
/// # Errors
/// If the address cannot be bound, or the signal handlers cannot be installed.
pub async fn serve(role: Role, options: Options) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // An error means that the process already has a subscriber, which is then used.
    let _ =
        tracing_subscriber::fmt().json().flatten_event(true).with_target(false).with_env_filter(filter).try_init();

    // Before the listener: PID 1 of a container ignores every signal that has no handler.
    let mut terminate = signal(SignalKind::terminate()).context("installing the SIGTERM handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("installing the SIGINT handler")?;

    Server::bind(role, options)
        .await?
        .run(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "shutting down");
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_as_they_print() {
        for role in [Role::Caller, Role::Producer, Role::Probe] {
            assert_eq!(role.to_string().parse::<Role>().unwrap(), role);
        }
        assert_eq!(
            "Caller".parse::<Role>().unwrap_err().to_string(),
            "unknown role Caller: use caller, producer or probe"
        );
    }
}
