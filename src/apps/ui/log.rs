//! The calls of the dashboard: the last ones, and counters.

use std::collections::VecDeque;

use serde::Serialize;

use crate::cluster::call::Answer;

/// How many calls are kept: a minute at the maximum rate.
const KEPT: usize = 3000;

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its number, from 1.
    pub number: u64,
    /// When it was sent, in milliseconds since 1970.
    pub at: i64,
    /// The producer's status; 0 if the caller did not respond.
    pub status: u16,
    /// The time between the caller's request and the response.
    pub millis: u64,
    /// The cluster that responded.
    pub answered_by: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// The caller's identity, as the producer's proxy read it from the certificate.
    pub identity: Option<String>,
}

/// The counters of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Sent.
    pub sent: u64,
    /// Completed, with any result.
    pub ended: u64,
    /// Not sent in time, since too many were in flight.
    pub late: u64,
}

/// The last calls.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    /// The counters.
    pub counts: Counts,
}

impl Log {
    /// Adds a response of the caller.
    pub fn answered(&mut self, at: i64, answer: &Answer) -> Entry {
        self.keep(Entry {
            number: 0,
            at,
            status: answer.status_code,
            millis: answer.round_trip_time_millis,
            answered_by: answer.served_by().map(str::to_owned),
            reason: answer.reason.clone(),
            identity: answer.identity().map(str::to_owned),
        })
    }

    /// Adds a call to which the caller did not respond.
    pub fn unanswered(&mut self, at: i64, millis: u64, reason: String) -> Entry {
        let reason = Some(reason);
        self.keep(Entry { number: 0, at, status: 0, millis, answered_by: None, reason, identity: None })
    }

    fn keep(&mut self, entry: Entry) -> Entry {
        self.counts.ended += 1;
        let entry = Entry { number: self.counts.ended, ..entry };
        self.entries.push_back(entry.clone());
        if self.entries.len() > KEPT {
            self.entries.pop_front();
        }
        entry
    }

    /// Returns the calls after a number, the oldest first.
    pub fn after(&self, number: u64) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| entry.number > number).collect()
    }

    /// Returns the last call that a producer answered.
    pub fn last_answered(&self) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.answered_by.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_numbered_and_limited() {
        let mut log = Log::default();
        for at in 0..=KEPT as i64 {
            log.unanswered(at, 1, "no caller".into());
        }
        assert_eq!((log.entries.len(), log.entries[0].number), (KEPT, 2));
        let after: Vec<_> = log.after(KEPT as u64 - 1).iter().map(|entry| entry.number).collect();
        assert_eq!(after, [KEPT as u64, KEPT as u64 + 1]);
        assert_eq!(log.last_answered(), None);
    }
}
