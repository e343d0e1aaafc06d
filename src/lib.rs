//! Two or more Kubernetes clusters in one Istio mesh, on your machine.
//!
//! The clusters are kind clusters in Docker, on one network. Istio runs in each of them, as one multi-primary mesh with a
//! shared root of trust: a workload in one cluster can call a Service whose pods run in another, over mutual TLS. The
//! `kindmesh` command creates such environments from the command line. This library does the same for programs and
//! tests:
//!
//! ```no_run
//! use k8s_openapi::api::core::v1::Node;
//! use kindmesh::environment::Request;
//! use kindmesh::testing::{k8s_openapi, kube};
//! use kindmesh::Environment;
//!
//! #[tokio::main]
//! async fn main() -> anyhow::Result<()> {
//!     // Two clusters, cluster1 and cluster2, with sample services. The first run takes about a minute, later ones seconds.
//!     let environment = Environment::builder().name("demo").up().await?;
//!
//!     // A client for the API server of each cluster.
//!     for cluster in environment.clusters() {
//!         let nodes: kube::Api<Node> = kube::Api::all(environment.client(cluster).await?);
//!         println!("{cluster} has {} nodes", nodes.list(&Default::default()).await?.items.len());
//!     }
//!
//!     // The sample caller in cluster1 calls the sample producer, which runs in cluster2.
//!     let answer = environment.call("cluster1", &Request::default()).await?;
//!     println!("{} from {}", answer.status_code, answer.served_by().unwrap_or("no cluster"));
//!
//!     environment.down().await
//! }
//! ```
//!
//! - [`Environment`] creates an environment, sends calls through the mesh, and deletes it. See [`mod@environment`] for
//!   details.
//! - [`testing`] is for `cargo test`: one environment that all tests share, and a namespace for each test in every cluster.
//! - [`Error`] describes a failure: a message, evidence and a hint. [`find_error`] extracts it from an [`anyhow::Error`].
//!
//! A container engine (Docker) must be running. The sample services run the `kindmesh` program: install it with
//! `cargo install kindmesh`, or set `KINDMESH_EXE` to its path.
//!
//! # Features
//!
//! `cli`, enabled by default, is the command line. To use only the library, disable it:
//!
//! ```toml
//! [dev-dependencies]
//! kindmesh = { version = "0.1", default-features = false }
//! ```

#![cfg_attr(
    not(feature = "cli"),
    expect(dead_code, unused_imports, reason = "the command line uses more of the layers than the library does")
)]

#[cfg(not(unix))]
compile_error!("kindmesh runs on Linux and macOS; on Windows, build and run it inside WSL2");

mod apps;
mod base;
#[cfg(feature = "cli")]
mod cli;
mod cluster;
mod diagnose;
mod host;
mod lifecycle;
mod plan;
mod report;
mod sample;
mod spec;

pub use apps::environment::Environment;
pub use apps::{environment, testing};
pub use base::error::{Error, Kind as ErrorKind, find as find_error};

/// Runs the `kindmesh` command.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub fn main() -> std::process::ExitCode {
    cli::main()
}

/// Internals that the tests in this repository use besides the public API. They may change at any time.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod internals {
    pub mod base {
        pub mod error {
            pub use crate::base::error::{Error, Kind, find};
        }
        pub mod event {
            pub use crate::base::event::Events;
        }
        pub mod names {
            pub use crate::base::names::{kind_name, network_name};
        }
        pub mod wait {
            pub use crate::base::wait::{Poll, until};
        }
    }
    pub mod cluster {
        pub mod call {
            pub use crate::cluster::call::Answer;
        }
        pub mod fault {
            pub use crate::cluster::fault::{Fault, Kind, lines};
        }
        pub mod link {
            pub use crate::cluster::link::config;
        }
        pub mod mesh {
            pub mod apply {
                pub use crate::cluster::mesh::apply::objects;
            }
            pub mod envoy {
                pub use crate::cluster::mesh::envoy::healthy;
            }
            pub mod istio {
                pub use crate::cluster::mesh::istio::objects;
            }
            pub mod istiod {
                pub use crate::cluster::mesh::istiod::RemoteCluster;
            }
        }
        pub mod workloads {
            pub use crate::cluster::workloads::objects;
        }
    }
    pub mod diagnose {
        pub mod verify {
            pub use crate::diagnose::verify::CHECKS;
        }
    }
    pub mod host {
        pub mod docker {
            pub use crate::host::docker::Engine;
            pub mod bake {
                pub use crate::host::docker::bake::{FROM_LABEL, IMAGES_LABEL, LABEL, ensure, name};
            }
            pub mod image {
                pub use crate::host::docker::image::{Load, configured_snapshotter, ensure};
            }
            pub mod network {
                pub use crate::host::docker::network::{Created, ensure, remove};
            }
            pub mod node {
                pub use crate::host::docker::node::{NodeFile, copy_files, remove, run, run_with_input, try_exec};
            }
            pub mod sample_image {
                pub use crate::host::docker::sample_image::{ENTRYPOINT, LABEL, USER, ensure, listed};
            }
        }
        pub mod images {
            pub use crate::host::images::of_program;
        }
        pub mod inventory {
            pub use crate::host::inventory::{gather, sort};
        }
        pub mod kubeconfig {
            pub mod entries {
                pub use crate::host::kubeconfig::entries::{Mark, with, without};
            }
        }
        pub mod routes {
            pub use crate::host::host_routes::parse;
        }
        pub mod tool {
            pub use crate::host::tool::Tool;
            pub mod process {
                pub use crate::host::tool::process::all;
            }
            pub mod version {
                pub use crate::host::tool::version::parse;
            }
        }
        pub mod trust {
            pub use crate::host::trust::{Intermediate, Root, chains_to, inspect};
        }
    }
    pub mod lifecycle {
        pub use crate::lifecycle::experiment::Experiment;
    }
    pub mod plan {
        pub use crate::plan::{Cluster, KindCluster, MANAGED_BY_LABEL, Network, Plan, Samples, plan};
        pub mod existing {
            pub use crate::plan::existing::Known;
        }
        pub mod images {
            pub use crate::plan::image_names::of_archive;
        }
        pub mod inventory {
            pub use crate::plan::inventory::{
                CLUSTERS_LABEL, ENVIRONMENT_LABEL, Environment, Executable, Inventory, KIND_CLUSTER_LABEL,
                KIND_ROLE_LABEL, SUBNETS_LABEL, Taken, VERSION_LABEL, clusters_of_labels,
            };
        }
    }
    pub mod report {
        pub use crate::report::Style;
        pub mod failure {
            pub use crate::report::failure::Failure;
        }
    }
    pub mod sample {
        pub use crate::sample::{
            CallerAnswer, Count, Load, LoadProgress, Message, Metadata, Options, Ports, ProducerAnswer,
            ProducerUrl, Protocol, Refusal, Role, Server,
        };
    }
    pub mod spec {
        pub use crate::spec::{
            Label, Loaded, Origins, Sources, Spec, Version, changes, environment_name, from_text,
            kubernetes_version, schema, to_yaml, validate,
        };
    }
}
