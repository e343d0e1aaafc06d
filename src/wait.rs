//! Waiting: a condition that answers "done" or "not yet, because …", asked again until a deadline. A
//! timeout repeats the last "because".

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::event::Step;

/// What a condition answers.
#[derive(Debug)]
pub enum Poll<T> {
    /// It holds.
    Ready(T),
    /// Not yet, and why.
    NotYet(String),
}

/// How long between two looks: short at first, since most waits end soon. Half of the longest is lost at the end of
/// every longer wait, and many follow each other.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Asks `condition` until it holds or `deadline` has passed.
///
/// An `Err` of the condition ends the wait at once: it is for what cannot get better by waiting.
///
/// # Errors
/// The condition's own, or an [`Error`] that names what was waited for and the last answer.
pub async fn until<T>(
    step: &Step,
    what: &str,
    deadline: Instant,
    mut condition: impl AsyncFnMut() -> anyhow::Result<Poll<T>>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    loop {
        let last = match tokio::time::timeout_at(deadline, condition()).await {
            Ok(answer) => match answer? {
                Poll::Ready(value) => return Ok(value),
                Poll::NotYet(because) => because,
            },
            Err(_) if said.is_empty() => "no answer".to_owned(),
            Err(_) => said.clone(),
        };
        if last != said {
            step.waiting(what, &last);
            said = last;
        }
        if Instant::now() + pause >= deadline {
            let waited = started.elapsed().as_secs();
            return Err(Error::environment(format!("{what}: not after {waited} s"))
                .evidence(format!("last seen: {said}"))
                .into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
