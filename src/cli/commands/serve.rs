//! `kindmesh serve`, which the sample image runs

use crate::base::error;
use crate::cli::ServeArgs;
use crate::report::{Printer, failure};
use crate::sample::{self, Metadata, Options};

pub(super) async fn run(args: &ServeArgs, printer: &Printer) -> u8 {
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
