//! Gathers the facts about a call in parallel. Each request has a timeout.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::facts::{self, Call, Caller, Cluster, Facts, Linked, Policy, Proxy, Speaks, Workload};
use super::{Address, From, connect, read, url};
use crate::base::names;
use crate::cluster::environment::{Environment, Planned};
use crate::cluster::fault::{self, Fault, Kind};
use crate::cluster::link;
use crate::cluster::mesh::envoy::{self, config_dump};
use crate::cluster::mesh::{ISTIO_NAMESPACE, gateway, istiod};
use crate::cluster::objects;
use crate::cluster::rollout::{self, Rollout};
use crate::cluster::{kinds, pods};
use crate::host::docker::{Engine, node};
use crate::host::outage::{self, Recorded};
use crate::plan::{self, Plan};

/// Gathers the facts about a call.
pub(super) async fn gather(
    environment: &Environment,
    cluster: &str,
    address: &Address,
    from: &From,
    within: Duration,
) -> anyhow::Result<Facts> {
    environment.cluster(cluster)?;
    let namespace = from.namespace.clone().or_else(|| address.namespace.clone()).unwrap_or_else(|| {
        let samples = &environment.spec.samples;
        if samples.enabled { samples.namespace.to_string() } else { "default".to_owned() }
    });
    let mut call = Call {
        cluster: cluster.to_owned(),
        service_namespace: address.namespace.clone().unwrap_or_else(|| namespace.clone()),
        namespace,
        name: address.name.clone(),
        to_pod: address.pod.clone(),
        port: address.port,
        path: address.path.clone(),
        speaks: address.speaks.unwrap_or_default(),
        as_declared: address.speaks.is_none(),
        ..Call::default()
    };
    let client = environment.client(cluster).await?;
    // If the cluster does not respond, finding the caller reports it.
    let _ = tokio::time::timeout(within, follow_aliases(&client, &mut call)).await;
    let mut names = environment.cluster_names();
    names.sort_by_key(|name| *name != cluster);
    let look = Look { environment, call: &call, from, within };
    let (clusters, links, here) = futures::join!(
        join_all(names.iter().map(|name| look.cluster(name))),
        look.links(&names),
        look.here(&client)
    );
    let mut facts = Facts { environment: environment.name().to_owned(), clusters, ..here? };
    let selector = facts.clusters.iter().find_map(|c| c.service.as_ref().map(|service| service.selector.clone()));
    // In a cluster without the Service, find the pods that another cluster's Service would select.
    for found in facts.clusters.iter_mut().filter(|found| found.service.is_none() && found.silent.is_none()) {
        if let (Some(selector), Ok(client)) = (&selector, environment.client(&found.name).await) {
            let _ = look.within(look.behind(&client, selector, found)).await;
        }
    }
    for found in &mut facts.clusters {
        if let Some(known) = links.get(&found.name).cloned() {
            (found.linked, found.faults, found.istiod_fault, found.pod_subnets) = known;
        }
    }
    if call.to_pod.is_some() {
        facts
            .clusters
            .iter_mut()
            .for_each(|found| found.pods.retain(|pod| Some(&pod.name) == call.to_pod.as_ref()));
    }
    facts.call = call;
    if let Some(declared) = facts.declared().filter(|_| facts.call.as_declared) {
        facts.call.speaks = declared.speaks();
    }
    (facts.direct, facts.trial) =
        futures::join!(connect::direct(environment, &facts), connect::trial(environment, &client, &facts));
    Ok(facts)
}

struct Look<'a> {
    environment: &'a Environment,
    call: &'a Call,
    from: &'a From,
    within: Duration,
}

impl Look<'_> {
    async fn within<T>(&self, look: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let late = || anyhow::anyhow!("no response within {} s", self.within.as_secs());
        tokio::time::timeout(self.within, look).await.map_err(|_| late())?
    }

    /// Returns the cluster with the istiod of a cluster's proxies.
    fn control_plane_of<'b>(&'b self, name: &'b str) -> &'b str {
        let cluster = self.environment.cluster(name);
        cluster.map_or(name, |cluster| self.environment.spec.control_plane_of(cluster).name.as_str())
    }

    /// Returns a cluster's facts about the Service. A cluster that does not respond is recorded as such.
    async fn cluster(&self, name: &str) -> Cluster {
        let mut found =
            Cluster { name: name.to_owned(), context: self.environment.context(name), ..Cluster::default() };
        let look = async {
            let client = self.environment.client(name).await?;
            let namespace = &self.call.service_namespace;
            let api: Api<Namespace> = Api::all(client.clone());
            let namespaced = api.get_opt(namespace).await?;
            found.has_namespace = namespaced.is_some();
            found.namespace_labels = namespaced.map(|found| found.labels().clone()).unwrap_or_default();
            let api: Api<Service> = Api::namespaced(client.clone(), namespace);
            found.service = api.get_opt(&self.call.name).await?.map(|service| read::service(&service));
            found.gateway = gateway(&client, &self.environment.cluster(name)?.gateway.addresses).await?;
            if let Some(selector) = found.service.as_ref().map(|service| service.selector.clone()) {
                self.behind(&client, &selector, &mut found).await?;
            }
            anyhow::Ok(())
        };
        let looked = self.within(look).await;
        found.silent = looked.err().map(|error| self.why_silent(name, &error));
        found.network_policies = self.network_policies(name, &self.call.service_namespace).await;
        let control_plane = self.control_plane_of(name);
        if let Err(error) = self.within(self.policies_of(control_plane, &mut found)).await {
            found.unread = Some(format!("{control_plane}: {}", self.why_silent(control_plane, &error)));
        }
        found
    }

    /// Returns the NetworkPolicies of a namespace; none if they cannot be read.
    async fn network_policies(&self, cluster: &str, namespace: &str) -> Option<Vec<Policy>> {
        let client = self.environment.client(cluster).await.ok()?;
        self.within(policies(&client, "networking.k8s.io", "NetworkPolicy", Some(namespace))).await.ok()
    }

    /// Returns why a cluster does not respond: its nodes may be down because a user asked for it.
    fn why_silent(&self, name: &str, error: &anyhow::Error) -> String {
        let outages = outage::all(&self.environment.files);
        let killed = outages.iter().find(|found| found.is_in(name));
        killed.map_or_else(|| format!("{error:#}"), Recorded::described)
    }

    /// Adds the policies that apply to the pods of a cluster: they are in the cluster of the istiod of its proxies.
    async fn policies_of(&self, control_plane: &str, found: &mut Cluster) -> anyhow::Result<()> {
        let client = self.environment.client(control_plane).await?;
        for (kind, into) in [
            ("PeerAuthentication", &mut found.peer_authentications),
            ("AuthorizationPolicy", &mut found.authorization_policies),
        ] {
            for namespace in [self.call.service_namespace.as_str(), ISTIO_NAMESPACE] {
                into.extend(policies(&client, "security.istio.io", kind, Some(namespace)).await?);
            }
        }
        Ok(())
    }

    /// Adds the pods that a selector matches, and their workloads.
    async fn behind(
        &self,
        client: &Client,
        selector: &BTreeMap<String, String>,
        found: &mut Cluster,
    ) -> anyhow::Result<()> {
        // A Service without a selector selects no pods, but an empty label selector lists all pods.
        if selector.is_empty() {
            return Ok(());
        }
        let namespace = &self.call.service_namespace;
        let labels: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let mut pods = api.list(&ListParams::default().labels(&labels.join(","))).await?.items;
        pods.retain(|pod| !objects::is_terminating(pod));
        found.pods = pods.iter().map(read::pod).collect();
        let fits = |labels: Option<BTreeMap<String, String>>| {
            let labels = labels.unwrap_or_default();
            selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        for made in deployments.list(&ListParams::default()).await?.items {
            let name = made.name_any();
            let Some(spec) = made.spec else { continue };
            if fits(spec.template.metadata.and_then(|metadata| metadata.labels)) {
                let replicas = spec.replicas.unwrap_or(1);
                found.workloads.push(Workload { kind: "Deployment".into(), name, replicas });
            }
        }
        let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
        for made in sets.list(&ListParams::default()).await?.items {
            let name = made.name_any();
            let Some(spec) = made.spec else { continue };
            if fits(spec.template.metadata.and_then(|metadata| metadata.labels)) {
                let replicas = spec.replicas.unwrap_or(1);
                found.workloads.push(Workload { kind: "StatefulSet".into(), name, replicas });
            }
        }
        Ok(())
    }

    /// Returns the facts of the caller's cluster: the caller, the clusters that istiod knows, the proxy's configuration.
    async fn here(&self, client: &Client) -> anyhow::Result<Facts> {
        let caller = self.within(self.caller(client)).await;
        let caller = caller.with_context(|| format!("finding the caller in {}", self.call.cluster))?;
        let proxy = async {
            let caller = caller.as_ref().filter(|caller| caller.meshed)?;
            self.within(self.proxy(client, &caller.pod)).await.ok()
        };
        let name = self.control_plane_of(&self.call.cluster);
        let control_plane = self.environment.client(name).await?;
        let (proxy, mesh_config, synced, secrets, rules, others, network_policies) = futures::join!(
            proxy,
            self.within(mesh_config(&control_plane)),
            self.within(istiod::remote_clusters(&control_plane)),
            self.within(remote_secrets(&control_plane)),
            self.within(policies(&control_plane, "networking.istio.io", "DestinationRule", None)),
            self.within(self.other_namespaces(client)),
            self.network_policies(&self.call.cluster, &self.call.namespace),
        );
        // Each ready istiod returns a list of clusters; the first list is used.
        let synced = synced.ok().map(|all| {
            let first = all.first().cloned().unwrap_or_default();
            first.into_iter().map(|known| (known.id, known.sync_status)).collect()
        });
        Ok(Facts {
            caller,
            proxy,
            control_plane: name.to_owned(),
            synced,
            remote_secrets: secrets.unwrap_or_default(),
            mesh_config: mesh_config.unwrap_or_default(),
            destination_rules: rules.unwrap_or_default(),
            other_namespaces: others.unwrap_or_default(),
            network_policies,
            ..Facts::default()
        })
    }

    /// Returns the caller's pod: the named one, or a ready one, preferably with a proxy.
    async fn caller(&self, client: &Client) -> anyhow::Result<Option<Caller>> {
        let api: Api<Pod> = Api::namespaced(client.clone(), &self.call.namespace);
        let mut pods = api.list(&ListParams::default()).await?.items;
        pods.retain(|pod| {
            let named = self.from.pod.as_ref().is_none_or(|named| pod.name_any().starts_with(named.as_str()));
            !objects::is_terminating(pod) && named
        });
        if let (Some(named), true) = (&self.from.pod, pods.is_empty()) {
            let (namespace, cluster) = (&self.call.namespace, &self.call.cluster);
            let message =
                format!("no pod in namespace {namespace} of {cluster} has a name that starts with {named}");
            let context = self.environment.context(cluster);
            let hint = format!("kubectl --context {context} -n {namespace} get pods");
            return Err(crate::base::error::Error::usage(message).hint(hint).into());
        }
        let app = |pod: &Pod| pod.labels().get("app").cloned().unwrap_or_default();
        pods.sort_by_key(|pod| {
            let is_sample = app(pod) == names::CALLER_NAME;
            let calls_itself = app(pod) == self.call.name;
            (
                !pods::is_ready(pod),
                !pods::has_container(pod, envoy::CONTAINER),
                !is_sample,
                calls_itself,
                pod.name_any(),
            )
        });
        Ok(pods.first().map(read::caller))
    }

    async fn proxy(&self, client: &Client, pod: &str) -> anyhow::Result<Proxy> {
        let call = self.call;
        // Only calls of bytes need the listeners, the largest part.
        let listeners = async {
            match call.speaks == Speaks::Http && !call.as_declared {
                true => Ok(Vec::new()),
                false => {
                    let found = config_dump::part(client, &call.namespace, pod, "dynamic_listeners").await?;
                    Ok(config_dump::listeners(&found, call.port))
                }
            }
        };
        let (routes, clusters, listeners, said) = futures::try_join!(
            config_dump::part(client, &call.namespace, pod, "dynamic_route_configs"),
            config_dump::part(client, &call.namespace, pod, "dynamic_active_clusters"),
            listeners,
            envoy::page(client, &call.namespace, pod, "clusters"),
        )?;
        let mut endpoints: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for endpoint in envoy::endpoints(&said) {
            let known = endpoints.entry(endpoint.of.to_owned()).or_default();
            known.push((endpoint.address.to_owned(), endpoint.health.to_owned()));
        }
        let host = format!("{}.{}.svc.cluster.local", call.name, call.service_namespace);
        Ok(Proxy {
            route: config_dump::route(&routes, &host, call.port, &call.path),
            listeners,
            passes_through: config_dump::passes_through(&clusters),
            clusters: config_dump::transports(&clusters),
            ejectable: config_dump::ejectable(&clusters),
            endpoints,
        })
    }

    async fn other_namespaces(&self, client: &Client) -> anyhow::Result<Vec<String>> {
        let api: Api<Service> = Api::all(client.clone());
        let named = ListParams::default().fields(&format!("metadata.name={}", self.call.name));
        let mut found: Vec<_> = api.list(&named).await?.items.iter().filter_map(ResourceExt::namespace).collect();
        found.retain(|namespace| *namespace != self.call.service_namespace);
        Ok(found)
    }

    /// Returns, for each cluster, whether its nodes and those of the caller's cluster have routes to each other's pods, the faults
    /// between them, the fault of its istiod, and the subnets of its pods.
    async fn links(&self, names: &[&str]) -> BTreeMap<String, Known> {
        let Ok(Planned { engine, plan }) = self.within(self.environment.planned()).await else {
            return BTreeMap::new();
        };
        let faults = match &engine {
            Some(engine) => self.within(fault::active(engine, &plan)).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let links = names.iter().map(async |name| {
            let linked = self.within(linked(engine.as_ref(), &plan, &self.call.cluster, name)).await;
            let between = faults.iter().filter(|fault| fault.is_between(&self.call.cluster, name));
            let between =
                between.map(|fault| facts::Fault { what: fault.described(), total: fault.kind.is_total() });
            let is_istiod =
                |fault: &&Fault| fault.kind == Kind::KillIstiod && fault.clusters.iter().any(|has| has == name);
            let istiod = faults.iter().find(is_istiod).map(Fault::described);
            let subnets = plan.cluster(name).map(plan::Cluster::pod_subnets).unwrap_or_default();
            let subnets = subnets.iter().map(ToString::to_string).collect();
            ((*name).to_owned(), (linked.unwrap_or_default(), between.collect(), istiod, subnets))
        });
        join_all(links).await.into_iter().collect()
    }
}

/// What the host knows of a cluster: whether it is linked with the caller's, the faults between them, the fault of its istiod, and the
/// subnets of its pods.
type Known = (Linked, Vec<facts::Fault>, Option<String>, Vec<String>);

/// Follows the aliases of the caller's cluster, as its DNS does, to the Service or the host outside that they lead to. Istio's proxies
/// handle an alias as another name of that Service, with its ports.
async fn follow_aliases(client: &Client, call: &mut Call) -> anyhow::Result<()> {
    /// CoreDNS follows no more.
    const MOST: usize = 8;
    while call.to_pod.is_none() && call.aliases.len() < MOST {
        let api: Api<Service> = Api::namespaced(client.clone(), &call.service_namespace);
        let found = api.get_opt(&call.name).await?;
        let Some(other) = found.and_then(|service| read::service(&service).external_name) else { break };
        let other = other.trim_end_matches('.').to_owned();
        call.aliases.push((format!("{}.{}", call.name, call.service_namespace), other.clone()));
        match url::service_of(&other) {
            Some((name, namespace)) => (call.name, call.service_namespace) = (name, namespace),
            None => {
                call.outside = Some(other);
                break;
            }
        }
    }
    Ok(())
}

/// Returns a cluster's east-west gateway, if it has one.
async fn gateway(client: &Client, of_spec: &[String]) -> anyhow::Result<Option<facts::Gateway>> {
    let Some(found) = rollout::Workload::deployment(ISTIO_NAMESPACE, gateway::NAME).get(client).await? else {
        return Ok(None);
    };
    let lacks = Rollout::of(rollout::Kind::Deployment, &found).lacks();
    Ok(Some(facts::Gateway { addresses: gateway::addresses(client, of_spec).await?, lacks }))
}

async fn linked(engine: Option<&Engine>, plan: &Plan, here: &str, there: &str) -> anyhow::Result<Linked> {
    if here == there {
        return Ok(Linked::Yes);
    }
    let find = |name: &str| plan.cluster(name).with_context(|| format!("the plan has no cluster {name}"));
    let (one, other): (&plan::Cluster, &plan::Cluster) = (find(here)?, find(there)?);
    for (from, to) in [(one, other), (other, one)] {
        // Of a cluster that exists, only a connection shows whether there is a way.
        let (Some(engine), Some(_)) = (engine, to.host.kind()) else { continue };
        for name in from.nodes() {
            if !link::is_open(engine, name, from, to).await? {
                let cut = node::try_exec(engine, name, &["test", "-e", link::CUT]).await?.status == 0;
                return Ok(if cut { Linked::Cut } else { Linked::No(name.clone()) });
            }
        }
    }
    let inspected = engine.is_some() && one.host.kind().is_some() && other.host.kind().is_some();
    Ok(match (one.network == other.network, inspected) {
        (true, true) => Linked::Yes,
        (true, false) => Linked::NotInspected,
        (false, _) => Linked::Gateway,
    })
}

/// Returns the mesh configuration that istiod reads.
async fn mesh_config(client: &Client) -> anyhow::Result<Value> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let found = api.get("istio").await.context("reading the mesh configuration")?;
    let text = found.data.and_then(|data| data.get("mesh").cloned()).unwrap_or_default();
    serde_yaml::from_str(&text).context("reading the mesh configuration")
}

async fn remote_secrets(client: &Client) -> anyhow::Result<Vec<String>> {
    const CLUSTER: &str = "networking.istio.io/cluster";
    let api: Api<Secret> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    // Metadata only: the content is secret.
    let found = api.list_metadata(&ListParams::default().labels("istio/multiCluster=true")).await?;
    Ok(found.items.iter().filter_map(|secret| secret.annotations().get(CLUSTER).cloned()).collect())
}

/// Returns the objects of a kind of version `v1`, in one namespace or all.
async fn policies(
    client: &Client,
    group: &str,
    kind: &str,
    namespace: Option<&str>,
) -> anyhow::Result<Vec<Policy>> {
    let api = kinds::api(client, &format!("{group}/v1"), kind, namespace);
    let found = api.list(&ListParams::default()).await.with_context(|| format!("listing {kind} objects"))?;
    Ok(found
        .items
        .into_iter()
        .map(|object| Policy {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            spec: object.data.get("spec").cloned().unwrap_or_default(),
        })
        .collect())
}
