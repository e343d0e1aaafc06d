//! Verifies that an environment works: a cross-cluster call that a producer answers over mutual TLS.

use std::time::Duration;

use kube::Client;
use tokio::time::Instant;

use crate::base::event::Step;
use crate::base::names;
use crate::base::wait::{self, Poll};
use crate::cluster::call::{Answer, Caller, Request};
use crate::cluster::refusal::{Record, Retries};
use crate::plan::Samples;
use crate::sample::Protocol;

/// The timeout of one attempt: a call takes milliseconds, but one through a connection that just died may hang for
/// a long time.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);

/// Calls from a cluster until a response is valid. The IDs of the calls begin with `by`; `record` is that of the
/// cluster.
///
/// # Errors
/// If there is no such response by the deadline; says what is wrong with the last one.
pub async fn crosses(
    client: &Client,
    from: &str,
    samples: &Samples,
    by: &str,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<Answer> {
    let request = Request {
        id: format!("{by}-{from}"),
        payload: "hello".into(),
        delay: 0,
        response_code: 200,
        fail_attempts: None,
        fresh_connection: true,
        protocol: Protocol::Http,
    };
    let what = "a cross-cluster call";
    let mut retries = Retries::new(record);
    wait::until(step, what, deadline, async || {
        let answer = async { Caller::connect(client, &samples.namespace).await?.call(&request).await };
        match tokio::time::timeout(TRY_TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(match flaw(&answer, samples) {
                None => Poll::Ready(answer),
                Some(flaw) => Poll::NotYet(flaw),
            }),
            Ok(Err(error)) => retries.failed(what, error),
            Err(_) => Ok(Poll::NotYet(format!("no response within {} s", TRY_TIMEOUT.as_secs()))),
        }
    })
    .await
}

/// Returns what is wrong with a response: it must have status 200 and come from a cluster with producers, and the
/// producer must have received the caller's identity.
fn flaw(answer: &Answer, samples: &Samples) -> Option<String> {
    if answer.status_code != 200 {
        let reason = answer.reason.as_deref().unwrap_or("no reason given");
        return Some(format!("the caller got status {}: {reason}", answer.status_code));
    }
    let served_by = answer.served_by().unwrap_or_default();
    if !samples.producers.iter().any(|cluster| cluster == served_by) {
        return Some(format!("\"{served_by}\" responded, but has no producer"));
    }
    let identity = format!("spiffe://cluster.local/ns/{}/sa/{}", samples.namespace, names::CALLER_NAME);
    match answer.identity() {
        Some(found) if found == identity => None,
        Some(found) => Some(format!("the producer received the identity {found}, not {identity}")),
        None => Some("the producer received no caller identity: no mutual TLS".into()),
    }
}
