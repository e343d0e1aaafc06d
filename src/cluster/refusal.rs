//! What a wait makes of an API server that does not do as it is asked: some refusals pass by themselves, some only
//! when there is a reason for them that passes, and the rest stays however often it is asked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::core::Status;
use kube::core::response::StatusSummary;
use tokio::time::Instant;

use crate::base::error::{self, Error};
use crate::base::wait::Poll;

/// How long a refusal that needs a reason is asked again, and how long an API server counts as one that has just started.
const PASSES_WITHIN: Duration = Duration::from_secs(10);

/// Whether a refusal passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass by itself: the server starts or has too much to do, a webhook's pod is on its way.
    Passes,
    /// It passes only when there is a reason on record.
    WithReason,
    /// It stays.
    Stays,
}

/// A kind of refusal.
struct Rule {
    /// From which status to which.
    codes: (u16, u16),
    /// Parts of the message, of which one has to be there; none where the status decides.
    says: &'static [&'static str],
    verdict: Verdict,
}

const fn rule(codes: (u16, u16), says: &'static [&'static str], verdict: Verdict) -> Rule {
    Rule { codes, says, verdict }
}

const ANY: (u16, u16) = (0, u16::MAX);

/// The first that fits decides; what none fits stays.
const RULES: &[Rule] = &[
    // A webhook that cannot be reached, or whose certificate the server does not know yet.
    rule(ANY, &["failed calling webhook", "conversion webhook for"], Verdict::Passes),
    rule(ANY, &["denied the request"], Verdict::Stays),
    // What server-side apply says, with status 500, of an object that does not fit its schema.
    rule(
        (500, 500),
        &[
            "failed to create typed patch object",
            "field not declared in schema",
            "cannot convert",
            "failed to convert",
            "unable to convert",
        ],
        Verdict::Stays,
    ),
    // Pods are found by label and then asked by name: one that is gone was replaced, and a kubelet that has just started
    // has yet to learn of its own.
    rule((404, 404), &["pods \"", "pod not found (\"", "pod does not exist"], Verdict::Passes),
    // Right after its start the server knows neither its own roles nor all kinds, and it takes up a new namespace or
    // kind a moment after it was made.
    rule((401, 401), &[], Verdict::WithReason),
    rule((403, 404), &[], Verdict::WithReason),
    rule((409, 409), &[], Verdict::Passes),
    rule((429, 429), &[], Verdict::Passes),
    rule((500, 599), &[], Verdict::Passes),
];

/// Whether what an API server answered passes.
pub fn classify(status: &Status) -> Verdict {
    let fits = |rule: &&Rule| {
        let (from, to) = rule.codes;
        let says = |part: &&str| status.message.contains(*part);
        (from..=to).contains(&status.code) && (rule.says.is_empty() || rule.says.iter().any(says))
    };
    RULES.iter().find(fits).map_or(Verdict::Stays, |rule| rule.verdict)
}

/// Whether a call failed on its way, so that the API server may not even have been asked.
pub fn is_transport(error: &kube::Error) -> bool {
    matches!(
        error,
        kube::Error::HyperError(_)
            | kube::Error::Service(_)
            | kube::Error::ReadEvents(_)
            | kube::Error::UpgradeConnection(_)
    )
}

/// Why a refusal may pass: what happened a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The API server started, or could not be reached.
    ApiServer,
    /// This run applied this namespace.
    Namespace(String),
    /// This run defined this kind.
    Definition(String),
    /// This run made the Secret of this name, which Kubernetes fills with a token.
    Token(String),
}

impl Reason {
    /// Whether it is one for this refusal.
    fn explains(&self, status: &Status) -> bool {
        let says = |part: &str| status.message.contains(part);
        match self {
            Reason::ApiServer => true,
            Reason::Namespace(name) => says(&format!("\"{name}\"")) || says(&format!(" {name}/")),
            // The path of a kind that is not served yet is one that the server does not know.
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
            Reason::Definition(kind) => write!(f, "this run had just defined the kind {kind}"),
            Reason::Token(name) => write!(f, "this run had just made the token {name}"),
        }
    }
}

/// What happened to one cluster in this run that explains refusals. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Vec<(Reason, Instant)>>>);

impl Record {
    /// Puts on record that this happened now.
    pub fn note(&self, reason: Reason) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|(earlier, _)| *earlier != reason);
        noted.push((reason, Instant::now()));
    }

    /// The reason on record for a refusal, if there is one. That the API server started is one for a while only.
    fn explains(&self, status: &Status) -> Option<Reason> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = |(reason, at): &&(Reason, Instant)| {
            (*reason != Reason::ApiServer || at.elapsed() < PASSES_WITHIN) && reason.explains(status)
        };
        noted.iter().find(counts).map(|(reason, _)| reason.clone())
    }
}

/// The records of an environment's clusters, by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Records(Arc<Mutex<BTreeMap<String, Record>>>);

impl Records {
    /// That of a cluster.
    pub fn of(&self, cluster: &str) -> Record {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(cluster.to_owned()).or_default().clone()
    }
}

/// What a wait makes of one refusal.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Asking again may help.
    AskAgain,
    /// It does not; with the reason for which it was asked again until now.
    GiveUp(Option<Reason>),
}

/// The refusals of one wait.
#[derive(Debug)]
pub struct Patience<'a> {
    record: &'a Record,
    /// Since when it is refused what only a reason makes pass, and which one that is.
    refused: Option<(Instant, Reason)>,
}

impl<'a> Patience<'a> {
    /// That of a wait that begins; `record` is that of the cluster which is asked.
    pub fn new(record: &'a Record) -> Self {
        Self { record, refused: None }
    }

    /// Whether to ask again after a call that failed.
    pub fn judge(&mut self, error: &kube::Error) -> Answer {
        let status = match error {
            error if is_transport(error) => {
                // Who cannot be reached now has just started when it answers.
                self.record.note(Reason::ApiServer);
                self.refused = None;
                return Answer::AskAgain;
            }
            kube::Error::Api(status) => status,
            _ => return Answer::GiveUp(None),
        };
        match classify(status) {
            Verdict::Passes => Answer::AskAgain,
            Verdict::WithReason => self.with_reason(status),
            Verdict::Stays => Answer::GiveUp(None),
        }
    }

    fn with_reason(&mut self, status: &Status) -> Answer {
        if let Some((since, reason)) = &self.refused
            && since.elapsed() >= PASSES_WITHIN
        {
            return Answer::GiveUp(Some(reason.clone()));
        }
        match (self.record.explains(status), &self.refused) {
            (Some(_), Some(_)) => Answer::AskAgain,
            (Some(reason), None) => {
                self.refused = Some((Instant::now(), reason));
                Answer::AskAgain
            }
            (None, refused) => Answer::GiveUp(refused.as_ref().map(|(_, reason)| reason.clone())),
        }
    }

    /// What a condition answers after a call that failed: not yet, or the end of the wait for `what`.
    ///
    /// # Errors
    /// When it does not pass, or did not in time, with the reason for which it might have.
    pub fn failed<T>(&mut self, what: &str, error: impl Into<anyhow::Error>) -> anyhow::Result<Poll<T>> {
        let error = error.into();
        // What is not an API server's answer is what was seen, such as a command that failed in a pod.
        let answer = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<kube::Error>())
            .map_or(Answer::AskAgain, |error| self.judge(error));
        Self::answer(what, error::brief(error), answer)
    }

    /// The same where the answer was that something is not there: it counts as a refusal with status 404.
    ///
    /// # Errors
    /// As [`Patience::failed`].
    pub fn absent<T>(&mut self, what: &str, because: String) -> anyhow::Result<Poll<T>> {
        let status = Status {
            status: Some(StatusSummary::Failure),
            code: 404,
            message: because.clone(),
            ..Status::default()
        };
        let answer = self.with_reason(&status);
        Self::answer(what, because, answer)
    }

    fn answer<T>(what: &str, said: String, answer: Answer) -> anyhow::Result<Poll<T>> {
        match answer {
            Answer::AskAgain => Ok(Poll::NotYet(said)),
            Answer::GiveUp(reason) => {
                let error = Error::environment(format!("{what}: waiting longer does not help"));
                Err(asked_again(error.evidence(format!("last seen: {said}")), reason.as_ref()).into())
            }
        }
    }
}

/// Says in an error why it was asked again before, if it was.
pub fn asked_again(error: Error, reason: Option<&Reason>) -> Error {
    match reason {
        Some(reason) => {
            error.evidence(format!("asked again for up to {} s, since {reason}", PASSES_WITHIN.as_secs()))
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
    fn recorded_refusals_are_told_apart() {
        for line in include_str!("refusal/recorded.txt").lines().filter(|line| !line.starts_with('#')) {
            let mut parts = line.splitn(3, ' ');
            let (verdict, code, message) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let found = classify(&status(code.parse().unwrap(), message));
            assert_eq!(format!("{found:?}"), verdict, "{code} {message}");
        }
    }

    #[test]
    fn what_needs_a_reason_ends_at_once_without_one() {
        let record = Record::default();
        let forbidden = refused(403, "pods is forbidden: User \"kubernetes-admin\" cannot list resource \"pods\"");
        assert_eq!(Patience::new(&record).judge(&forbidden), Answer::GiveUp(None));
        // A call that failed on its way tells that the API server has just started when it answers.
        let mut patience = Patience::new(&record);
        assert_eq!(patience.judge(&kube::Error::Service("connection refused".into())), Answer::AskAgain);
        assert_eq!(patience.judge(&forbidden), Answer::AskAgain);
        // It is asked again for 10 s, and the reason is told.
        patience.refused = Some((Instant::now() - PASSES_WITHIN, Reason::ApiServer));
        assert_eq!(patience.judge(&forbidden), Answer::GiveUp(Some(Reason::ApiServer)));
        let ended = patience.failed::<()>("istiod to be ready", forbidden).unwrap_err();
        let told = &error::find(&ended).unwrap().evidence;
        assert!(told[1].ends_with("the API server had just started"), "{told:?}");
    }

    #[test]
    fn a_start_is_no_reason_for_ever() {
        let record = Record::default();
        record.0.lock().unwrap().push((Reason::ApiServer, Instant::now() - PASSES_WITHIN));
        let judged = Patience::new(&record).judge(&refused(401, "Unauthorized"));
        assert_eq!(judged, Answer::GiveUp(None));
        record.note(Reason::ApiServer);
        assert_eq!(record.0.lock().unwrap().len(), 1);
        // Whoever asks for a cluster's record gets the same.
        let records = Records::default();
        records.of("cluster1").note(Reason::ApiServer);
        let noted = |cluster: &str| records.of(cluster).0.lock().unwrap().len();
        assert_eq!((noted("cluster1"), noted("cluster2")), (1, 0));
        assert_eq!(Patience::new(&record).judge(&refused(401, "Unauthorized")), Answer::AskAgain);
    }

    #[test]
    fn a_reason_explains_what_it_is_about() {
        let record = Record::default();
        record.note(Reason::Namespace("shop".into()));
        record.note(Reason::Definition("Telemetry".into()));
        let answers = |code, message: &str| Patience::new(&record).judge(&refused(code, message));
        assert_eq!(answers(404, "namespaces \"shop\" not found"), Answer::AskAgain);
        let account = "a is forbidden: error looking up service account shop/default: serviceaccount not found";
        assert_eq!(answers(403, account), Answer::AskAgain);
        assert_eq!(answers(404, "404 page not found"), Answer::AskAgain);
        assert_eq!(answers(404, "namespaces \"shops\" not found"), Answer::GiveUp(None));
        assert_eq!(answers(401, "Unauthorized"), Answer::GiveUp(None));
        let mut patience = Patience::new(&record);
        assert!(patience.absent::<()>("kinds", "the API server does not know Telemetry yet".into()).is_ok());
        assert!(patience.absent::<()>("kinds", "the API server does not know Wasm yet".into()).is_err());
    }

    #[test]
    fn what_is_no_answer_of_an_api_server_is_what_was_seen() {
        let record = Record::default();
        let mut patience = Patience::new(&record);
        let seen = patience.failed::<()>("a call to cross", anyhow::anyhow!("no caller is ready")).unwrap();
        assert!(matches!(seen, Poll::NotYet(because) if because == "no caller is ready"));
        // Through every context.
        let error = anyhow::Error::from(refused(422, "Deployment is invalid")).context("applying");
        assert!(patience.failed::<()>("a call to cross", error).is_err());
    }
}
