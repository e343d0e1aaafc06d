//! Writes everything that `up` would use to a directory, with a script that applies it: to read, to compare, or to
//! work without kindmesh.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::api::DynamicObject;

use crate::base::error::Error;
use crate::cluster::link;
use crate::cluster::mesh::{cacerts, gateway, istio, primary, render};
use crate::cluster::workloads;
use crate::host::docker::sample_image;
use crate::host::kind;
use crate::host::state::{self, Files};
use crate::host::tool::Found;
use crate::host::trust::Authority;
use crate::plan::{Cluster, Plan};
use crate::spec::{Profile, Spec};

mod script;

/// The input of rendering.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The spec.
    pub spec: &'a Spec,
    /// Its plan.
    pub plan: &'a Plan,
    /// The environment's files: an existing root of trust is reused.
    pub files: &'a Files,
    /// The cache directory, for Istio's manifests.
    pub cache: &'a Path,
}

/// Writes all files to `folder` and returns their paths in it. They include private keys, so only the owner can read
/// them.
///
/// # Errors
/// A usage error if the directory is not empty; otherwise errors of istioctl or the file system.
pub async fn render(
    inputs: &Inputs<'_>,
    folder: &Path,
    istioctl: impl AsyncFn(&Cluster) -> anyhow::Result<Found>,
) -> anyhow::Result<Vec<PathBuf>> {
    refuse_used(folder)?;
    let mut out = Out { folder, written: Vec::new() };
    let plan = inputs.plan;
    // An existing root of trust is copied; missing parts are created in `folder`, not in the state directory.
    let trust = folder.join("trust");
    copy_folder(&inputs.files.trust(), &trust)?;
    let authority = Authority::ensure(&trust, inputs.spec)?.value;
    out.write("plan.yaml", serde_yaml::to_string(plan)?.as_bytes(), 0o600)?;
    for cluster in &plan.clusters {
        let rendered = render::manifests(inputs.cache, cluster, async || istioctl(cluster).await).await?.value;
        if let Some(kind) = cluster.host.kind() {
            out.yaml(cluster, "kind.yaml", &kind.config)?;
        }
        if plan.docker()?.profile == Profile::Disposable {
            out.write(&format!("{}/coredns.yaml", cluster.name), kind::COREDNS.as_bytes(), 0o600)?;
        }
        out.yaml(cluster, "istio-operator.yaml", &cluster.istio)?;
        if cluster.is_remote() {
            out.objects(cluster, "namespace.yaml", &[primary::namespace(cluster)?])?;
        } else {
            let intermediate = authority.intermediate(&trust, &plan.environment, &cluster.name)?;
            let cacerts = cacerts::objects(&cluster.network, &intermediate, &authority.digest())?;
            out.objects(cluster, "cacerts.yaml", &cacerts)?;
        }
        let (definitions, rest): (Vec<_>, Vec<_>) =
            istio::objects(&rendered, &authority.digest())?.into_iter().partition(is_definition);
        out.objects(cluster, "istio-crds.yaml", &definitions)?;
        out.objects(cluster, "istio.yaml", &rest)?;
        if plan.has_gateways() {
            out.objects(cluster, "gateway.yaml", &gateway::objects()?)?;
        }
        let exposed = primary::objects(cluster)?;
        if !exposed.is_empty() {
            out.objects(cluster, "exposed-istiod.yaml", &exposed)?;
        }
        for file in link::files(plan, cluster)? {
            out.write(&format!("{}/node{}", cluster.name, file.path), &file.content, file.mode)?;
        }
        let spec = inputs.spec.clusters.iter().find(|spec| spec.name.as_str() == cluster.name);
        if let (Some(samples), Some(spec)) = (&plan.samples, spec) {
            out.objects(
                cluster,
                "samples.yaml",
                &workloads::objects(samples, inputs.spec, spec, &authority.digest())?,
            )?;
        }
    }
    let builds = plan.samples.as_ref().is_some_and(|samples| samples.build);
    if let (true, Some(executable)) = (builds, sample_image::executable().await) {
        out.write(
            "sample-image.tar",
            &sample_image::root_folder(&executable, sample_image::ENTRYPOINT).await?,
            0o600,
        )?;
    }
    out.write("apply.sh", script::apply(plan)?.as_bytes(), 0o700)?;
    Ok(out.written)
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let content =
            std::fs::read(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
        state::write_private(&to.join(entry.file_name()), &content)?;
    }
    Ok(())
}

fn is_definition(object: &DynamicObject) -> bool {
    object.types.as_ref().is_some_and(|types| types.kind == "CustomResourceDefinition")
}

fn refuse_used(folder: &Path) -> anyhow::Result<()> {
    let used = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if used {
        return Err(Error::usage(format!("directory {} is not empty", folder.display()))
            .hint("choose a directory that does not exist")
            .into());
    }
    Ok(())
}

struct Out<'a> {
    folder: &'a Path,
    written: Vec<PathBuf>,
}

impl Out<'_> {
    fn write(&mut self, path: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
        let whole = self.folder.join(path);
        state::write_private(&whole, content)?;
        std::fs::set_permissions(&whole, std::fs::Permissions::from_mode(mode))
            .with_context(|| format!("writing {}", whole.display()))?;
        self.written.push(path.into());
        Ok(())
    }

    fn yaml(&mut self, cluster: &Cluster, file: &str, value: &impl serde::Serialize) -> anyhow::Result<()> {
        self.write(&format!("{}/{file}", cluster.name), serde_yaml::to_string(value)?.as_bytes(), 0o600)
    }

    fn objects(&mut self, cluster: &Cluster, file: &str, objects: &[DynamicObject]) -> anyhow::Result<()> {
        let documents: Vec<String> = objects.iter().map(serde_yaml::to_string).collect::<Result<_, _>>()?;
        self.write(&format!("{}/{file}", cluster.name), documents.join("---\n").as_bytes(), 0o600)
    }
}
