//! `kindmesh serve`, which the sample image runs.

use clap::Args;

use super::Task;
use crate::base::error;
use crate::report::{Printer, failure};
use crate::sample::{self, Metadata, Options, ProducerUrl, Role};

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// caller, producer or probe
    pub role: Role,
    /// URL of the producer, for the caller [default: http://sample-producer:8080]
    #[arg(long, value_name = "URL")]
    pub producer: Option<ProducerUrl>,
}

pub fn command(args: ServeArgs) -> Task {
    Task::process(async move |printer| run(&args, printer).await)
}

async fn run(args: &ServeArgs, printer: &Printer) -> u8 {
    let mut options = Options { metadata: Metadata::from_env(), ..Options::default() };
    if let Some(url) = &args.producer {
        options.producer = url.clone();
    }
    match sample::serve(args.role, options).await {
        Ok(()) => 0,
        Err(error) => {
            failure::print(printer, &error);
            error::exit_code(&error)
        }
    }
}
