//! `kindmesh bench`

use std::time::Duration;

use clap::Args;

use super::{Context, Description, Done, Task};
use crate::cli::values::{duration, whole};
use crate::diagnose::bench::{self, IMAGE, Options, Protocol};
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::lifecycle::locked;
use crate::report::{Output, figures};

/// `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Protocol of the calls: http, grpc or tcp
    #[arg(long, default_value_t = Protocol::Http, value_name = "PROTOCOL")]
    pub protocol: Protocol,
    /// Calls per second of each load; 0 for as many as possible
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = whole(0..=100_000u32), allow_negative_numbers = true)]
    pub qps: u32,
    /// Connections of each load
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = whole(1..=1000u32), allow_negative_numbers = true)]
    pub connections: u32,
    /// Duration of each load, in seconds
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = whole(1..=600u32), allow_negative_numbers = true)]
    pub seconds: u32,
    /// Image of the load generator fortio, from the local engine or pulled by the nodes
    #[arg(long, default_value = IMAGE, value_name = "IMAGE")]
    pub image: String,
    /// Timeout of the setup, such as 90s or 2m
    #[arg(long, value_parser = duration, default_value = "90s", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(args: BenchArgs) -> Task {
    let description = Description { html: true, ends_outages: true, ..Description::of("bench") };
    Task::new(description, async move |context| run(context, args).await)
}

async fn run(context: &Context, args: BenchArgs) -> anyhow::Result<Done> {
    context.require_own_nodes("bench")?;
    let BenchArgs { protocol, qps, connections, seconds, image, timeout } = args;
    let options = Options { protocol, qps, connections, seconds, image, timeout };
    let name = context.environment_name()?;
    let (_lock, environment) = locked::open_shared(&context.folders, &name, None, &context.events).await?;
    let engine = Engine::connect().await?;
    let plan = environment.plan(&engine, gather::gather(&engine).await?)?;
    let measured = bench::bench(&environment, &engine, &plan, &options, &context.events, &context.interrupt).await;
    let bench = measured.map_err(|error| context.explained(error))?;
    match context.global.output {
        Output::Json => Done::json(&bench),
        Output::Html => Ok(Done::text(figures::html::page(&bench))),
        _ => Ok(Done::text(figures::text(&bench, context.printer.stdout_style()))),
    }
}
