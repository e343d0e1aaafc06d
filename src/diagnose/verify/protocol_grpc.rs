//! `protocol.grpc`

use anyhow::ensure;

use super::check::{Trial, check};
use super::{balance, protocol};
use crate::sample::{Message, Protocol, STREAM_RESPONSES};

check!("protocol.grpc", run,
    claim: "gRPC calls on one connection of the caller arrive with its identity and reach every producer pod, and a stream \
        arrives whole",
    evidence: "how many calls each pod answered, what the pods received, and the responses of a stream",
    sabotage: "a DestinationRule makes the caller's proxy send plain text",
    hint: "the port needs appProtocol grpc (or a name that starts with grpc-) in both clusters");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    balance::apply_for(trial, "grpc").await?;
    let answers = protocol::calls_reach_every_pod(trial, "grpc", Protocol::Grpc).await?;
    protocol::carry_identity(trial, &answers, "HTTP/2")?;
    let message = Message { protocol: Some(Protocol::GrpcStream), ..Message::default() };
    for called in trial.bench.calling().await?.calls("grpc", message, 1).await? {
        let reason = called.reason.unwrap_or_default();
        trial.record(format!("responses of a stream: {}", called.responses));
        ensure!(
            called.status_code == 200 && called.responses == STREAM_RESPONSES,
            "the stream was not complete: {reason}"
        );
    }
    Ok(())
}
