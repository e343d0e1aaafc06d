//! The queue between the work that sends events and the sink that reads them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::Event;

/// The number of unread events above which the oldest note or check is dropped. The number of other events is bounded by
/// the number of steps.
const CAPACITY: usize = 1000;

/// Events that were sent and are still unread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    unread: Mutex<Unread>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Unread {
    events: VecDeque<(Timestamp, Event)>,
    /// The number of notes and checks dropped since the last read.
    left_out: usize,
    ended: bool,
}

impl Queue {
    /// Adds an event. It replaces an unread event that it makes obsolete.
    pub fn push(&self, event: Event) {
        let mut unread = self.lock();
        if unread.ended {
            return;
        }
        if let Some(step) = waiting(&event) {
            // The new event goes to the end: between the two, the step may have ended and started again.
            unread.events.retain(|(_, unread)| waiting(unread) != Some(step));
        }
        unread.events.push_back((Timestamp::now(), event));
        if unread.events.len() > CAPACITY
            && let Some(oldest) = unread.events.iter().position(|(_, event)| may_give_way(event))
        {
            unread.events.remove(oldest);
            unread.left_out += 1;
        }
        drop(unread);
        self.changed.notify_one();
    }

    /// Ends the queue: later events are ignored.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unread {
    fn pop(&mut self) -> Option<(Timestamp, Event)> {
        match std::mem::take(&mut self.left_out) {
            0 => self.events.pop_front(),
            left_out => {
                let message = format!("{left_out} messages dropped: the reader was too slow");
                Some((Timestamp::now(), Event::Note { message }))
            }
        }
    }
}

/// Reports whether the number of such events is unbounded, however few steps the work has.
fn may_give_way(event: &Event) -> bool {
    matches!(event, Event::Note { .. } | Event::CheckStarted { .. } | Event::CheckFinished { .. })
}

/// Returns the step and cluster that a `waiting` event is about.
fn waiting(event: &Event) -> Option<(&str, Option<&str>)> {
    match event {
        Event::Waiting { step, cluster, .. } => Some((step, cluster.as_deref())),
        _ => None,
    }
}

/// The sending end of a channel. Dropping it ends the channel.
#[derive(Debug)]
pub(super) struct Sender(pub Arc<Queue>);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The receiving end of a channel. Once it is dropped, events are dropped too.
#[derive(Debug)]
pub struct Feed(Arc<Queue>);

impl Feed {
    pub(super) fn of(queue: Arc<Queue>) -> Self {
        Self(queue)
    }

    /// Waits for the next event and returns it with the time at which it happened, or `None` after the last one. It is
    /// cancel-safe: dropping it while it waits loses no event.
    pub async fn next(&mut self) -> Option<(Timestamp, Event)> {
        loop {
            {
                let mut unread = self.0.lock();
                let next = unread.pop();
                if next.is_some() || unread.ended {
                    return next;
                }
            }
            self.0.changed.notified().await;
        }
    }

    /// Like [`next`](Self::next), without the time.
    pub async fn recv(&mut self) -> Option<Event> {
        self.next().await.map(|(_, event)| event)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        *self.0.lock() = Unread { ended: true, ..Unread::default() };
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::Events;
    use super::*;

    fn waits(step: &str, cluster: &str, last: &str) -> Event {
        Event::Waiting {
            step: step.into(),
            cluster: Some(cluster.into()),
            r#for: "readiness".into(),
            last: last.into(),
        }
    }

    fn note(message: &str) -> Event {
        Event::Note { message: message.into() }
    }

    async fn rest(mut feed: Feed) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = feed.recv().await {
            events.push(event);
        }
        events
    }

    #[tokio::test]
    async fn stalled_reader_misses_only_replaced_waits() {
        let (events, feed) = Events::channel();
        for round in 0..100_000 {
            events.send(waits("istiod", "a", &format!("{round}")));
            events.send(waits("istiod", "b", &format!("{round}")));
        }
        events.send(note("one"));
        events.send(waits("istiod", "a", "ready"));
        events.send(note("two"));
        assert!(feed.0.lock().events.len() <= 4);
        events.end();
        let expected = [waits("istiod", "b", "99999"), note("one"), waits("istiod", "a", "ready"), note("two")];
        assert_eq!(rest(feed).await, expected);
    }

    #[tokio::test]
    async fn full_queue_drops_the_oldest_notes_but_no_steps() {
        let (events, feed) = Events::channel();
        let finished = |step: usize| Event::StepFinished {
            step: step.to_string(),
            cluster: None,
            seconds: 1.0,
            changed: true,
        };
        let ready =
            Event::Ready { seconds: 1.0, environment: "shop".into(), kubeconfig: "/shop/kubeconfig".into() };
        for number in 0..CAPACITY {
            events.note(number.to_string());
            events.send(finished(number));
        }
        events.note("the last note");
        events.send(ready.clone());
        events.end();
        let read = rest(feed).await;
        let left_out = format!("{} messages dropped: the reader was too slow", CAPACITY + 1);
        assert_eq!(read[0], note(&left_out));
        assert_eq!(read[1..=CAPACITY], (0..CAPACITY).map(finished).collect::<Vec<_>>());
        assert_eq!(read[CAPACITY + 1..], [ready]);
    }

    #[tokio::test]
    async fn event_carries_its_own_time() {
        let (events, mut feed) = Events::channel();
        let before = Timestamp::now();
        events.note("one");
        let after = Timestamp::now();
        let (time, _) = feed.next().await.unwrap();
        assert!((before..=after).contains(&time), "{before} {time} {after}");
    }

    #[tokio::test]
    async fn read_wait_is_followed_by_the_next() {
        let (events, mut feed) = Events::channel();
        for last in ["0 of 2", "1 of 2"] {
            events.send(waits("istiod", "a", last));
            assert_eq!(feed.recv().now_or_never(), Some(Some(waits("istiod", "a", last))));
        }
        assert_eq!(feed.recv().now_or_never(), None);
    }

    #[tokio::test]
    async fn waiting_reader_wakes_on_an_event_and_on_the_end() {
        let (events, feed) = Events::channel();
        let reader = tokio::spawn(rest(feed));
        tokio::task::yield_now().await;
        events.send(note("one"));
        tokio::task::yield_now().await;
        events.end();
        assert_eq!(reader.await.unwrap(), [note("one")]);
    }

    #[tokio::test]
    async fn no_event_after_the_end_and_none_kept_without_a_reader() {
        let (events, feed) = Events::channel();
        let leaked = events.clone();
        events.send(note("one"));
        events.end();
        leaked.send(note("late"));
        assert_eq!(rest(feed).await, [note("one")]);
        let (events, feed) = Events::channel();
        events.note("one");
        drop((events, leaked));
        assert_eq!(rest(feed).await, [note("one")]);
        let (events, feed) = Events::channel();
        let queue = feed.0.clone();
        events.send(note("unread"));
        drop(feed);
        events.send(note("later"));
        assert!(queue.lock().events.is_empty());
    }
}
