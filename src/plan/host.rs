//! Where a cluster runs: on nodes that kind creates, or wherever a cluster that exists does.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::existing::Known;
use super::{Cluster, KindCluster};
use crate::base::error::Error;

/// Where a cluster runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Host {
    /// On nodes that kind creates.
    Kind(KindCluster),
    /// It exists already.
    Existing(ExistingCluster),
}

/// The part of a cluster that only one has that exists already.
#[derive(Debug, Clone, PartialEq)]
pub struct ExistingCluster {
    /// Its context in the user's kubeconfigs.
    pub context: String,
    /// What is known about it.
    pub known: Known,
    /// The addresses of its east-west gateway, if the spec names them.
    pub gateways: Vec<String>,
}

impl Host {
    /// Returns what a cluster has because kind creates it.
    pub fn kind(&self) -> Option<&KindCluster> {
        match self {
            Host::Kind(kind) => Some(kind),
            Host::Existing(_) => None,
        }
    }

    /// Returns what a cluster has because it exists already.
    pub fn existing(&self) -> Option<&ExistingCluster> {
        match self {
            Host::Kind(_) => None,
            Host::Existing(existing) => Some(existing),
        }
    }
}

impl Cluster {
    /// Returns what it has because kind creates it.
    ///
    /// # Errors
    /// A usage error if it exists already.
    pub fn kind(&self) -> Result<&KindCluster, Error> {
        self.host.kind().ok_or_else(|| {
            Error::usage(format!("cluster {} exists already: kindmesh did not create its nodes", self.name))
                .hint("use a cluster that kind creates")
        })
    }

    /// Returns the subnets of its pods: of a cluster that exists those that its nodes name, if any.
    pub fn pod_subnets(&self) -> &[Ipv4Net] {
        match &self.host {
            Host::Kind(kind) => std::slice::from_ref(&kind.pod_subnet),
            Host::Existing(existing) => &existing.known.pod_subnets,
        }
    }

    /// Whether an address is that of one of its pods.
    pub fn has_pod(&self, address: Ipv4Addr) -> bool {
        self.pod_subnets().iter().any(|subnet| subnet.contains(&address))
    }

    /// Whether an address is that of one of its pods, or of a Service of type LoadBalancer such as its gateway.
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.has_pod(address) || self.host.kind().is_some_and(|kind| kind.balances(address))
    }

    /// Whether an address may be that of its gateway. Those of a cluster that exists are assigned by its load balancer.
    pub fn may_balance(&self, address: Ipv4Addr) -> bool {
        match &self.host {
            Host::Kind(kind) => kind.balances(address),
            Host::Existing(_) => !self.has_pod(address),
        }
    }

    /// Returns the addresses of its east-west gateway that the spec names; usually none.
    pub fn gateways(&self) -> &[String] {
        self.host.existing().map_or(&[], |existing| &existing.gateways)
    }

    /// Whether kindmesh installs Istio in it. Otherwise it uses the Istio that is there.
    pub fn installs_istio(&self) -> bool {
        self.istio.is_some()
    }

    /// Whether it has a secret cacerts of another owner, which is used as it is.
    pub fn has_cacerts(&self) -> bool {
        self.host.existing().is_some_and(|existing| existing.known.cacerts)
    }

    /// Returns the containers that are its nodes, the control plane first; none of a cluster that exists.
    pub fn nodes(&self) -> &[String] {
        self.host.kind().map_or(&[], |kind| &kind.nodes)
    }
}
