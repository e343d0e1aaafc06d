//! `kindmesh schema`

use super::Done;
use crate::spec;

pub(super) fn run() -> anyhow::Result<Done> {
    Done::json(&spec::schema())
}
