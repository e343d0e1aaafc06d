//! `protocol.websocket`

use super::check::{Trial, check};
use super::protocol;
use crate::sample::Protocol;

check!("protocol.websocket", run,
    claim: "WebSocket connections arrive with the caller's identity, and reach every producer pod",
    evidence: "how many connections each pod answered, and the handshakes that the pods received",
    sabotage: "a DestinationRule sends all connections of one caller to one pod",
    hint: "look for a DestinationRule with consistentHash or tls, and a VirtualService for the host");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    trial.apply().await?;
    let answers = protocol::calls_reach_every_pod(trial, "websocket", Protocol::Websocket).await?;
    protocol::carry_identity(trial, &answers, "HTTP/1.1")
}
