//! `protocol.tcp`

use super::check::{Trial, check};
use super::protocol;
use crate::base::wait::Poll;
use crate::sample::{Message, Protocol};

check!("protocol.tcp", run,
    claim: "TCP connections whose server speaks first reach every producer pod, with the caller's identity: a policy that denies \
        all others lets them pass, and closes those of another identity",
    evidence: "how many connections each pod answered under the policy, and the connection of another identity",
    sabotage: "a DestinationRule makes the caller's proxy send plain text",
    hint: "the port needs appProtocol tcp (or a name that starts with tcp-) in both clusters");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    trial.apply().await?;
    let mut stranger = bench.prober(bench.caller(), "stranger").await?;
    let closed = trial.until("a connection of another identity to be closed", async || {
        let message = Message { protocol: Some(Protocol::Tcp), ..Message::default() };
        let called = stranger.calls("tcp", message, 1).await?.pop();
        Ok(match called.map(|called| (called.answer, called.reason.unwrap_or_default())) {
            Some((None, reason)) if reason.contains("closed") || reason.contains("reset") => Poll::Ready(reason),
            Some((None, reason)) => Poll::NotYet(reason),
            _ => Poll::NotYet("it was answered".into()),
        })
    });
    trial.record(format!("a connection of the identity stranger: {}", closed.await?));
    // Plain text has no identity, so it would be denied, too.
    protocol::calls_reach_every_pod(trial, "tcp", Protocol::Tcp).await?;
    Ok(())
}
