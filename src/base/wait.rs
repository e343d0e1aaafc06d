//! Waiting: a condition that answers "done" or "not yet, because …", asked again until a deadline. A
//! timeout repeats the last "because".

use std::time::Duration;

use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Step};

/// What a condition answers.
#[derive(Debug)]
pub enum Poll<T> {
    /// It holds.
    Ready(T),
    /// Not yet, and why.
    NotYet(String),
}

/// The cause when what came before had taken all the time.
pub const TOO_LATE: &str = "time.short";

fn too_late(what: &str) -> Error {
    let error = Error::environment(format!("{what}: no time was left for it"))
        .hint("give the whole command longer with --timeout: what came before took all of it");
    Error { cause: Some(TOO_LATE), ..error }
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
        if started >= deadline {
            return Err(too_late(what).into());
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

/// Does work that has to end by a deadline. Work that does not is dropped, and the error tells which of its steps were
/// under way.
///
/// # Errors
/// The work's own, or `late`.
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
    async fn a_wait_that_ends_badly_says_what_it_saw_or_that_it_came_too_late() {
        let step = Events::silent().step("istiod", None);
        let never = async || anyhow::Ok(Poll::<()>::NotYet("0 of 1".into()));
        let late = until(&step, "readiness", Instant::now(), never).await.unwrap_err();
        assert_eq!(error::find(&late).unwrap().cause, Some(TOO_LATE));
        let soon = Instant::now() + Duration::from_millis(60);
        let error = until(&step, "readiness", soon, never).await.unwrap_err();
        let error = error::find(&error).unwrap();
        assert_eq!((error.cause, error.evidence.as_slice()), (None, &["last seen: 0 of 1".to_owned()][..]));
        // What holds already needs no time.
        assert_eq!(until(&step, "readiness", Instant::now(), async || Ok(Poll::Ready(1))).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn work_that_takes_too_long_is_dropped_and_what_was_under_way_told() {
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
        assert_eq!(error.evidence, ["still under way: pull waits for the image: pulling a"]);
        let failed = async { Err::<(), _>(anyhow::anyhow!("its own")) };
        assert_eq!(within(Instant::now(), &events, failed, late).await.unwrap_err().to_string(), "its own");
    }
}
