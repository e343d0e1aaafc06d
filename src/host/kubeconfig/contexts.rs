//! The contexts of the user's own kubeconfigs, as kubectl finds them. A context is always named: the current one is whatever was
//! looked at last.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::config::Kubeconfig;

use crate::base::error::Error;

/// How many contexts an error lists.
const MAX_LISTED: usize = 20;

/// The user's kubeconfigs, merged.
#[derive(Debug, Clone, Default)]
pub struct Users {
    files: Vec<PathBuf>,
    merged: Kubeconfig,
}

impl Users {
    /// Reads those that kubectl uses: of the variable `KUBECONFIG`, else `~/.kube/config`. The spec cannot name others, since a
    /// kubeconfig can run programs.
    ///
    /// # Errors
    /// If one of them cannot be read, or none can be named.
    pub fn of_process() -> anyhow::Result<Self> {
        let files = users_files(std::env::var_os("KUBECONFIG").as_deref(), std::env::var_os("HOME").as_deref())?;
        Self::read(files)
    }

    /// Reads and merges kubeconfigs. Missing ones are left out, as kubectl does.
    ///
    /// # Errors
    /// If one exists and cannot be read.
    fn read(files: Vec<PathBuf>) -> anyhow::Result<Self> {
        let mut merged = Kubeconfig::default();
        for file in files.iter().filter(|file| file.exists()) {
            let what = || format!("reading {}", file.display());
            merged = merged.merge(Kubeconfig::read_from(file).with_context(what)?).with_context(what)?;
        }
        // Nothing may use it by accident.
        merged.current_context = None;
        Ok(Self { files, merged })
    }

    /// Returns them as one.
    pub fn merged(&self) -> &Kubeconfig {
        &self.merged
    }

    /// Checks that a context exists.
    ///
    /// # Errors
    /// A usage error that lists the contexts.
    pub fn require(&self, context: &str) -> Result<(), Error> {
        if self.merged.contexts.iter().any(|found| found.name == context) {
            return Ok(());
        }
        let mut names: Vec<&str> = self.merged.contexts.iter().map(|found| found.name.as_str()).collect();
        names.sort_unstable();
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        let mut error = Error::usage(format!("context {context:?} not found in {}", files.join(", ")));
        for name in names.iter().take(MAX_LISTED) {
            error = error.evidence(format!("found: {name}"));
        }
        if names.len() > MAX_LISTED {
            error = error.evidence(format!("and {} more", names.len() - MAX_LISTED));
        }
        Err(error
            .hint("use a name that kubectl config get-contexts shows, or set KUBECONFIG to the file that has it"))
    }

    /// Returns a kubeconfig with one context only, under another name. Programs and files stay references.
    ///
    /// # Errors
    /// If the context, its cluster or its user does not exist.
    pub fn extract(&self, context: &str, name: &str) -> anyhow::Result<Kubeconfig> {
        let missing = |what: &str| format!("context {context} has no {what}");
        let found = self.merged.contexts.iter().find(|found| found.name == context);
        let mut found = found.cloned().with_context(|| missing("entry"))?;
        let inner = found.context.as_mut().with_context(|| missing("content"))?;
        let cluster = self.merged.clusters.iter().find(|found| found.name == inner.cluster);
        let mut cluster = cluster.cloned().with_context(|| missing("cluster"))?;
        let user = self.merged.auth_infos.iter().find(|found| Some(&found.name) == inner.user.as_ref());
        let mut user = user.cloned();
        found.name = name.to_owned();
        inner.cluster = name.to_owned();
        inner.user = user.is_some().then(|| name.to_owned());
        cluster.name = name.to_owned();
        if let Some(user) = &mut user {
            user.name = name.to_owned();
        }
        Ok(Kubeconfig {
            api_version: Some("v1".into()),
            kind: Some("Config".into()),
            current_context: Some(name.to_owned()),
            contexts: vec![found],
            clusters: vec![cluster],
            auth_infos: user.into_iter().collect(),
            ..Kubeconfig::default()
        })
    }
}

/// Returns the user's kubeconfigs, in the order in which the first one with an entry wins.
///
/// # Errors
/// A usage error for a relative path: which file that is, and so which programs run, would depend on the working directory. A
/// missing prerequisite if neither is set.
fn users_files(variable: Option<&OsStr>, home: Option<&OsStr>) -> Result<Vec<PathBuf>, Error> {
    let listed = std::env::split_paths(variable.unwrap_or_default()).filter(|path| !path.as_os_str().is_empty());
    let files: Vec<PathBuf> = listed.collect();
    if let Some(relative) = files.iter().find(|path| path.is_relative()) {
        return Err(Error::usage(format!("KUBECONFIG names the relative path {}", relative.display()))
            .evidence("a kubeconfig can run programs, and which file that is depends on the working directory")
            .hint("set KUBECONFIG to absolute paths"));
    }
    match (files.is_empty(), home) {
        (false, _) => Ok(files),
        (true, Some(home)) => Ok(vec![Path::new(home).join(".kube/config")]),
        (true, None) => Err(Error::prerequisite("neither KUBECONFIG nor HOME is set")
            .hint("set KUBECONFIG to the path of your kubeconfig")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(context: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: {context}, cluster: {{server: 'https://{context}'}}}}]\n\
             contexts: [{{name: {context}, context: {{cluster: {context}, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n\
             current-context: {context}\n"
        )
    }

    #[test]
    fn files_are_those_of_kubectl() {
        let files = |variable: &str, home: Option<&str>| {
            users_files(Some(OsStr::new(variable)), home.map(OsStr::new)).map_err(|error| error.message)
        };
        assert_eq!(files("/a::/b", Some("/home/ada")), Ok(vec!["/a".into(), "/b".into()]));
        assert_eq!(files("", Some("/home/ada")), Ok(vec!["/home/ada/.kube/config".into()]));
        assert_eq!(files("/a:config", None), Err("KUBECONFIG names the relative path config".into()));
        assert_eq!(files(":", None), Err("neither KUBECONFIG nor HOME is set".into()));
    }

    #[test]
    fn a_context_has_to_be_named() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = ["a", "missing", "b"].iter().map(|name| folder.path().join(name)).collect();
        for name in ["a", "b"] {
            std::fs::write(folder.path().join(name), kubeconfig(name)).unwrap();
        }
        let users = Users::read(files.clone()).unwrap();
        assert_eq!(users.merged.current_context, None);
        users.require("b").unwrap();
        assert_eq!(users.require("c").unwrap_err().evidence, ["found: a", "found: b"]);
        let one = users.extract("b", "kindmesh-shop-east").unwrap();
        assert_eq!((one.contexts.len(), one.contexts[0].name.as_str()), (1, "kindmesh-shop-east"));
        assert_eq!(one.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://b"));
        assert!(users.extract("c", "x").is_err());
        std::fs::write(folder.path().join("b"), "[").unwrap();
        assert!(Users::read(files).is_err());
    }
}
