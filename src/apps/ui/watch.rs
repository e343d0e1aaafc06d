//! Polls: what exists, and the statistics of the caller's proxy.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use tokio::time::{MissedTickBehavior, interval};

use super::session::Session;
use super::shown::{Cluster, Service, Topology};
use super::traffic::{self, Traffic};
use crate::base::names::{PORT, PRODUCER_NAME};
use crate::cluster::fault::Fault;
use crate::cluster::link;
use crate::cluster::mesh::PodConnection;
use crate::cluster::mesh::envoy::{self, stats};
use crate::cluster::policies::Policies;
use crate::cluster::workloads;
use crate::diagnose::status;
use crate::host::inventory as gather;
use crate::host::outage::Recorded;
use crate::plan;
use crate::plan::inventory::Inventory;

/// The interval and the timeout of polling the proxy.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval and the timeout of everything else.
const REFRESH_INTERVAL: Duration = Duration::from_secs(3);
const REFRESH_TIMEOUT: Duration = Duration::from_secs(4);

impl Session {
    /// Polls what exists, forever.
    pub async fn watch_topology(self: Rc<Self>) {
        let mut ticks = interval(REFRESH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.look_again.notified() => {}
            }
            match self.look().await {
                Ok(topology) => *self.topology.borrow_mut() = (Some(topology), None),
                Err(error) => self.topology.borrow_mut().1 = Some(format!("{error:#}")),
            }
        }
    }

    async fn look(&self) -> anyhow::Result<Topology> {
        let inventory = match &self.engine {
            Some(engine) => tokio::time::timeout(REFRESH_TIMEOUT, gather::gather(engine)).await??,
            None => Inventory::default(),
        };
        let engine = self.engine.as_ref();
        // Without a call: it would count in the displayed statistics.
        let status = status::status_with(engine, inventory, &self.environment, REFRESH_TIMEOUT, false);
        let (status, policies) = futures::join!(status, self.policies());
        let status = status?;
        let of = |name: &str| self.environment.spec.clusters.iter().find(|cluster| cluster.name.as_str() == name);
        let samples = &self.environment.spec.samples;
        let is_cut = |name: &str| {
            status.faults.iter().any(|fault| fault.kind.is_total() && fault.is_between(&self.from, name))
        };
        let faults = status.faults.iter().map(Fault::described);
        let faults = faults.chain(status.outages.iter().map(Recorded::described));
        let faults = faults.collect();
        let clusters = status.clusters.iter().map(|cluster| async {
            let (name, spec) = (cluster.name.clone(), of(&cluster.name));
            let is_in = |clusters: &[crate::spec::Label]| clusters.iter().any(|other| other.as_str() == name);
            Cluster {
                region: spec.map(|spec| spec.region.clone()).unwrap_or_default(),
                zone: spec.map(|spec| spec.zone.clone()).unwrap_or_default(),
                caller: is_in(&samples.caller.clusters),
                producer: is_in(&samples.producer.clusters),
                nodes: cluster.nodes.clone(),
                layers: status
                    .layers
                    .iter()
                    .filter(|layer| layer.cluster.as_ref() == Some(&name))
                    .cloned()
                    .collect(),
                services: in_time(self.services(&name)).await,
                link_cut: in_time(self.link_cut(&name)).await.map(|cut| cut || is_cut(&name)),
                network: self
                    .plan
                    .cluster(&name)
                    .filter(|_| self.plan.has_gateways())
                    .map(|has| has.network.clone()),
                name,
            }
        });
        let clusters = join_all(clusters).await;
        Ok(Topology { phase: status.phase, clusters, policies: policies.unwrap_or_default(), faults })
    }

    async fn policies(&self) -> anyhow::Result<Vec<crate::cluster::policies::Listed>> {
        let deadline = tokio::time::Instant::now() + REFRESH_TIMEOUT;
        Policies::of(&self.environment, deadline).await?.list().await
    }

    async fn link_cut(&self, cluster: &str) -> anyhow::Result<bool> {
        let cluster = self.plan.cluster(cluster).ok_or_else(|| anyhow::anyhow!("no such cluster"))?;
        match &self.engine {
            Some(engine) => link::is_cut(engine, cluster).await,
            None => Ok(false),
        }
    }

    /// Returns the Services of the samples in a cluster, each with its ready pods in that cluster.
    async fn services(&self, cluster: &str) -> anyhow::Result<Vec<Service>> {
        let client = self.environment.client(cluster).await?;
        let services: Api<v1::Service> = Api::namespaced(client.clone(), self.namespace());
        let slices: Api<EndpointSlice> = Api::namespaced(client, self.namespace());
        let all = ListParams::default();
        let (services, slices) = futures::try_join!(services.list(&all), slices.list(&all))?;
        let pods = |name: &str| {
            let of = |slice: &&EndpointSlice| {
                slice.labels().get("kubernetes.io/service-name").is_some_and(|service| service == name)
            };
            let ready = |slice: &EndpointSlice| {
                let conditions = slice.endpoints.iter().flatten().filter_map(|e| e.conditions.as_ref());
                conditions.filter(|conditions| conditions.ready == Some(true)).count()
            };
            slices.iter().filter(of).map(ready).sum()
        };
        Ok(services.iter().map(|s| Service { pods: pods(&s.name_any()), name: s.name_any() }).collect())
    }

    /// Polls the statistics of the caller's proxy, forever.
    pub async fn watch_traffic(self: Rc<Self>) {
        let mut ticks = interval(COUNT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = None;
        let mut window = traffic::Window::default();
        loop {
            ticks.tick().await;
            let looked = tokio::time::timeout(COUNT_TIMEOUT, self.count(&mut connection, &mut window)).await;
            let late = |_| Err(anyhow::anyhow!("the proxy did not respond within {} s", COUNT_TIMEOUT.as_secs()));
            match looked.unwrap_or_else(late) {
                Ok(traffic) => *self.traffic.borrow_mut() = (Some(traffic), None),
                Err(error) => {
                    connection = None;
                    window.clear();
                    *self.traffic.borrow_mut() = (None, Some(format!("{error:#}")));
                }
            }
        }
    }

    async fn count(
        &self,
        connection: &mut Option<PodConnection>,
        window: &mut traffic::Window,
    ) -> anyhow::Result<Traffic> {
        let open = match connection.take() {
            Some(open) => open,
            None => {
                let pod = workloads::caller_pod(&self.client, self.namespace()).await?.name_any();
                PodConnection::open(&self.client, self.namespace(), &pod, envoy::ADMINISTRATION).await?
            }
        };
        let open = connection.insert(open);
        let host = format!("{PRODUCER_NAME}.{}.svc.cluster.local", self.namespace());
        let counted = stats::ask(open, PRODUCER_NAME, &envoy::outbound(PORT, &host)).await?;
        Ok(window.take(Instant::now(), counted, |address| self.cluster_of(address)))
    }

    /// Returns the cluster of a pod's address.
    fn cluster_of(&self, address: &str) -> String {
        let ip = address.rsplit_once(':').and_then(|(ip, _)| ip.parse::<std::net::Ipv4Addr>().ok());
        let holds = |cluster: &&plan::Cluster| ip.is_some_and(|ip| cluster.owns(ip));
        self.plan.clusters.iter().find(holds).map_or_else(|| "elsewhere".into(), |cluster| cluster.name.clone())
    }
}

/// Returns the result of a request, or an error at the timeout.
async fn in_time<T>(look: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
    tokio::time::timeout(REFRESH_TIMEOUT, look).await.ok().and_then(Result::ok)
}
