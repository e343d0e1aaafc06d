//! Waits: a condition returns "ready" or "not yet, because …" and is polled until a deadline. The error of a timeout
//! includes the last reason.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Step};

/// The result of polling a condition.
#[derive(Debug)]
pub enum Poll<T> {
    /// The condition holds.
    Ready(T),
    /// The condition does not hold yet, with the reason.
    NotYet(String),
}

/// The id of the cause: earlier steps used up the timeout.
pub const TOO_LATE: &str = "time.short";

fn too_late(what: &str) -> Error {
    let error = Error::environment(format!("no time left to wait for {what}"))
        .hint("increase --timeout: earlier steps used all of it");
    Error { cause: Some(TOO_LATE), ..error }
}

/// The pause between two polls. It starts short, since most waits end soon. Every longer wait ends half of the longest
/// pause late on average, and many waits follow each other.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// Polls `condition` until it holds or `deadline` has passed.
///
/// An `Err` from the condition ends the wait at once: it means that waiting cannot help.
///
/// # Errors
/// The condition's error, or an [`Error`] that names what was waited for and the last reason.
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
            Err(_) if said.is_empty() => "no response".to_owned(),
            Err(_) => said.clone(),
        };
        if last != said {
            step.waiting(what, &last);
            said = last;
        }
        if started >= deadline {
            return Err(too_late(what).into());
        }
        if Instant::now() + pause >= deadline {
            let waited = started.elapsed().as_secs();
            return Err(Error::environment(format!("timed out after {waited} s waiting for {what}"))
                .evidence(format!("last status: {said}"))
                .into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Runs work that must end by a deadline. Work that does not is dropped, and the error lists the steps that were still
/// running.
///
/// # Errors
/// The work's error, or `late`.
pub async fn within<T>(
    deadline: Instant,
    events: &Events,
    work: impl Future<Output = anyhow::Result<T>>,
    late: impl FnOnce() -> Error,
) -> anyhow::Result<T> {
    match tokio::time::timeout_at(deadline, work).await {
        Ok(done) => done,
        Err(_) => Err(late().evidence(events.under_way().join("\n")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error;
    use crate::base::event::Events;

    #[tokio::test]
    async fn failed_wait_reports_its_last_status_or_that_no_time_was_left() {
        let step = Events::silent().step("istiod", None);
        let never = async || anyhow::Ok(Poll::<()>::NotYet("0 of 1".into()));
        let late = until(&step, "readiness", Instant::now(), never).await.unwrap_err();
        assert_eq!(error::find(&late).unwrap().cause, Some(TOO_LATE));
        let soon = Instant::now() + Duration::from_millis(60);
        let error = until(&step, "readiness", soon, never).await.unwrap_err();
        let error = error::find(&error).unwrap();
        assert_eq!((error.cause, error.evidence.as_slice()), (None, &["last status: 0 of 1".to_owned()][..]));
        // A condition that already holds succeeds even at its deadline.
        assert_eq!(until(&step, "readiness", Instant::now(), async || Ok(Poll::Ready(1))).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn timeout_drops_the_work_and_reports_running_steps() {
        let events = Events::silent();
        let work = async {
            let step = events.step("pull", None);
            step.waiting("the image", "pulling a");
            std::future::pending::<anyhow::Result<()>>().await
        };
        let late = || Error::environment("not done");
        let error = within(Instant::now(), &events, work, late).await.unwrap_err();
        let error = error::find(&error).unwrap();
        assert_eq!(error.message, "not done");
        assert_eq!(error.evidence, ["still running: pull (waiting for the image: pulling a)"]);
        let failed = async { Err::<(), _>(anyhow::anyhow!("failed")) };
        assert_eq!(within(Instant::now(), &events, failed, late).await.unwrap_err().to_string(), "failed");
    }
}
