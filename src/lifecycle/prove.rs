//! The proof that an environment works: a call that crosses, and is what the pattern promises.

use std::time::Duration;

use kube::Client;
use tokio::time::Instant;

use crate::base::event::Step;
use crate::base::names;
use crate::base::wait::{self, Poll};
use crate::cluster::call::{Answer, Caller, Request};
use crate::cluster::refusal::{Patience, Record};
use crate::plan::Samples;

/// How long one try may take: a call takes milliseconds, and one through what just died may hang for long.
const TRY_WITHIN: Duration = Duration::from_secs(3);

/// Calls from a cluster until the answer is what the pattern promises. `by` begins the calls' name, and `record` is the
/// cluster's.
///
/// # Errors
/// When none is by the deadline, with the last answer.
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
    };
    let what = "a call to cross";
    let mut patience = Patience::new(record);
    wait::until(step, what, deadline, async || {
        let answer = async { Caller::connect(client, &samples.namespace).await?.call(&request).await };
        match tokio::time::timeout(TRY_WITHIN, answer).await {
            Ok(Ok(answer)) => Ok(match flaw(&answer, samples) {
                None => Poll::Ready(answer),
                Some(flaw) => Poll::NotYet(flaw),
            }),
            Ok(Err(error)) => patience.failed(what, error),
            Err(_) => Ok(Poll::NotYet(format!("no answer within {} s", TRY_WITHIN.as_secs()))),
        }
    })
    .await
}

/// What is wrong with an answer: it has to be a success, from a cluster with producers, and the producer must have
/// been told who called.
fn flaw(answer: &Answer, samples: &Samples) -> Option<String> {
    if answer.status_code != 200 {
        let reason = answer.reason.as_deref().unwrap_or("no reason given");
        return Some(format!("the caller got status {}: {reason}", answer.status_code));
    }
    let served_by = answer.served_by().unwrap_or_default();
    if !samples.producers.iter().any(|cluster| cluster == served_by) {
        return Some(format!("\"{served_by}\" answered, which has no producer"));
    }
    let identity = format!("spiffe://cluster.local/ns/{}/sa/{}", samples.namespace, names::CALLER_NAME);
    match answer.identity() {
        Some(found) if found == identity => None,
        Some(found) => Some(format!("the producer was told that {found} called, not {identity}")),
        None => Some("the producer was not told who called: no mutual TLS".into()),
    }
}
