//! How a wait handles requests that an API server refuses: some refusals are temporary, some are temporary only for a
//! known reason, and the rest are permanent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::core::Status;
use kube::core::response::StatusSummary;
use tokio::time::Instant;

use crate::base::error::{self, Error};
use crate::base::wait::Poll;

/// How long a request is retried when its refusal needs a reason, and how long an API server counts as just started.
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a refusal is temporary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may be temporary: the server is starting or overloaded, or a webhook's pod is starting.
    Temporary,
    /// It is temporary only for a recorded reason.
    NeedsReason,
    /// It is permanent.
    Permanent,
}

/// A rule for a kind of refusal.
struct Rule {
    /// The range of status codes.
    codes: (u16, u16),
    /// Fragments of which the message must contain one; empty if the status code alone decides.
    says: &'static [&'static str],
    verdict: Class,
}

const fn rule(codes: (u16, u16), says: &'static [&'static str], verdict: Class) -> Rule {
    Rule { codes, says, verdict }
}

const ANY: (u16, u16) = (0, u16::MAX);

/// The first rule that matches decides. A refusal that matches none is permanent.
const RULES: &[Rule] = &[
    // A webhook that cannot be reached, or whose certificate the server does not trust yet.
    rule(ANY, &["failed calling webhook", "conversion webhook for"], Class::Temporary),
    rule(ANY, &["denied the request"], Class::Permanent),
    // Messages of server-side apply, with status 500, about an object that does not match its schema.
    rule(
        (500, 500),
        &[
            "failed to create typed patch object",
            "field not declared in schema",
            "cannot convert",
            "failed to convert",
            "unable to convert",
        ],
        Class::Permanent,
    ),
    // Pods are found by label and then read by name: a missing pod was replaced, and a kubelet that has just started does
    // not know its own pods yet.
    rule((404, 404), &["pods \"", "pod not found (\"", "pod does not exist"], Class::Temporary),
    // Right after its start, the server knows neither its own roles nor all kinds, and it serves a new namespace or kind
    // only after a short delay.
    rule((401, 401), &[], Class::NeedsReason),
    rule((403, 404), &[], Class::NeedsReason),
    rule((409, 409), &[], Class::Temporary),
    rule((429, 429), &[], Class::Temporary),
    rule((500, 599), &[], Class::Temporary),
];

/// Returns whether a refusal is temporary.
pub fn classify(status: &Status) -> Class {
    let fits = |rule: &&Rule| {
        let (from, to) = rule.codes;
        let says = |part: &&str| status.message.contains(*part);
        (from..=to).contains(&status.code) && (rule.says.is_empty() || rule.says.iter().any(says))
    };
    RULES.iter().find(fits).map_or(Class::Permanent, |rule| rule.verdict)
}

/// Reports whether a request failed in transport, so that it may not even have reached the API server.
pub fn is_transport(error: &kube::Error) -> bool {
    matches!(
        error,
        kube::Error::HyperError(_)
            | kube::Error::Service(_)
            | kube::Error::ReadEvents(_)
            | kube::Error::UpgradeConnection(_)
    )
}

/// A reason why a refusal may be temporary: a recent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The API server started or was unreachable.
    ApiServer,
    /// This run applied this namespace.
    Namespace(String),
    /// This run applied the CRD of this kind.
    Definition(String),
    /// This run created the Secret of this name, which Kubernetes fills with a token.
    Token(String),
}

impl Reason {
    /// Reports whether it explains this refusal.
    fn explains(&self, status: &Status) -> bool {
        let says = |part: &str| status.message.contains(part);
        match self {
            Reason::ApiServer => true,
            Reason::Namespace(name) => says(&format!("\"{name}\"")) || says(&format!(" {name}/")),
            // The path of a kind that is not served yet is unknown to the server.
            Reason::Definition(kind) => {
                status.code == 404
                    && (says(kind) || says("404 page not found") || says("could not find the requested resource"))
            }
            Reason::Token(name) => status.code == 401 || says(name),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::ApiServer => f.write_str("the API server had just started"),
            Reason::Namespace(name) => write!(f, "this run had just applied namespace {name}"),
            Reason::Definition(kind) => write!(f, "this run had just applied the CRD of {kind}"),
            Reason::Token(name) => write!(f, "this run had just created the token {name}"),
        }
    }
}

/// The recent events in one cluster that explain refusals in this run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Vec<(Reason, Instant)>>>);

impl Record {
    /// Records that this happened now.
    pub fn note(&self, reason: Reason) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|(earlier, _)| *earlier != reason);
        noted.push((reason, Instant::now()));
    }

    /// Returns the recorded reason for a refusal, if any. A start of the API server counts only for a while.
    fn explains(&self, status: &Status) -> Option<Reason> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = |(reason, at): &&(Reason, Instant)| {
            (*reason != Reason::ApiServer || at.elapsed() < RETRY_TIMEOUT) && reason.explains(status)
        };
        noted.iter().find(counts).map(|(reason, _)| reason.clone())
    }
}

/// The records of an environment's clusters, by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Records(Arc<Mutex<BTreeMap<String, Record>>>);

impl Records {
    /// Returns the record of a cluster.
    pub fn of(&self, cluster: &str) -> Record {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(cluster.to_owned()).or_default().clone()
    }
}

/// The decision of a wait about one refusal.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// A retry may help.
    Retry,
    /// A retry does not help. Contains the reason for earlier retries.
    GiveUp(Option<Reason>),
}

/// The refusals of one wait.
#[derive(Debug)]
pub struct Retries<'a> {
    record: &'a Record,
    /// The time of the first refusal that needed a reason, and that reason.
    refused: Option<(Instant, Reason)>,
}

impl<'a> Retries<'a> {
    /// Creates the state for a new wait; `record` is that of the cluster.
    pub fn new(record: &'a Record) -> Self {
        Self { record, refused: None }
    }

    /// Decides whether to retry a failed request.
    pub fn judge(&mut self, error: &kube::Error) -> Decision {
        let status = match error {
            error if is_transport(error) => {
                // If a server is unreachable now, it has just started once it responds.
                self.record.note(Reason::ApiServer);
                self.refused = None;
                return Decision::Retry;
            }
            kube::Error::Api(status) => status,
            _ => return Decision::GiveUp(None),
        };
        match classify(status) {
            Class::Temporary => Decision::Retry,
            Class::NeedsReason => self.decide_with_reason(status),
            Class::Permanent => Decision::GiveUp(None),
        }
    }

    fn decide_with_reason(&mut self, status: &Status) -> Decision {
        if let Some((since, reason)) = &self.refused
            && since.elapsed() >= RETRY_TIMEOUT
        {
            return Decision::GiveUp(Some(reason.clone()));
        }
        match (self.record.explains(status), &self.refused) {
            (Some(_), Some(_)) => Decision::Retry,
            (Some(reason), None) => {
                self.refused = Some((Instant::now(), reason));
                Decision::Retry
            }
            (None, refused) => Decision::GiveUp(refused.as_ref().map(|(_, reason)| reason.clone())),
        }
    }

    /// Returns the result of a condition after a failed request: not yet, or the end of the wait for `what`.
    ///
    /// # Errors
    /// If the refusal is permanent or lasted too long, with the reason for the retries.
    pub fn failed<T>(&mut self, what: &str, error: impl Into<anyhow::Error>) -> anyhow::Result<Poll<T>> {
        let error = error.into();
        // Any other error is just the last status, such as a command that failed in a pod.
        let answer = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<kube::Error>())
            .map_or(Decision::Retry, |error| self.judge(error));
        Self::poll(what, error::brief(error), answer)
    }

    /// The same for an object that was not found: it counts as a refusal with status 404.
    ///
    /// # Errors
    /// See [`Retries::failed`].
    pub fn absent<T>(&mut self, what: &str, because: String) -> anyhow::Result<Poll<T>> {
        let status = Status {
            status: Some(StatusSummary::Failure),
            code: 404,
            message: because.clone(),
            ..Status::default()
        };
        let answer = self.decide_with_reason(&status);
        Self::poll(what, because, answer)
    }

    fn poll<T>(what: &str, said: String, answer: Decision) -> anyhow::Result<Poll<T>> {
        match answer {
            Decision::Retry => Ok(Poll::NotYet(said)),
            Decision::GiveUp(reason) => {
                let error = Error::environment(format!("gave up waiting for {what}: retrying does not help"));
                Err(with_retries(error.evidence(format!("last status: {said}")), reason.as_ref()).into())
            }
        }
    }
}

/// Adds the reason for earlier retries to an error, if there were any.
pub fn with_retries(error: Error, reason: Option<&Reason>) -> Error {
    match reason {
        Some(reason) => {
            error.evidence(format!("retried for up to {} s because {reason}", RETRY_TIMEOUT.as_secs()))
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Status {
        Status::failure(message, "").with_code(code)
    }

    fn refused(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(status(code, message).boxed())
    }

    #[test]
    fn recorded_refusals_are_classified() {
        for line in include_str!("refusal/recorded.txt").lines().filter(|line| !line.starts_with('#')) {
            let mut parts = line.splitn(3, ' ');
            let (verdict, code, message) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let found = classify(&status(code.parse().unwrap(), message));
            assert_eq!(format!("{found:?}"), verdict, "{code} {message}");
        }
    }

    #[test]
    fn refusal_without_a_known_reason_ends_at_once() {
        let record = Record::default();
        let forbidden = refused(403, "pods is forbidden: User \"kubernetes-admin\" cannot list resource \"pods\"");
        assert_eq!(Retries::new(&record).judge(&forbidden), Decision::GiveUp(None));
        // After a transport error, the API server counts as just started once it responds.
        let mut retries = Retries::new(&record);
        assert_eq!(retries.judge(&kube::Error::Service("connection refused".into())), Decision::Retry);
        assert_eq!(retries.judge(&forbidden), Decision::Retry);
        // It is retried for 10 s, and the error names the reason.
        retries.refused = Some((Instant::now() - RETRY_TIMEOUT, Reason::ApiServer));
        assert_eq!(retries.judge(&forbidden), Decision::GiveUp(Some(Reason::ApiServer)));
        let ended = retries.failed::<()>("istiod to be ready", forbidden).unwrap_err();
        let told = &error::find(&ended).unwrap().evidence;
        assert!(told[1].ends_with("the API server had just started"), "{told:?}");
    }

    #[test]
    fn api_server_start_is_a_reason_only_for_a_while() {
        let record = Record::default();
        record.0.lock().unwrap().push((Reason::ApiServer, Instant::now() - RETRY_TIMEOUT));
        let judged = Retries::new(&record).judge(&refused(401, "Unauthorized"));
        assert_eq!(judged, Decision::GiveUp(None));
        record.note(Reason::ApiServer);
        assert_eq!(record.0.lock().unwrap().len(), 1);
        // All clones share the record of a cluster.
        let records = Records::default();
        records.of("cluster1").note(Reason::ApiServer);
        let noted = |cluster: &str| records.of(cluster).0.lock().unwrap().len();
        assert_eq!((noted("cluster1"), noted("cluster2")), (1, 0));
        assert_eq!(Retries::new(&record).judge(&refused(401, "Unauthorized")), Decision::Retry);
    }

    #[test]
    fn reasons_explain_only_matching_refusals() {
        let record = Record::default();
        record.note(Reason::Namespace("shop".into()));
        record.note(Reason::Definition("Telemetry".into()));
        let answers = |code, message: &str| Retries::new(&record).judge(&refused(code, message));
        assert_eq!(answers(404, "namespaces \"shop\" not found"), Decision::Retry);
        let account = "a is forbidden: error looking up service account shop/default: serviceaccount not found";
        assert_eq!(answers(403, account), Decision::Retry);
        assert_eq!(answers(404, "404 page not found"), Decision::Retry);
        assert_eq!(answers(404, "namespaces \"shops\" not found"), Decision::GiveUp(None));
        assert_eq!(answers(401, "Unauthorized"), Decision::GiveUp(None));
        let mut retries = Retries::new(&record);
        assert!(retries.absent::<()>("kinds", "the API server does not know Telemetry yet".into()).is_ok());
        assert!(retries.absent::<()>("kinds", "the API server does not know Wasm yet".into()).is_err());
    }

    #[test]
    fn other_errors_are_retried_with_their_message() {
        let record = Record::default();
        let mut retries = Retries::new(&record);
        let seen = retries.failed::<()>("the call to succeed", anyhow::anyhow!("no caller is ready")).unwrap();
        assert!(matches!(seen, Poll::NotYet(because) if because == "no caller is ready"));
        // The API server's error is found below any context.
        let error = anyhow::Error::from(refused(422, "Deployment is invalid")).context("applying");
        assert!(retries.failed::<()>("the call to succeed", error).is_err());
    }
}
