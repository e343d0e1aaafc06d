//! Connections that show what the proxies do: one to a pod's own port, past its proxy, and the trial of the call.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use tokio::io::AsyncReadExt;

use super::facts::{Facts, Heard, Trial};
use super::protocol::Speaks;
use crate::base::names;
use crate::cluster::call::{Caller, Request};
use crate::cluster::environment::Environment;
use crate::cluster::mesh::pod;
use crate::host::docker::{Engine, node};
use crate::sample::Protocol;

/// How long a server that speaks first may take to do so.
pub(super) const QUIET_TIME: Duration = Duration::from_secs(3);
/// The maximum number of bytes to show.
const FIRST_BYTES: usize = 200;

/// Connects to the port of a pod itself: the API server's forward arrives inside the pod, past its proxy. None if there is
/// no such pod or it cannot be reached.
pub(super) async fn direct(environment: &Environment, facts: &Facts) -> Option<Heard> {
    if facts.call.speaks != Speaks::Tcp {
        return None;
    }
    let ready = facts.ready();
    let (cluster, found) = ready.first()?;
    let port = found.port(&cluster.port(facts.call.port)?.target)?;
    let client = environment.client(&cluster.name).await.ok()?;
    let opened = pod::forward(&client, &facts.call.service_namespace, &found.name, port).await;
    let (mut stream, _tasks) = opened.ok()?;
    let mut bytes = vec![0; FIRST_BYTES];
    Some(match tokio::time::timeout(QUIET_TIME, stream.read(&mut bytes)).await {
        Ok(Ok(0) | Err(_)) => Heard::Closed,
        Ok(Ok(count)) => Heard::Bytes(text(&bytes[..count])),
        Err(_) => Heard::Nothing,
    })
}

/// Returns the start of a text. Bytes that are not text, as in the greetings of some databases, are shown as `\u{fffd}`.
fn text(bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// Tries the call; none for HTTP.
pub(super) async fn trial(environment: &Environment, client: &Client, facts: &Facts) -> Option<Trial> {
    match facts.call.speaks {
        Speaks::Http => None,
        Speaks::Grpc => Some(grpc(environment, client, facts).await),
        Speaks::Tcp => Some(tcp(facts).await),
    }
}

/// Opens a connection in the network of the caller's pod, so that it passes the pod's proxy as the pod's own connections do.
async fn tcp(facts: &Facts) -> Trial {
    let none = |reason: &str| Trial::None(format!("no connection was tried: {reason}"));
    let Some(caller) = facts.caller.as_ref().filter(|caller| caller.ready) else {
        return none("no ready caller");
    };
    let Some(address) = facts.target() else { return none("the name has no address in the caller's cluster") };
    let tried = connect(&caller.node, &facts.call.namespace, &caller.pod, address, facts.call.port).await;
    match tried {
        Ok(heard) => Trial::Tcp(heard),
        Err(error) => none(&format!("{error:#}")),
    }
}

/// Opens a connection in a pod's network. Its first bytes are read as soon as they arrive. All containers of a pod have its network.
const CONNECT: &str = r#"
set -u
ids=$(ctr --namespace k8s.io containers list --quiet \
  "labels.\"io.kubernetes.pod.namespace\"==$1,labels.\"io.kubernetes.pod.name\"==$2" | tr '\n' ' ')
pid=
while read -r id found status _; do
  case " $ids" in *" $id "*) [ "$status" = RUNNING ] && pid=$found ;; esac
done < <(ctr --namespace k8s.io tasks list)
[ -n "$pid" ] || { echo "no container of pod $2 runs" >&2; exit 1; }
timeout 10 nsenter --target "$pid" --net bash -c '
  exec 3<>"/dev/tcp/$1/$2" || exit 101
  timeout "$3" dd bs=200 count=1 status=none <&3
  status=$?
  [ "$status" = 124 ] && exit 102
  exit "$status"' bash "$3" "$4" "$5"
"#;
/// The exit status of [`CONNECT`] without a connection.
const NO_CONNECTION: i64 = 101;
/// The exit status of [`CONNECT`] if nothing arrived in time.
const QUIET: i64 = 102;
/// The exit status of `timeout` if nothing accepted the connection in time.
const TIMED_OUT: i64 = 124;

async fn connect(at: &str, namespace: &str, pod: &str, address: Ipv4Addr, port: u16) -> anyhow::Result<Heard> {
    let engine = Engine::connect().await?;
    let (address, port, seconds) = (address.to_string(), port.to_string(), QUIET_TIME.as_secs().to_string());
    let command = ["bash", "-c", CONNECT, "bash", namespace, pod, &address, &port, &seconds];
    let said = node::try_exec(&engine, at, &command).await?;
    match (said.status, said.stdout.as_str()) {
        (0, "") => Ok(Heard::Closed),
        (0, first) => Ok(Heard::Bytes(text(first.as_bytes()))),
        (QUIET, _) => Ok(Heard::Nothing),
        (TIMED_OUT, _) => Ok(Heard::Refused("nothing accepted it within 10 s".into())),
        (NO_CONNECTION, _) => Ok(Heard::Refused(last_line(&said.stderr))),
        // A connection that is reset.
        (_, _) if said.stderr.contains("error reading") => Ok(Heard::Closed),
        (status, _) => anyhow::bail!("a command in {at} failed with status {status}: {}", last_line(&said.stderr)),
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    // Of `bash: connect: Connection refused` and the line after it, the reason is the end.
    line.rsplit(": ").next().unwrap_or_default().trim().to_owned()
}

/// Sends a gRPC call if both sides are samples. To other services, a call may have side effects.
async fn grpc(environment: &Environment, client: &Client, facts: &Facts) -> Trial {
    let (samples, call) = (&environment.spec.samples, &facts.call);
    let namespace = samples.namespace.as_str();
    let protocol = match call.path.as_str() {
        "/" | "/kindmesh.sample.Producer/Call" => Some(Protocol::Grpc),
        "/kindmesh.sample.Producer/Stream" => Some(Protocol::GrpcStream),
        _ => None,
    };
    let to_sample =
        call.name == names::PRODUCER_NAME && call.service_namespace == namespace && call.port == names::GRPC_PORT;
    let from_sample = call.namespace == namespace
        && facts.caller.as_ref().is_some_and(|caller| caller.ready && caller.app() == names::CALLER_NAME);
    let Some(protocol) = protocol.filter(|_| samples.enabled && to_sample && from_sample) else {
        return Trial::None(
            "no call was sent: only calls from the sample caller to the sample producer have no side effects"
                .into(),
        );
    };
    let answer = async {
        let mut caller = Caller::connect(client, namespace).await?;
        caller.call(&Request { protocol, ..Request::default() }).await
    };
    match tokio::time::timeout(QUIET_TIME * 3, answer).await.context("no response") {
        Ok(Ok(answer)) => match (answer.served_by(), answer.reason.as_deref()) {
            (Some(cluster), None) => Trial::Answered(cluster.to_owned()),
            (_, reason) => Trial::Failed(reason.unwrap_or("no producer answered").to_owned()),
        },
        Ok(Err(error)) | Err(error) => Trial::None(format!("no call was sent: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_the_end_of_the_last_line() {
        for (said, reason) in [
            (
                "bash: connect: Connection refused\nbash: line 2: /dev/tcp/10.0.0.1/80: Connection refused\n",
                "Connection refused",
            ),
            ("bash: line 2: /dev/tcp/10.0.0.1/80: No route to host\n\n", "No route to host"),
            ("", ""),
        ] {
            assert_eq!(last_line(said), reason);
        }
    }

    #[test]
    fn first_bytes_are_shown_as_short_text() {
        assert_eq!(text(b"220 ready"), "220 ready");
        assert_eq!(text(&[b'J', 0, 0xff]), "J\u{0}\u{fffd}");
        assert_eq!(text("ä".repeat(61).as_bytes()), format!("{}…", "ä".repeat(60)));
    }
}
