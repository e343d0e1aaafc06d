//! Reading an experiment's file: strictly parsed, and every rule that needs no environment. Each problem has the position of the field.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::file::{
    Calls, Expect, Experiment, FaultName, Happening, Planned, Restart, Written, WrittenCalls, WrittenExpect,
    WrittenFault, policy,
};
use super::values::{percent, place, time};
use crate::base::error::Error;
use crate::cluster::fault::{self, Kind};
use crate::cluster::policies::Policy;
use crate::spec::{self, Label, Origins, Problem, Source};

/// How long calls are sent before the first fault: they show that nothing else is wrong.
pub(super) const BASELINE: Duration = Duration::from_secs(5);
/// The longest experiment.
const LONGEST: Duration = Duration::from_secs(900);
/// The largest rate: a probe is one pod with a small share of a CPU.
const MAX_QPS: u32 = 200;
/// The default timeout of a call: longer than the mesh's own, which answers with 504.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest timeout of a call: calls of the last second are waited for.
const MAX_CALL_TIMEOUT: Duration = Duration::from_secs(60);
const PORT: u16 = 80;

/// The problems of a file.
pub(super) struct Rules {
    origins: Origins,
    found: Vec<Problem>,
}

impl Rules {
    pub fn new(text: &str, shown: &str) -> Self {
        let mut origins = Origins::default();
        // The file has been parsed, so this only fails if two parsers differ; then errors have no position.
        let value: Value = spec::parse_file(text, shown).unwrap_or_default();
        origins.record(&value, &Arc::new(Source { shown: shown.to_owned(), text: text.to_owned() }));
        Self { origins, found: Vec::new() }
    }

    /// Adds a problem with a field: `what` continues after the field's path.
    fn add(&mut self, path: &str, what: impl AsRef<str>, hint: impl Into<String>) {
        let message = format!("{path} {}", what.as_ref());
        self.found.push(Problem::at(&self.origins, path, &message).hint(hint));
    }

    /// Reads a value; a problem says what is expected.
    fn read<T>(&mut self, path: &str, text: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        read(text).map_err(|expected| self.add(path, format!("is {text:?}"), expected)).ok()
    }

    /// Reads a time, which must be within bounds.
    fn time(&mut self, path: &str, text: &str, from: Duration, to: Duration) -> Option<Duration> {
        let read = self.read(path, text, time)?;
        if (from..=to).contains(&read) {
            return Some(read);
        }
        self.add(path, format!("is {}", shown(read)), format!("use a time from {} to {}", shown(from), shown(to)));
        None
    }

    pub fn report(self) -> Result<(), Error> {
        spec::report(self.found, "problems in the experiment")
    }
}

/// `10s`, as in a file.
pub(super) fn shown(time: Duration) -> String {
    match time.as_millis() {
        millis if millis.is_multiple_of(60_000) && millis > 0 => format!("{}m", millis / 60_000),
        millis if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

impl Experiment {
    /// Parses a file; `shown` names it in messages.
    ///
    /// # Errors
    /// A usage error with the position of what is wrong, and what is valid.
    pub fn parse(text: &str, shown: &str) -> Result<Self, Error> {
        let written: Written = spec::parse_file(text, shown)?;
        let mut rules = Rules::new(text, shown);
        let experiment = written.checked(&mut rules);
        rules.report()?;
        // None only if there is a problem.
        experiment.ok_or_else(|| Error::usage(format!("{shown} is not an experiment")))
    }
}

impl Written {
    /// Returns the experiment, or none if anything is wrong.
    pub fn checked(self, rules: &mut Rules) -> Option<Experiment> {
        for (index, need) in self.needs.iter().enumerate() {
            for (field, value) in [("region", &need.region), ("zone", &need.zone)] {
                value.as_ref().and_then(|value| rules.read(&format!("needs[{index}].{field}"), value, place));
            }
        }
        let calls = self.calls.checked(rules);
        let lasts = calls.as_ref().map_or(LONGEST, |calls| calls.lasts);
        let policies = checked_policies(&self.policies, rules);
        let mut faults = Vec::new();
        for (index, written) in self.faults.iter().enumerate() {
            let fault = written.checked(&format!("faults[{index}]"), lasts, rules);
            faults.extend(fault.inspect(|fault| safe_for_caller(index, fault, &self.calls.from, rules)));
        }
        alone(&faults, rules);
        let mut restarts = Vec::new();
        for (index, written) in self.restarts.iter().enumerate() {
            // There are calls after it.
            let latest = lasts.saturating_sub(Duration::from_secs(1));
            let at = rules.time(&format!("restarts[{index}].at"), &written.at, BASELINE, latest);
            restarts.extend(at.map(|at| Restart { at, cluster: written.cluster.as_ref().map(Label::to_string) }));
        }
        if self.faults.is_empty() && self.restarts.is_empty() {
            rules.add(
                "name",
                "has neither faults nor restarts",
                "add faults: [{at: 10s, fault: cut, for: 10s, …}]",
            );
        }
        let expect = self.expect.checked(rules);
        if let Some(calls) = &calls {
            long_enough(&expect, &faults, &restarts, calls.lasts, rules);
        }
        faults.sort_by_key(|fault| fault.at);
        restarts.sort_by_key(|restart| restart.at);
        let Written { name, description, needs, .. } = self;
        Some(Experiment { name, description, needs, calls: calls?, policies, faults, restarts, expect })
    }
}

impl WrittenCalls {
    fn checked(&self, rules: &mut Rules) -> Option<Calls> {
        let qps = rules.read("calls.qps", &self.qps, |text| {
            let number = text.parse().ok().filter(|number| (1..=MAX_QPS).contains(number));
            number.ok_or_else(|| format!("expected calls per second, a whole number from 1 to {MAX_QPS}"))
        });
        let lasts = rules.time("calls.for", &self.lasts, 2 * BASELINE, LONGEST);
        let timeout = match &self.timeout {
            Some(text) => rules.time("calls.timeout", text, Duration::from_millis(1), MAX_CALL_TIMEOUT),
            None => Some(CALL_TIMEOUT),
        };
        let host = match &self.host {
            Some(text) => Some(rules.read("calls.host", text, host)?),
            None => None,
        };
        if let Some(path) = self.path.as_ref().filter(|path| !path.starts_with('/') || path.contains([' ', '#'])) {
            rules.add("calls.path", format!("is {path:?}"), "use a path such as /healthz");
        }
        if let (Some(_), None) = (&host, &self.path) {
            rules.add("calls.host", "is set without a path", "add calls.path: the path to get, such as /");
        }
        Some(Calls {
            from: self.from.clone(),
            qps: qps?,
            lasts: lasts?,
            host,
            path: self.path.clone(),
            timeout: timeout?,
        })
    }
}

/// Reads `HOST` or `HOST:PORT`.
fn host(text: &str) -> Result<(String, u16), String> {
    let expected = || "expected a host such as reviews.shop:9080; the port is 80 if there is none".to_owned();
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port > 0).ok_or_else(expected)?),
        None => (text, PORT),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(valid) {
        return Err(expected());
    }
    Ok((name.to_owned(), port))
}

fn checked_policies(written: &[String], rules: &mut Rules) -> Vec<Policy> {
    let mut policies: Vec<Policy> = Vec::new();
    for (index, name) in written.iter().enumerate() {
        let path = format!("policies[{index}]");
        let Some(policy) = policy(name) else {
            let known: Vec<_> = Policy::all().iter().map(ToString::to_string).collect();
            rules.add(&path, format!("is {name:?}"), format!("use one of {}", known.join(", ")));
            continue;
        };
        let object = |policy: Policy| policy.replaces().unwrap_or(policy);
        match policies.iter().find(|other| object(**other) == object(policy)) {
            Some(other) if *other == policy => rules.add(&path, "is there twice", "remove one of them"),
            Some(other) => {
                rules.add(&path, format!("is {policy}, which replaces {other}"), "use only one of them");
            }
            None => policies.push(policy),
        }
    }
    policies
}

impl WrittenFault {
    fn checked(&self, path: &str, end: Duration, rules: &mut Rules) -> Option<Planned> {
        let at = rules.time(&format!("{path}.at"), &self.at, BASELINE, end);
        let lasts = rules.time(&format!("{path}.for"), &self.lasts, Duration::from_secs(1), fault::LONGEST);
        let what = self.what(path, rules);
        let (at, lasts) = (at?, lasts?);
        if at + lasts > end {
            let what = format!("ends at {}, after the last call at {}", shown(at + lasts), shown(end));
            rules.add(&format!("{path}.for"), what, "shorten it, or increase calls.for");
        }
        Some(Planned { at, lasts, what: what? })
    }

    /// Returns what it does. Fields that it needs must be there, and others must not.
    fn what(&self, path: &str, rules: &mut Rules) -> Option<Happening> {
        use FaultName::{Bandwidth, Cut, Delay, Jitter, KillCluster, KillIstiod, KillZone, Loss, Partition};
        let between = matches!(self.fault, Cut | Partition | Loss | Bandwidth | Delay | Jitter);
        let fields = [
            ("between", self.between.is_some(), between, "the two clusters, such as [cluster1, cluster2]"),
            (
                "cluster",
                self.cluster.is_some(),
                matches!(self.fault, KillCluster | KillIstiod),
                "a cluster, such as cluster1",
            ),
            ("zone", self.zone.is_some(), self.fault == KillZone, "a zone, such as zone1"),
            ("value", self.value.is_some(), between && !matches!(self.fault, Cut | Partition), self.value_hint()),
        ];
        let mut complete = true;
        let name = self.name();
        for (field, has, takes, what) in fields {
            match (has, takes) {
                (true, false) => rules.add(&format!("{path}.{field}"), format!("is not for {name}"), "remove it"),
                (false, true) => {
                    complete = false;
                    rules.add(
                        &format!("{path}.fault"),
                        format!("is {name}, without {field}"),
                        format!("add {field}: {what}"),
                    );
                }
                _ => {}
            }
        }
        if !complete {
            return None;
        }
        let value = format!("{path}.value");
        let text = self.value.as_deref().unwrap_or_default();
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let kind = match self.fault {
            Cut => Kind::Cut,
            Partition => Kind::Partition,
            Loss => Kind::Loss { percent: rules.read(&value, text, fault::percent)? },
            Bandwidth => Kind::Bandwidth { kilobits: rules.read(&value, text, fault::bandwidth)? },
            Delay => Kind::Delay { millis: millis(rules.read(&value, text, fault::latency)?) },
            Jitter => Kind::Jitter { millis: millis(rules.read(&value, text, fault::latency)?) },
            KillIstiod => Kind::KillIstiod,
            KillCluster => return Some(Happening::KillCluster(self.cluster.as_ref()?.to_string())),
            KillZone => {
                let zone = rules.read(&format!("{path}.zone"), self.zone.as_deref()?, place)?;
                return Some(Happening::KillZone(zone));
            }
        };
        let clusters = match (&self.between, &self.cluster) {
            (Some(between), _) if between.len() != 2 || between[0] == between[1] => {
                rules.add(
                    &format!("{path}.between"),
                    "does not name two clusters",
                    "use two, such as [cluster1, cluster2]",
                );
                return None;
            }
            (Some(between), _) => between.iter().map(Label::to_string).collect(),
            (None, cluster) => vec![cluster.as_ref()?.to_string()],
        };
        Some(Happening::Timed(kind, clusters))
    }

    fn name(&self) -> String {
        serde_json::to_value(self.fault).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
    }

    fn value_hint(&self) -> &'static str {
        match self.fault {
            FaultName::Loss => "the percentage of lost packets, such as 10%",
            FaultName::Bandwidth => "the rate, such as 1mbit",
            _ => "the time, such as 100ms",
        }
    }
}

/// A cluster whose nodes are down sends no calls.
fn safe_for_caller(index: usize, fault: &Planned, from: &Label, rules: &mut Rules) {
    if fault.what == Happening::KillCluster(from.to_string()) {
        let what = format!("is {from}, from which the calls are sent");
        rules.add(&format!("faults[{index}].cluster"), what, "kill another cluster, or call from another one");
    }
}

/// A second fault of the same kind in the same place replaces the first, so they must not overlap.
fn alone(faults: &[Planned], rules: &mut Rules) {
    let subject = |fault: &Planned| match &fault.what {
        Happening::Timed(kind, clusters) => {
            let mut clusters = clusters.clone();
            clusters.sort();
            format!("{} {}", kind.name(), clusters.join(" "))
        }
        // A node is killed once.
        Happening::KillCluster(_) | Happening::KillZone(_) => "kill".into(),
    };
    for (index, fault) in faults.iter().enumerate() {
        let overlaps = |other: &&Planned| {
            subject(other) == subject(fault)
                && other.at < fault.at + fault.lasts
                && fault.at < other.at + other.lasts
        };
        if faults[..index].iter().any(|other| overlaps(&other)) {
            rules.add(
                &format!("faults[{index}].at"),
                "is while the same fault is active",
                "let one end before the other begins",
            );
        }
    }
}

impl WrittenExpect {
    fn checked(&self, rules: &mut Rules) -> Expect {
        let mut limit = |path: &str, text: &Option<String>, from| {
            text.as_ref().and_then(|text| rules.time(path, text, from, LONGEST))
        };
        let p99 = limit("expect.p99", &self.p99, Duration::from_millis(1));
        let back = limit("expect.back", &self.back, Duration::ZERO);
        let back_after_end = limit("expect.backAfterEnd", &self.back_after_end, Duration::ZERO);
        let lost = self.lost.as_ref().and_then(|text| rules.read("expect.lost", text, percent));
        if [&self.lost, &self.p99, &self.back, &self.back_after_end].iter().all(|field| field.is_none()) {
            rules.add(
                "expect",
                "has no expectation",
                "add one of lost: 2%, p99: 300ms, back: 10s, backAfterEnd: 5s",
            );
        }
        Expect { lost, p99, back, back_after_end }
    }
}

/// Calls must go on for as long as they may be lost; otherwise nothing would be seen of the time after that.
fn long_enough(expect: &Expect, faults: &[Planned], restarts: &[Restart], lasts: Duration, rules: &mut Rules) {
    let begins = faults.iter().map(|fault| fault.at).chain(restarts.iter().map(|restart| restart.at));
    let last_begin = begins.max().unwrap_or_default();
    let last_end = faults.iter().map(|fault| fault.at + fault.lasts).max();
    let checks = [
        ("expect.back", expect.back, Some(last_begin), "begin"),
        ("expect.backAfterEnd", expect.back_after_end, last_end, "end"),
    ];
    for (path, limit, last, which) in checks {
        let (Some(limit), Some(last)) = (limit, last) else { continue };
        if last + limit >= lasts {
            let what = format!(
                "is {}, but calls are sent for {} after the last {which} of a fault",
                shown(limit),
                shown(lasts.saturating_sub(last))
            );
            rules.add(path, what, format!("set calls.for to more than {}", shown(last + limit)));
        }
    }
    if expect.back_after_end.is_some() && last_end.is_none() {
        rules.add(
            "expect.backAfterEnd",
            "is set, but no fault ends",
            "use back, which counts from a begin, or add a fault",
        );
    }
}
