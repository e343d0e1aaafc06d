//! Clusters that exist: they are looked at, admitted and agreed to before anything is changed, and get the record of the environment
//! before anything else.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use kube::Client;
use kube::api::DynamicObject;

use super::{Options, Run};
use crate::base::error::{self, Error};
use crate::base::event::{Events, Outcome};
use crate::base::hint::up_hint;
use crate::base::names;
use crate::cluster::client::{self, OfContext};
use crate::cluster::environment;
use crate::cluster::existing;
use crate::cluster::mesh::apply::{self, Applier};
use crate::cluster::mesh::{ISTIO_NAMESPACE, cacerts, gateway, istio};
use crate::cluster::refusal::Record;
use crate::cluster::workloads;
use crate::host::kubeconfig::contexts::Users;
use crate::host::state::{self, Files};
use crate::host::trust::Authority;
use crate::plan::consent::{self, Grant};
use crate::plan::existing::{Facts, Known, Left};
use crate::plan::inventory::Inventory;
use crate::plan::{Cluster, ExistingCluster, Plan, admission};
use crate::spec::{Loaded, Spec};

/// Asks a user, and returns whether the answer is yes.
pub type Ask = fn(&Events, &[Grant]) -> bool;

/// How a user agrees to changes of clusters that exist.
#[derive(Debug, Clone, Default)]
pub struct Consent {
    /// The contexts whose clusters may be changed.
    pub allowed: Vec<String>,
    /// Asks about the others, and returns whether the user agrees; none if nobody can be asked.
    pub ask: Option<Ask>,
}

/// Inspects the certificates of `trust.from`, and the clusters of a spec that exist, as `up` does before it changes anything, without
/// asking for consent.
///
/// # Errors
/// Everything that `up` would refuse, except objects of other owners; or if a cluster cannot be reached.
pub async fn inspect(spec: &Spec, loaded: &Loaded, files: &Files, events: &Events) -> anyhow::Result<Existing> {
    Authority::check(spec)?;
    Existing::inspected(spec, loaded, files, events).await
}

/// The clusters of a spec that exist, admitted and, by `up`, agreed to.
pub struct Existing {
    clusters: BTreeMap<String, Found>,
    users: Users,
    given: Vec<Grant>,
}

struct Found {
    client: Client,
    /// The certificate authorities of the context, PEM.
    ca: String,
    facts: Facts,
}

/// A connection to a cluster that exists.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) client: Client,
    /// The certificate authorities by which this host trusts its API server, PEM; empty if those of the host.
    pub(super) ca: String,
    /// The namespaces that had Istio's root certificate before `up`.
    pub(super) trusting: BTreeSet<String>,
}

impl Existing {
    /// Looks at the clusters that exist, refuses those that cannot be used, and asks for consent. Changes nothing.
    pub(super) async fn admitted(
        spec: &Spec,
        loaded: &Loaded,
        files: &Files,
        options: &Options,
        events: &Events,
    ) -> anyhow::Result<Self> {
        let mut all = Self::inspected(spec, loaded, files, events).await?;
        if !all.clusters.is_empty() {
            all.given = agreed(spec, &all.facts(), files, &options.consent, events)?;
        }
        Ok(all)
    }

    /// Looks at the clusters that exist, and refuses those that cannot be used.
    async fn inspected(spec: &Spec, loaded: &Loaded, files: &Files, events: &Events) -> anyhow::Result<Self> {
        let mut all = Self { clusters: BTreeMap::new(), users: Users::default(), given: Vec::new() };
        let of_user = spec.clusters.iter().filter_map(|cluster| Some((cluster, cluster.context.as_deref()?)));
        let of_user: Vec<_> = of_user.collect();
        if of_user.is_empty() {
            return Ok(all);
        }
        let stored = environment::stored(files)?;
        admission::changes(spec, &loaded.origins, stored.as_ref(), &Inventory::default())?;
        all.users = Users::of_process()?;
        for (_, context) in &of_user {
            all.users.require(context)?;
        }
        let samples = spec.samples.enabled.then_some(spec.samples.namespace.as_str());
        let namespaces: Vec<&str> = [ISTIO_NAMESPACE].into_iter().chain(samples).collect();
        let look = of_user.iter().map(async |(cluster, context)| {
            let step = events.step("facts", Some(cluster.name.as_str()));
            let look = step.run(async |_| {
                let OfContext { client, server, ca } = client::of_context(&all.users, context).await?;
                let facts = existing::facts(&client, &server, &namespaces).await;
                let facts = facts.map_err(|error| unreachable(context, &server, error))?;
                Ok(Outcome::unchanged(Found { client, ca, facts }))
            });
            anyhow::Ok((cluster.name.to_string(), look.await?))
        });
        all.clusters = try_join_all(look).await?.into_iter().collect();
        all.admit(spec, loaded, files)?;
        Ok(all)
    }

    fn admit(&self, spec: &Spec, loaded: &Loaded, files: &Files) -> anyhow::Result<()> {
        let facts = self.facts();
        let mut known = BTreeMap::new();
        for cluster in self.clusters.keys() {
            known.extend(files.known(cluster)?.map(|known| (cluster.clone(), known.uid)));
        }
        let found = admission::existing::Found {
            spec,
            facts: &facts,
            known: &known,
            definitions: &definitions(),
            needs: &needs(spec),
        };
        admission::existing::clusters(&found).map_err(|error| loaded.origins.place(error))?;
        Ok(())
    }

    fn facts(&self) -> BTreeMap<String, Facts> {
        self.clusters.iter().map(|(name, found)| (name.clone(), found.facts.clone())).collect()
    }

    /// Returns what the plan needs to know about each cluster, by its name.
    pub fn known(&self) -> BTreeMap<String, Known> {
        self.clusters.iter().map(|(name, found)| (name.clone(), Known::from(&found.facts))).collect()
    }

    /// Records what was agreed to, and which cluster each is.
    pub(super) fn store(&self, spec: &Spec, files: &Files) -> anyhow::Result<()> {
        if self.clusters.is_empty() {
            return Ok(());
        }
        files.store_consent(&self.given)?;
        for (name, known) in self.known() {
            files.store_known(&name, &known)?;
            let context = spec.clusters.iter().find(|cluster| cluster.name.as_str() == name);
            let context = context.and_then(|cluster| cluster.context.as_deref()).unwrap_or_default();
            let kubeconfig = self.users.extract(context, &names::existing_context(spec.name.as_str(), &name))?;
            let text = serde_yaml::to_string(&kubeconfig)?;
            state::write_private(&files.of_cluster(&name, "kubeconfig"), text.as_bytes())?;
        }
        Ok(())
    }

    /// Returns the connections, by cluster.
    pub(super) fn connected(&self) -> BTreeMap<String, Connected> {
        let of = |found: &Found| Connected {
            client: found.client.clone(),
            ca: found.ca.clone(),
            trusting: found.facts.root_certificates.clone(),
        };
        self.clusters.iter().map(|(name, found)| (name.clone(), of(found))).collect()
    }
}

/// Returns what the user agreed to, now and earlier.
fn agreed(
    spec: &Spec,
    facts: &BTreeMap<String, Facts>,
    files: &Files,
    options: &Consent,
    events: &Events,
) -> anyhow::Result<Vec<Grant>> {
    let environment = spec.name.as_str();
    let wanted = consent::wanted(spec, facts);
    let given = files.consent_given()?;
    let mut missing = consent::missing(&wanted, &given);
    missing.retain(|grant| !options.allowed.contains(&grant.context));
    match options.ask {
        _ if missing.is_empty() => {}
        Some(ask) => {
            if !ask(events, &missing) {
                let again = format!("to be asked again: {}", up_hint(environment));
                return Err(Error::usage("not agreed: nothing was changed").hint(again).into());
            }
        }
        None => consent::require(environment, &missing, &options.allowed)?,
    }
    Ok(consent::merged(&wanted, &given))
}

fn unreachable(context: &str, server: &str, error: anyhow::Error) -> Error {
    let check = format!("kubectl --context {} get namespace kube-system", consent::quoted(context));
    Error::prerequisite(format!("the API server of context {context} does not answer: {}", error::brief(error)))
        .evidence(format!("its URL: {server}"))
        .hint(format!("make this work: {check}"))
}

/// Returns the CustomResourceDefinitions that the mesh needs, with the versions that they serve.
fn definitions() -> BTreeMap<String, BTreeSet<String>> {
    let names = [
        "destinationrules.networking.istio.io",
        "gateways.networking.istio.io",
        "virtualservices.networking.istio.io",
        "authorizationpolicies.security.istio.io",
        "peerauthentications.security.istio.io",
    ];
    names.map(|name| (name.to_owned(), BTreeSet::from(["v1".to_owned()]))).into()
}

/// Returns what new pods request in each namespace: istiod and the gateway what Istio's charts set by default, the samples what their
/// manifests and the default of their proxies set.
fn needs(spec: &Spec) -> BTreeMap<String, Left> {
    let of = |pods: u64, cpu: u64, memory: u64| Left {
        pods: Some(pods),
        cpu_millis: Some(cpu),
        memory: Some(memory << 20),
    };
    let producers = u64::from(spec.samples.producer.replicas);
    let mut needs = BTreeMap::new();
    if spec.mesh.install {
        needs.insert(ISTIO_NAMESPACE.to_owned(), of(1, 500, 2048));
    }
    if spec.samples.enabled {
        needs.insert(spec.samples.namespace.to_string(), of(producers, 110 * producers, 160 * producers));
    }
    needs
}

/// Returns Istio's namespace; nothing for a cluster whose namespace has a secret cacerts of another owner.
fn namespace(cluster: &Cluster) -> anyhow::Result<Vec<DynamicObject>> {
    match cluster.has_cacerts() {
        true => Ok(Vec::new()),
        false => Ok(vec![cacerts::namespace(&cluster.network)?]),
    }
}

impl Run {
    /// Returns the client of a cluster that exists, after the namespace of the mesh and the record of the environment were created in
    /// it: they are what `down` finds the rest by.
    pub(super) async fn ensure_recorded(
        &self,
        cluster: &Cluster,
        existing: &ExistingCluster,
        record: &Record,
    ) -> anyhow::Result<Client> {
        let connected = self.connected.get(&cluster.name).cloned();
        let Connected { client, trusting, .. } =
            connected.ok_or_else(|| Error::environment(format!("not connected to {}", existing.context)))?;
        let step = self.events.step("record", Some(&cluster.name));
        step.run(async |step| {
            let mut objects = namespace(cluster)?;
            objects.push(apply::object(existing::record(
                &self.plan.environment,
                cluster.installs_istio(),
                &trusting,
            ))?);
            let applier = Applier::new(client.clone(), step, self.wait_deadline());
            let changed = applier.recording(record).only_ours().apply(objects).await?;
            Ok(Outcome { value: client.clone(), changed })
        })
        .await
    }

    /// Refuses to change objects of another owner, in any cluster that exists, before anything is changed.
    pub(super) async fn refuse_foreign(&self) -> anyhow::Result<()> {
        try_join_all(self.plan.clusters.iter().map(|cluster| self.refuse_foreign_in(cluster))).await.map(drop)
    }

    async fn refuse_foreign_in(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let Some(Connected { client, .. }) = self.connected.get(&cluster.name) else { return Ok(()) };
        let rendered = self.tools.rendered(cluster).await?;
        let step = self.events.step("foreign", Some(&cluster.name));
        step.run(async |step| {
            let mut objects = everything(&self.plan, &self.spec, cluster, &rendered, "")?;
            // They are used as they are, if admission found that they serve what is needed.
            objects.retain(|object| apply::kind(object) != "CustomResourceDefinition");
            let foreign = Applier::new(client.clone(), step, self.wait_deadline()).foreign(&objects).await?;
            if foreign.is_empty() {
                return Ok(Outcome::unchanged(()));
            }
            let mut error =
                Error::usage(format!("cluster {} has objects that kindmesh would have to change", cluster.name));
            error.evidence = foreign;
            Err(error.hint("delete or rename them if nobody needs them, or use another cluster").into())
        })
        .await
    }
}

/// Returns all objects that `up` applies in a cluster that exists, except those whose content it does not know yet: the secret cacerts
/// and remote secrets. `trust` is the argument of [`istio::bind_to_trust`].
pub(super) fn everything(
    plan: &Plan,
    spec: &Spec,
    cluster: &Cluster,
    rendered: &str,
    trust: &str,
) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = namespace(cluster)?;
    objects.extend(istio::objects(rendered, trust)?);
    if plan.has_gateways() && cluster.installs_istio() {
        objects.extend(gateway::objects()?);
    }
    let of_spec = spec.clusters.iter().find(|own| own.name.as_str() == cluster.name);
    if let (Some(samples), Some(own)) = (&plan.samples, of_spec) {
        objects.extend(workloads::objects(samples, spec, own, trust)?);
    }
    Ok(objects)
}
