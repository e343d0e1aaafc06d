//! One file for each command: its arguments, its description, a call to the library, the result. No logic.

use super::context::Context;
use super::task::{Description, Done, Task, kept};

pub mod apply;
pub mod bench;
pub mod bundle;
pub mod cache;
pub mod call;
pub mod completions;
pub mod deploy;
pub mod doctor;
pub mod down;
pub mod env;
pub mod experiment;
pub mod fault;
pub mod image;
pub mod kubeconfig;
pub mod lab;
pub mod lint;
pub mod list;
pub mod logs;
pub mod offline;
pub mod open;
pub mod pause;
pub mod plan;
pub mod render;
pub mod schema;
pub mod serve;
pub mod snapshot;
pub mod start;
pub mod status;
pub mod timeline;
pub mod ui;
pub mod up;
pub mod verify;
pub mod why;
