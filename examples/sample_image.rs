//! Builds the sample image from a kindmesh executable, like `up`, under a name for publishing. The release workflow runs it.
//!
//! ```text
//! cargo run --release --example sample_image -- target/release/kindmesh registry.example/kindmesh-sample:1.2.3
//! ```

use std::path::Path;

use anyhow::bail;
use kindmesh::internals::host::docker::{Engine, sample_image};
use kindmesh::internals::plan::Samples;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [executable, image] = arguments.as_slice() else { bail!("give an executable and the image's name") };
    let samples = Samples {
        namespace: String::new(),
        image: image.clone(),
        build: true,
        callers: Vec::new(),
        producers: Vec::new(),
        replicas: 1,
    };
    sample_image::ensure(&Engine::connect().await?, &samples, Path::new(executable)).await?;
    Ok(())
}
