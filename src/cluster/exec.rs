//! Runs commands in pods.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, AttachParams};
use tokio::io::AsyncReadExt;

use super::refusal;
use crate::base::error::Error;

/// The timeout of a command, including retries.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);
/// The maximum number of attempts. A busy API server may refuse one stream and accept the next.
const TRIES: usize = 3;

/// Runs a command in a container of a pod and returns its standard output. Retries only if the transport fails, so the
/// command must be safe to run twice. Ends within 20 s.
///
/// # Errors
/// The API server's, or the command's with its standard error.
pub async fn exec(
    client: &Client,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[&str],
) -> anyhow::Result<String> {
    let what = || format!("running {} in pod {pod}", command.first().copied().unwrap_or_default());
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let tries = async {
        for _ in 1..TRIES {
            match once(&api, pod, container, command).await {
                Err(Failure::Transport(_) | Failure::Broke { .. }) => {}
                ended => return ended,
            }
        }
        once(&api, pod, container, command).await
    };
    let ended = tokio::time::timeout(EXIT_TIMEOUT, tries).await;
    let ended = ended.map_err(|_| Error::environment(format!("no response within {} s", EXIT_TIMEOUT.as_secs())));
    told(ended.with_context(what)?, &what)
}

/// Returns the output of a command, or why it failed.
fn told(ended: Result<String, Failure>, what: &impl Fn() -> String) -> anyhow::Result<String> {
    match ended {
        Ok(said) => Ok(said),
        Err(Failure::Transport(error) | Failure::Refused(error)) => Err(error).with_context(what),
        Err(Failure::Broke { said }) => Err(failed(&what(), "connection closed", &said)),
        Err(Failure::Command { message, said }) => Err(failed(&what(), &message, &said)),
    }
}

/// Runs a command in a container of a pod once and returns its standard output: for a command that takes long, or must not run
/// twice.
///
/// # Errors
/// The API server's, the command's with its standard error, or that it has not ended within `limit`.
pub async fn exec_once(
    client: &Client,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[&str],
    limit: Duration,
) -> anyhow::Result<String> {
    let what = || format!("running {} in pod {pod}", command.first().copied().unwrap_or_default());
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ended = tokio::time::timeout(limit, once(&api, pod, container, command)).await;
    let ended = ended.map_err(|_| Error::environment(format!("not ended after {} s", limit.as_secs())));
    told(ended.with_context(what)?, &what)
}

fn failed(what: &str, message: &str, said: &[u8]) -> anyhow::Error {
    Error::environment(format!("{what} failed: {message}")).evidence(String::from_utf8_lossy(said)).into()
}

/// The reason why a command failed.
#[derive(Debug)]
enum Failure {
    /// The transport failed before the command was known to run, or while its output was read.
    Transport(anyhow::Error),
    /// The connection ended before the result of the command arrived.
    Broke {
        /// The standard error up to then.
        said: Vec<u8>,
    },
    /// The API server or the container runtime refused to run the command.
    Refused(anyhow::Error),
    /// The command itself failed.
    Command {
        /// The message from Kubernetes.
        message: String,
        /// The standard error of the command.
        said: Vec<u8>,
    },
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        // The API server reports this when its connection to the node fails.
        let backend =
            matches!(&error, kube::Error::Api(status) if status.message.contains("error dialing backend"));
        match backend || refusal::is_transport(&error) {
            true => Failure::Transport(error.into()),
            false => Failure::Refused(error.into()),
        }
    }
}

async fn once(api: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<String, Failure> {
    let parameters = AttachParams::default().container(container).stderr(true);
    let mut process = api.exec(pod, command.iter().copied(), &parameters).await?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let status = process.take_status();
    let (first, second) = futures::join!(read_all(stdout, &mut out), read_all(stderr, &mut err));
    first.and(second).map_err(|error| Failure::Transport(error.into()))?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => {
            Ok(String::from_utf8_lossy(&out).into_owned())
        }
        Some(status) => {
            let message = status.message.unwrap_or_else(|| "unknown reason".into());
            Err(Failure::Command { message, said: err })
        }
        None => Err(Failure::Broke { said: err }),
    }
}

async fn read_all(stream: Option<impl tokio::io::AsyncRead + Unpin>, into: &mut Vec<u8>) -> std::io::Result<()> {
    match stream {
        Some(mut stream) => stream.read_to_end(into).await.map(drop),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use kube::client::Body;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::BoxError;

    /// Returns how often a command is tried with an API server that responds like this, and the error.
    async fn begun(answer: fn() -> Result<Response<Body>, BoxError>) -> (usize, String) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let server = tower::service_fn(move |_: http::Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move { answer() }
        });
        let ended = exec(&Client::new(server, "default"), "sample", "a", "app", &["true"]).await;
        (count.load(Ordering::Relaxed), format!("{:#}", ended.unwrap_err()))
    }

    fn refused(code: u16, message: &str) -> Result<Response<Body>, BoxError> {
        let status = kube::core::Status::failure(message, "").with_code(code);
        Ok(Response::builder().status(code).body(serde_json::to_vec(&status)?.into())?)
    }

    #[tokio::test]
    async fn only_transport_failures_are_retried() {
        let (count, why) = begun(|| Err("connection reset by peer".into())).await;
        assert!(count == TRIES && why.contains("connection reset"), "{count} {why}");
        let dialing =
            || refused(500, "error dialing backend: dial tcp 172.18.0.3:10250: connect: connection refused");
        assert_eq!(begun(dialing).await.0, TRIES);
        let (count, why) = begun(|| refused(404, "pods \"a\" not found")).await;
        assert!(count == 1 && why.starts_with("running true in pod a: "), "{count} {why}");
        assert_eq!(begun(|| refused(500, "container not found (\"app\")")).await.0, 1);
    }
}
