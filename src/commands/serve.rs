//! `kindmesh serve`, which the sample image runs

use super::Done;
use crate::cli::ServeArgs;
use crate::sample::{self, Metadata, Options};

pub(super) async fn run(args: &ServeArgs) -> anyhow::Result<Done> {
    sample::serve(args.role, Options { metadata: Metadata::from_env(), ..Options::default() }).await?;
    Ok(Done::default())
}
