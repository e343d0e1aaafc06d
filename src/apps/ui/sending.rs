//! Calls of the dashboard: one, several, or a steady rate.

use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval};

use super::log::Entry;
use super::session::Session;
use super::shown::Steady;
use crate::cluster::call::{Caller, Request};
use crate::sample::Protocol;

/// The maximum number of calls in flight; each needs its own connection to the caller.
const MAX_CONCURRENT: usize = 64;
/// The timeout of a call: longer than the caller's own.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);
/// The timeout of connecting to the caller.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Session {
    /// Sends one call, and records its result.
    pub async fn call(&self, delay: u64, status: u16, payload: String) -> Entry {
        self.log.borrow_mut().counts.sent += 1;
        let number = self.log.borrow().counts.sent;
        let (at, began) = (Timestamp::now().as_millisecond(), Instant::now());
        let request = Request {
            id: format!("ui-{at:x}-{number}"),
            payload,
            delay,
            response_code: status,
            fail_attempts: None,
            fresh_connection: false,
            protocol: Protocol::Http,
        };
        let answer = tokio::time::timeout(CALL_TIMEOUT, async {
            let mut caller = self.connection().await?;
            let answer = caller.call(&request).await?;
            self.idle.borrow_mut().push(caller);
            anyhow::Ok(answer)
        });
        let reason = match answer.await {
            Ok(Ok(answer)) => return self.log.borrow_mut().answered(at, &answer),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("the caller did not respond within {} s", CALL_TIMEOUT.as_secs()),
        };
        // The pod of the other connections may be gone too.
        self.idle.borrow_mut().clear();
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.log.borrow_mut().unanswered(at, millis, reason)
    }

    async fn connection(&self) -> anyhow::Result<Caller> {
        let idle = self.idle.borrow_mut().pop();
        match idle {
            Some(caller) => Ok(caller),
            None => {
                let connecting = Caller::connect(&self.client, self.namespace());
                let late =
                    |_| anyhow::anyhow!("no connection to the caller within {} s", CONNECT_TIMEOUT.as_secs());
                tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(late)?
            }
        }
    }

    /// Sends calls at the configured rate, forever. A slow call does not delay others.
    pub async fn send_steadily(self: Rc<Self>) {
        loop {
            let wanted = self.steady.borrow().clone();
            match wanted {
                None => self.steady_changed.notified().await,
                Some(steady) => {
                    tokio::select! {
                        () = self.clone().send_at(steady) => {}
                        () = self.steady_changed.notified() => {}
                    }
                }
            }
        }
    }

    async fn send_at(self: Rc<Self>, steady: Steady) {
        let mut ticks = interval(Duration::from_secs(1) / steady.rate.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            if self.under_way.get() >= MAX_CONCURRENT {
                self.log.borrow_mut().counts.late += 1;
                continue;
            }
            self.under_way.set(self.under_way.get() + 1);
            let (session, steady) = (self.clone(), steady.clone());
            spawn_local(async move {
                session.call(steady.delay, steady.status, "steady".into()).await;
                session.under_way.set(session.under_way.get() - 1);
            });
        }
    }
}
