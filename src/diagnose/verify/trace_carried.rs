//! `trace.carried`

use anyhow::{Context, ensure};

use super::check::{Trial, check};
use crate::base::wait::Poll;

check!("trace.carried", run,
    claim: "the trace ID and the request ID of a call arrive at the producer",
    evidence: "the headers as sent, and as the producer received them",
    sabotage: "a VirtualService removes the header traceparent",
    hint: "look for header rules in VirtualServices; the application must forward the headers itself");

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const REQUEST: &str = "5f2c9d6e-8f0a-4b7d-9c1e-2a3b4c5d6e7f";
/// The first digit of the third group: Envoy stores there why a request is traced.
const MARKED: usize = 14;

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    trial.apply().await?;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str()), ("x-request-id", REQUEST)];
    let mut calling = trial.bench.calling().await?;
    let answer = trial.until("the call to succeed", async || {
        let answer = calling.call(&headers).await?;
        let told = format!("{}: {}", answer.status_code, answer.reason.clone().unwrap_or_default());
        Ok(if answer.status_code == 200 { Poll::Ready(answer) } else { Poll::NotYet(told) })
    });
    let answer = answer.await?;
    trial.record(format!("sent: traceparent: {parent}; x-request-id: {REQUEST}"));
    let received = answer.producer_headers.context("the producer's headers are missing")?;
    let header = |name: &str| received.get(name).map(String::as_str).unwrap_or("none");
    let (trace, request) = (header("traceparent"), header("x-request-id"));
    trial.record(format!("received: traceparent: {trace}; x-request-id: {request}"));
    ensure!(
        trace.split('-').nth(1) == Some(TRACE),
        "the producer received the traceparent {trace}, not trace \
        {TRACE}"
    );
    let without = |id: &str| id.char_indices().filter(|(at, _)| *at != MARKED).map(|(_, c)| c).collect::<String>();
    ensure!(
        without(request) == without(REQUEST),
        "the producer received the x-request-id {request}, not \
        {REQUEST}"
    );
    Ok(())
}
