//! `protocol.http2`

use super::check::{Trial, check};
use super::{balance, protocol};
use crate::sample::Protocol;

check!("protocol.http2", run,
    claim: "HTTP/2 requests on one connection of the caller arrive as HTTP/2 with its identity, and reach every producer pod",
    evidence: "how many requests each pod answered, and what the pods received",
    sabotage: "a DestinationRule sends all requests of one caller to one pod",
    hint: "the port needs appProtocol http2 (or a name that starts with http2-) in both clusters");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    balance::apply_for(trial, "http2").await?;
    let answers = protocol::calls_reach_every_pod(trial, "http2", Protocol::Http2).await?;
    protocol::carry_identity(trial, &answers, "HTTP/2")
}
