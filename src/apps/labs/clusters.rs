//! The two clusters of the exercises, and what is in the samples' namespace there.

use anyhow::Context;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};

use super::exercise::{self, State};
use super::expectation::Places;
use crate::base::error::Error;
use crate::base::names::{PART_OF, PART_OF_LABEL};
use crate::cluster::environment::Environment;
use crate::cluster::kinds;
use crate::cluster::mesh::apply;
use crate::cluster::policies::{LABEL, Side};
use crate::cluster::refusal::Record;
use crate::cluster::workloads;
use crate::spec;

/// The value of the part-of label of what exercises create and `up` does not.
pub(super) const PART_OF_LABS: &str = "kindmesh-labs";

/// Both sides.
pub(super) const SIDES: [Side; 2] = [Side::Caller, Side::Producer];

/// The kinds of objects that affect calls: exercises involve them wherever they are.
pub(super) const POLICY_KINDS: [(&str, &str); 4] = [
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
];

/// The caller's and the producer's cluster.
pub(super) struct Clusters<'a> {
    pub environment: &'a Environment,
    pub places: Places,
    caller: (Client, Record),
    producer: (Client, Record),
}

impl<'a> Clusters<'a> {
    /// Returns those of an environment. Does not query them.
    pub async fn of(environment: &'a Environment) -> anyhow::Result<Self> {
        let samples = &environment.spec.samples;
        let (callers, producers) = (&samples.caller.clusters, &samples.producer.clusters);
        let places = match (samples.enabled, callers.as_slice(), producers.as_slice()) {
            (true, [caller], [producer]) if caller != producer => {
                Places { caller: caller.to_string(), producer: producer.to_string() }
            }
            _ => {
                return Err(Error::usage(
                    "exercises require a cluster with the caller and another cluster with the producer",
                )
                .hint("create such an environment with the default spec: kindmesh up --name seat")
                .into());
            }
        };
        let spec = &environment.spec;
        let remote = spec.clusters.iter().filter(|cluster| spec.primary_of(cluster).is_some());
        let remote: Vec<_> = remote.map(|cluster| cluster.name.as_str()).collect();
        if !remote.is_empty() {
            return Err(Error::usage(format!(
                "exercises require an istiod in every cluster, but {} has none: its proxies use that of another cluster",
                remote.join(", ")
            ))
            .hint("create another environment, in a directory without a kindmesh.yaml: kindmesh up --name seat")
            .into());
        }
        Ok(Self {
            environment,
            caller: (environment.client(&places.caller).await?, environment.record(&places.caller)),
            producer: (environment.client(&places.producer).await?, environment.record(&places.producer)),
            places,
        })
    }

    fn side(&self, side: Side) -> &(Client, Record) {
        match side {
            Side::Caller => &self.caller,
            Side::Producer => &self.producer,
        }
    }

    pub fn client(&self, side: Side) -> &Client {
        &self.side(side).0
    }

    /// Returns the known reasons for refusals of a side's API server.
    pub fn record(&self, side: Side) -> &Record {
        &self.side(side).1
    }

    pub fn namespace(&self) -> &str {
        self.environment.spec.samples.namespace.as_str()
    }

    /// Returns the cluster of a side in the plan.
    pub fn spec(&self, side: Side) -> Result<&spec::Cluster, Error> {
        self.environment.cluster(self.places.of(side))
    }

    /// Returns the objects of one kind in a side's samples' namespace.
    pub fn api(&self, side: Side, api_version: &str, kind: &str) -> Api<DynamicObject> {
        kinds::api(self.client(side), api_version, kind, Some(self.namespace()))
    }

    /// Returns the objects of a state on a side, adapted to this environment. `image` is that of the samples.
    pub fn objects(&self, state: &State, side: Side, image: &str) -> anyhow::Result<Vec<DynamicObject>> {
        let mut objects = Vec::new();
        for path in state.manifests(side) {
            let text = exercise::file(path).with_context(|| format!("{path} is not built in"))?;
            for mut object in apply::objects(text)? {
                self.adapt(&mut object, side, image, path.starts_with("mesh-manifests/samples/"))?;
                objects.push(object);
            }
        }
        Ok(objects)
    }

    fn adapt(&self, object: &mut DynamicObject, side: Side, image: &str, ups: bool) -> anyhow::Result<()> {
        object.metadata.namespace = Some(self.namespace().to_owned());
        // Identities contain the namespace.
        let text = object.data.to_string().replace("/ns/sample/", &format!("/ns/{}/", self.namespace()));
        object.data = serde_json::from_str(&text)?;
        let labels = object.labels_mut();
        // `up` deletes unknown objects with its own label, and `apply` treats an object without a policy's label
        // as one of an older `up`.
        labels.entry(PART_OF_LABEL.into()).or_insert_with(|| if ups { PART_OF } else { PART_OF_LABS }.into());
        if !ups {
            labels.entry(LABEL.into()).or_insert_with(|| PART_OF_LABS.into());
        }
        if let Some(container) = object.data.pointer_mut("/spec/template/spec/containers/0") {
            container["image"] = image.into();
            workloads::set_location(container, self.spec(side)?);
        }
        Ok(())
    }

    /// Returns the policies in a side's samples' namespace, including those that kindmesh did not create.
    pub async fn policies(&self, side: Side) -> anyhow::Result<Vec<DynamicObject>> {
        let mut found = Vec::new();
        for (api_version, kind) in POLICY_KINDS {
            let what = || format!("listing every {kind} in cluster {}", self.places.of(side));
            let list = self.api(side, api_version, kind).list(&ListParams::default()).await.with_context(what)?;
            found.extend(list.items.into_iter().map(|object| DynamicObject {
                types: Some(kube::core::TypeMeta { api_version: api_version.into(), kind: kind.into() }),
                ..object
            }));
        }
        Ok(found)
    }
}

/// What identifies an object within a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

impl Key {
    pub fn of(object: &DynamicObject) -> Self {
        let types = object.types.clone().unwrap_or_default();
        Self { api_version: types.api_version, kind: types.kind, name: object.name_any() }
    }

    pub fn is_policy(&self) -> bool {
        POLICY_KINDS.iter().any(|(_, kind)| *kind == self.kind)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}
