//! The spec of a command: defaults, then files, then flags; maps are merged, lists are replaced.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::origins::Source;
use super::validate::NAME_MAX;
use super::{Label, Origins, Spec, disk, file};
use crate::base::error::Error;
use crate::spec::merge::merge;

/// The file that is read from the working directory if it exists.
pub const DEFAULT_FILE: &str = "kindmesh.yaml";
/// The environment variable with more files, separated as in `PATH`.
pub const FILES_VARIABLE: &str = "KINDMESH_FILE";
/// The environment variable with the environment's name, as `kindmesh env` sets it: used if no file and no flag
/// sets one.
pub const NAME_VARIABLE: &str = "KINDMESH_ENVIRONMENT";

/// The sources of a spec, in the order in which later ones override earlier ones.
///
/// Reads nothing from the process: the caller passes the working directory and the variable.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The working directory, for `DEFAULT_FILE` and relative paths.
    pub directory: PathBuf,
    /// The value of `FILES_VARIABLE`.
    pub variable: Option<OsString>,
    /// The value of `NAME_VARIABLE`.
    pub environment: Option<String>,
    /// The files of `-f`.
    pub files: Vec<PathBuf>,
    /// The environment's name from `--name`.
    pub name: Option<Label>,
}

/// A merged spec, not yet validated.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The spec.
    pub spec: Spec,
    /// The source of each of its fields.
    pub origins: Origins,
    /// Whether any file was read. Without one, `up` and `plan` use the stored spec.
    pub from_files: bool,
}

impl Sources {
    /// Reads and merges all sources.
    ///
    /// # Errors
    /// A usage error if a specified file cannot be read, or a file is not a spec.
    pub fn load(&self) -> Result<Loaded, Error> {
        let sources = self.read()?;
        let from_files = !sources.is_empty();
        let mut layers = Vec::new();
        if let Some(name) = self.named_by_variable()? {
            layers.push((serde_json::json!({"name": name}), Source::flag(NAME_VARIABLE)));
        }
        for source in sources {
            layers.push((file::read(&source.text, &source.shown)?, source));
        }
        if let Some(name) = &self.name {
            layers.push((serde_json::json!({"name": name}), Source::flag("--name")));
        }
        let (mut spec, origins) = merged(layers)?;
        if let Some(from) = spec.trust.from.as_mut().filter(|from| !from.is_empty()) {
            // Relative to the file that names it. The stored spec is in another directory.
            let file = origins.of("trust.from").map(Path::new).and_then(Path::parent);
            let path = self.directory.join(file.unwrap_or(Path::new(""))).join(&from);
            *from = path.display().to_string();
        }
        Ok(Loaded { spec, origins, from_files })
    }

    /// Returns only the environment's name: from `--name`, else the files, else the variable, else the default.
    ///
    /// A command on an existing environment uses its stored spec. So no file is read with `--name`; without it, only
    /// the name in the files must be valid. Still, a file that cannot be read is an error: falling back to the
    /// default could delete the wrong environment.
    ///
    /// # Errors
    /// A usage error if a specified file cannot be read, is not YAML, or has no valid name.
    pub fn name(&self) -> Result<Label, Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Named {
            name: Option<Label>,
        }
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let mut name = self.named_by_variable()?.unwrap_or(Spec::default().name);
        for source in self.read()? {
            let named: Option<Named> = file::parse(&source.text, &source.shown)?;
            name = named.and_then(|named| named.name).unwrap_or(name);
        }
        Ok(name)
    }

    fn named_by_variable(&self) -> Result<Option<Label>, Error> {
        let Some(name) = self.environment.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
        let wrong = |error| {
            Error::usage(format!("{NAME_VARIABLE} is not a valid environment name: {error}"))
                .hint(format!("unset {NAME_VARIABLE}, or set it to a name that kindmesh list shows"))
        };
        environment_name(name).map(Some).map_err(wrong)
    }

    /// Returns the texts of all existing files.
    fn read(&self) -> Result<Vec<Arc<Source>>, Error> {
        let mut sources = Vec::new();
        sources.extend(self.read_file(Path::new(DEFAULT_FILE), None)?);
        for path in
            self.variable.iter().flat_map(std::env::split_paths).filter(|path| !path.as_os_str().is_empty())
        {
            sources.extend(self.read_file(&path, Some(FILES_VARIABLE))?);
        }
        for path in &self.files {
            sources.extend(self.read_file(path, Some("-f"))?);
        }
        Ok(sources)
    }

    /// Returns the text of a file; `None` if it is the default file and does not exist.
    fn read_file(&self, path: &Path, named_by: Option<&str>) -> Result<Option<Arc<Source>>, Error> {
        let source = |text| Some(Arc::new(Source { shown: path.display().to_string(), text }));
        if named_by.is_none() && !self.directory.join(path).is_symlink() && !self.directory.join(path).exists() {
            return Ok(None);
        }
        disk::read(&self.directory, path, named_by).map(source)
    }
}

/// Parses the name of an environment.
///
/// # Errors
/// What is wrong with the name.
pub fn environment_name(text: &str) -> Result<Label, String> {
    let name: Label = text.parse()?;
    match text.len() {
        ..=NAME_MAX => Ok(name),
        length => Err(format!("\"{text}\" has {length} characters, at most {NAME_MAX} are allowed")),
    }
}

/// Parses one text on top of the defaults: the stored spec of an environment.
///
/// # Errors
/// A usage error if it is not a spec; `shown` names it in the message.
pub fn from_text(text: &str, shown: &str) -> Result<Loaded, Error> {
    let source = Arc::new(Source { shown: shown.to_owned(), text: text.to_owned() });
    let (spec, origins) = merged(vec![(file::read(text, shown)?, source)])?;
    Ok(Loaded { spec, origins, from_files: true })
}

/// Returns the spec as YAML with every field. [`from_text`] parses it into the same spec.
///
/// # Errors
/// If the YAML writer fails, which no spec is known to cause.
pub fn to_yaml(spec: &Spec) -> anyhow::Result<String> {
    serde_yaml::to_string(spec).context("writing the spec as YAML")
}

fn merged(layers: Vec<(Value, Arc<Source>)>) -> Result<(Spec, Origins), Error> {
    let wrong = |error: serde_json::Error| Error::usage(format!("the merged spec is invalid: {error}"));
    let mut value = serde_json::to_value(Spec::default()).map_err(wrong)?;
    let mut origins = Origins::default();
    for (layer, source) in layers {
        origins.record(&layer, &source);
        merge(&mut value, layer);
    }
    let mut spec: Spec = serde_json::from_value(value).map_err(wrong)?;
    follow_clusters(&mut spec, &origins);
    Ok((spec, origins))
}

/// The default clusters of the samples follow the clusters' names: the caller in the first cluster, the producer
/// in the second.
fn follow_clusters(spec: &mut Spec, origins: &Origins) {
    let Some(first) = spec.clusters.first().map(|cluster| cluster.name.clone()) else { return };
    let second = spec.clusters.get(1).map_or_else(|| first.clone(), |cluster| cluster.name.clone());
    if origins.of("samples.caller.clusters").is_none() {
        spec.samples.caller.clusters = vec![first];
    }
    if origins.of("samples.producer.clusters").is_none() {
        spec.samples.producer.clusters = vec![second];
    }
}
