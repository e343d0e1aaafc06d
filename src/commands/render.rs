//! `kindmesh render`

use super::{Context, Done};
use crate::cli::RenderArgs;

pub(super) async fn run(_context: &Context, _args: &RenderArgs) -> anyhow::Result<Done> {
    anyhow::bail!("not there yet")
}
