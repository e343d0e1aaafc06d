//! The host and its engine: nodes, images, programs, keys and files.

pub mod docker;
pub mod host_routes;
pub mod images;
pub mod inventory;
pub mod kind;
pub mod kubeconfig;
pub mod outage;
pub mod record;
pub mod snapshot;
pub mod state;
pub mod tool;
pub mod trust;
