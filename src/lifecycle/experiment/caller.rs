//! Who sends the calls: a probe with a proxy, in a namespace of its own in the caller's cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::file::Calls;
use crate::base::error::Error;
use crate::base::event::{Events, Outcome, Step};
use crate::base::names::{PORT, PRODUCER_NAME};
use crate::base::wait::{self, Poll};
use crate::cluster::environment::Environment;
use crate::cluster::mesh::PodConnection;
use crate::cluster::mesh::apply::Applier;
use crate::cluster::probes::Probe;
use crate::cluster::refusal::Record;
use crate::cluster::rollout::Workload;
use crate::cluster::{lease, pods, workloads};
use crate::diagnose::diagnosis::waits;
use crate::sample::{self, Load, LoadProgress, Probed};
use crate::spec;

/// The value of the part-of label of everything that an experiment creates.
const PART_OF: &str = "kindmesh-experiment";
/// The probe.
const CALLER: Probe = Probe { name: "caller", replicas: 1, meshed: true, label: None };
/// Longer than the longest experiment with its setup.
const LEASE: Duration = Duration::from_secs(3600);
/// How many calls in a row have to be answered before an experiment begins: endpoints reach the proxy one after another.
const ANSWERS: u32 = 5;
/// The timeout of one request to the probe.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the probe may be unreachable: its API server is busy when a node starts next to it.
const SILENCE: Duration = Duration::from_secs(20);

/// The probe of an experiment.
pub(super) struct Caller {
    namespace: String,
    cluster: spec::Cluster,
    client: Client,
    record: Record,
    image: String,
    host: String,
    port: u16,
    calls: Calls,
}

impl Caller {
    /// Connects to the cluster; creates nothing yet.
    pub async fn open(environment: &Environment, calls: &Calls) -> anyhow::Result<Self> {
        let samples = &environment.spec.samples;
        let from = calls.from.as_str();
        let source = samples.caller.clusters.first().filter(|_| samples.enabled).ok_or_else(|| {
            Error::usage("this environment has no samples, and the calls of an experiment use their image")
                .hint("set samples.enabled: true in its spec, then kindmesh up")
        })?;
        let image = workloads::sample_image(&environment.client(source.as_str()).await?, environment).await?;
        let (host, port) = match &calls.host {
            Some((host, port)) => (host.clone(), *port),
            // The name of the Service in another namespace: the probe is not in that of the samples.
            None => (format!("{PRODUCER_NAME}.{}", samples.namespace), PORT),
        };
        Ok(Self {
            namespace: format!("{PART_OF}-{:x}", jiff::Timestamp::now().as_millisecond()),
            cluster: environment.cluster(from)?.clone(),
            client: environment.client(from).await?,
            record: environment.record(from),
            image,
            host,
            port,
            calls: calls.clone(),
        })
    }

    /// Returns what is called.
    pub fn url(&self) -> String {
        let path = self.calls.path.as_deref().unwrap_or("/producer/messages");
        format!("http://{}:{}{path}", self.host, self.port)
    }

    /// Deletes what killed runs left, creates the namespace, and waits until calls of the probe are answered.
    pub async fn create(&self, events: &Events, deadline: Instant) -> anyhow::Result<()> {
        events
            .step("probes", None)
            .run(async |step| {
                lease::sweep(&self.client, PART_OF).await;
                let mut objects = vec![lease::namespace(&self.namespace, PART_OF, LEASE)?];
                objects.extend(CALLER.objects(&self.namespace, &self.image, &self.cluster)?);
                Applier::new(self.client.clone(), step, deadline).recording(&self.record).apply(objects).await?;
                let workload = Workload::deployment(&self.namespace, CALLER.name);
                waits::workload(&self.client, &workload, &self.record, step, deadline).await?;
                self.answered(step, deadline).await?;
                Ok(Outcome::changed(()))
            })
            .await
    }

    /// Waits until several calls in a row are answered.
    async fn answered(&self, step: &Step, deadline: Instant) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let probe = sample::Probe {
            url: format!("http://{}:{}", self.host, self.port),
            path: self.calls.path.clone().unwrap_or_else(|| "/producer/messages".into()),
            headers: BTreeMap::new(),
            body: self.calls.path.is_none().then(|| json!({})),
            timeout_millis: u64::try_from(RESPONSE_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        };
        let mut answers = 0;
        let what = format!("{ANSWERS} calls of {} in a row to be answered with 200", self.url());
        wait::until(step, &what, deadline, async || {
            let probed: Probed = connection.post("/probe/request", &[], &probe).await?;
            if probed.status == Some(200) {
                answers += 1;
                return Ok(match answers {
                    ANSWERS.. => Poll::Ready(()),
                    _ => Poll::NotYet(format!("{answers} answered")),
                });
            }
            answers = 0;
            Ok(Poll::NotYet(match (probed.status, probed.error) {
                (Some(status), _) => format!("{status} {}", probed.body.trim()),
                (None, error) => error.unwrap_or_default(),
            }))
        })
        .await
        .context("calls fail although no fault is active")
    }

    async fn connect(&self) -> anyhow::Result<PodConnection> {
        let found = pods::ready(&self.client, &self.namespace, &format!("app={}", CALLER.name)).await?;
        let pod = found.first().with_context(|| format!("no probe is ready in {}", self.cluster.name))?;
        PodConnection::open(&self.client, &self.namespace, &pod.name_any(), PORT).await
    }

    /// Starts the calls.
    pub async fn start(&self) -> anyhow::Result<Watched<'_>> {
        let mut connection = self.connect().await?;
        let load = Load {
            host: self.host.clone(),
            port: self.port,
            path: self.calls.path.clone(),
            qps: self.calls.qps,
            count: self.calls.count(),
            timeout_millis: u64::try_from(self.calls.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let started = connection.start("/probe/load", &load).await;
        started
            .context("starting the calls (samples of an earlier kindmesh cannot: update them with kindmesh up)")?;
        Ok(Watched { caller: self, connection: Some(connection), since: Instant::now() })
    }

    /// Deletes the namespace and waits until it is gone.
    pub async fn remove(&self) -> anyhow::Result<()> {
        lease::delete(&self.client, &self.namespace).await?;
        lease::gone(&self.client, &self.namespace, self.cluster.name.as_str()).await
    }
}

/// Calls that are being sent.
pub(super) struct Watched<'a> {
    caller: &'a Caller,
    connection: Option<PodConnection>,
    /// When the probe last responded.
    since: Instant,
}

impl Watched<'_> {
    /// Returns the progress since the calls that are known, or none if the probe does not respond for a moment.
    ///
    /// # Errors
    /// If it has not responded for 20 s.
    pub async fn progress(&mut self, known: usize) -> anyhow::Result<Option<LoadProgress>> {
        let asked = tokio::time::timeout(RESPONSE_TIMEOUT, async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.caller.connect().await?,
            };
            let progress = connection.get(&format!("/probe/load/{known}")).await?;
            anyhow::Ok((connection, progress))
        });
        let failure = match asked.await {
            Ok(Ok((connection, progress))) => {
                (self.connection, self.since) = (Some(connection), Instant::now());
                return Ok(Some(progress));
            }
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("no response within {} s", RESPONSE_TIMEOUT.as_secs()),
        };
        match self.since.elapsed() {
            silent if silent < SILENCE => Ok(None),
            silent => {
                Err(failure
                    .context(format!("the probe that sends the calls is lost since {} s", silent.as_secs())))
            }
        }
    }
}
