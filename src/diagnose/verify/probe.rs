//! Requests that a probe sends for a check.

use std::collections::BTreeMap;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::base::names::PORT;
use crate::cluster::mesh::PodConnection;
use crate::sample::{Called, CallerAnswer, Calls, Message, Probe, Probed, ProducerAnswer};

/// The timeout of a check's request, in milliseconds, unless the check is about time.
const WITHIN_MILLIS: u64 = 10_000;
/// The timeout of each of several calls: less than what a check waits for an effect, so that it reports the last of them.
const CALL_WITHIN_MILLIS: u64 = 5_000;

/// A connection to a probe.
pub(super) struct Prober {
    connection: PodConnection,
    /// The pod's address.
    pub address: String,
}

/// The result of a message to a producer.
#[derive(Debug)]
pub(super) struct Outcome {
    pub probed: Probed,
    pub answer: Option<ProducerAnswer>,
}

impl Outcome {
    /// The status, 0 without a response.
    pub fn status(&self) -> u16 {
        self.probed.status.unwrap_or_default()
    }

    /// The producer's cluster.
    pub fn served_by(&self) -> &str {
        self.answer.as_ref().map(|answer| answer.metadata.cluster_name.as_str()).unwrap_or_default()
    }

    /// The producer's pod.
    pub fn pod(&self) -> &str {
        self.answer.as_ref().map(|answer| answer.metadata.host_name.as_str()).unwrap_or_default()
    }

    /// Returns a header as the producer received it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.as_ref()?.headers.get(name).map(String::as_str)
    }

    /// Describes it in a few words.
    pub fn describe(&self) -> String {
        let Probed { status, body, error, millis } = &self.probed;
        match (status, &self.answer) {
            (Some(status), Some(_)) => {
                format!("{status} from {} in {}, after {millis} ms", self.pod(), self.served_by())
            }
            (Some(status), None) => format!("{status} \"{}\" after {millis} ms", body.trim()),
            (None, _) => format!("no response after {millis} ms: {}", error.as_deref().unwrap_or("unknown")),
        }
    }
}

impl Prober {
    pub async fn open(client: &Client, namespace: &str, pod: &Pod) -> anyhow::Result<Self> {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        Ok(Self {
            connection: PodConnection::open(client, namespace, &pod.name_any(), PORT).await?,
            address: address.with_context(|| format!("pod {} has no address", pod.name_any()))?,
        })
    }

    /// Sends a message to a producer, by a Service's name or a pod's address.
    pub async fn message(&mut self, host: &str, message: Value) -> anyhow::Result<Outcome> {
        let probed = self.send(host, "/producer/messages", Some(message)).await?;
        Ok(Outcome { answer: serde_json::from_str(&probed.body).ok(), probed })
    }

    /// Sends a request from the pod, on a new connection.
    pub async fn send(&mut self, host: &str, path: &str, body: Option<Value>) -> anyhow::Result<Probed> {
        let probe = Probe {
            url: format!("http://{host}:{PORT}"),
            path: path.to_owned(),
            headers: BTreeMap::new(),
            body,
            timeout_millis: WITHIN_MILLIS,
        };
        self.connection.post("/probe/request", &[], &probe).await
    }

    /// Makes the pod call a host some times, in the message's protocol.
    pub async fn calls(&mut self, host: &str, message: Message, count: u32) -> anyhow::Result<Vec<Called>> {
        let calls = Calls { host: host.to_owned(), count, message, timeout_millis: CALL_WITHIN_MILLIS };
        self.connection.post("/probe/calls", &[], &calls).await
    }

    /// Makes the probe call like the sample caller, which forwards some headers.
    pub async fn call(&mut self, headers: &[(&str, &str)]) -> anyhow::Result<CallerAnswer> {
        self.connection.post("/caller/messages", headers, &json!({"freshConnection": true})).await
    }

    /// Returns how many messages this pod received as a producer through a Service.
    pub async fn received(&mut self, service: &str) -> anyhow::Result<u64> {
        let counts: BTreeMap<String, u64> = self.connection.get("/probe/counts").await?;
        Ok(counts.get(&format!("{service}:{PORT}")).copied().unwrap_or_default())
    }
}
