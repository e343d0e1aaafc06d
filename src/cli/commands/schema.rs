//! `kindmesh schema`

use super::{Description, Done, Task};
use crate::spec;

pub fn command() -> Task {
    Task::without_files(Description::of("schema"), run)
}

fn run() -> anyhow::Result<Done> {
    Done::json(&spec::schema())
}
