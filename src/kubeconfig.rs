//! Kubeconfig files: the environment's, with every cluster, and the user's own, changed only when asked.

use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::config::Kubeconfig;

use crate::error::Error;
use crate::plan::Plan;
use crate::state::{self, Files};

/// Writes the environment's file from every cluster's own; the first cluster with a caller is the current one.
///
/// # Errors
/// When one of them cannot be read, or the file not written.
pub fn ensure(files: &Files, plan: &Plan) -> anyhow::Result<PathBuf> {
    let mut merged = Kubeconfig::default();
    for cluster in &plan.clusters {
        merged = merged.merge(read(&files.of_cluster(&cluster.name, "kubeconfig"))?)?;
    }
    let first = plan.samples.iter().flat_map(|samples| &samples.callers).next();
    let current = first.and_then(|name| plan.cluster(name)).or(plan.clusters.first());
    merged.current_context = current.map(|cluster| cluster.context.clone());
    let path = files.kubeconfig();
    state::write_private(&path, serde_yaml::to_string(&merged)?.as_bytes())?;
    Ok(path)
}

fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))
}

/// The user's own kubeconfig: the first of `KUBECONFIG`, else `~/.kube/config`.
///
/// # Errors
/// When neither that variable nor HOME is set.
pub fn users_own() -> Result<PathBuf, Error> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let first = std::env::split_paths(&listed).find(|path| !path.as_os_str().is_empty());
    first
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config")))
        .ok_or_else(|| Error::prerequisite("neither KUBECONFIG nor HOME is set"))
}

/// Puts an environment's clusters, users and contexts into the user's own file, replacing those of the same names
/// and leaving all else, the current context included.
///
/// # Errors
/// When a file cannot be read or written, or another program has the user's file locked.
pub fn merge_into(users: &Path, environment: &Path) -> anyhow::Result<()> {
    // Where the file is a link, as dotfiles often are, what it leads to is changed.
    let real = users.canonicalize().unwrap_or_else(|_| users.to_owned());
    if environment.canonicalize().is_ok_and(|environment| environment == real) {
        return Err(Error::usage("KUBECONFIG names the environment's own file: there is nothing to merge into")
            .hint("unset KUBECONFIG, then: kindmesh kubeconfig --merge")
            .into());
    }
    let users = real.as_path();
    let from = read(environment)?;
    let _lock = Lock::take(users)?;
    let mut into = if users.exists() { read(users)? } else { Kubeconfig::default() };
    into.clusters.retain(|old| !from.clusters.iter().any(|new| new.name == old.name));
    into.auth_infos.retain(|old| !from.auth_infos.iter().any(|new| new.name == old.name));
    into.contexts.retain(|old| !from.contexts.iter().any(|new| new.name == old.name));
    into.clusters.extend(from.clusters);
    into.auth_infos.extend(from.auth_infos);
    into.contexts.extend(from.contexts);
    into.current_context = into.current_context.or(from.current_context);
    into.api_version.get_or_insert_with(|| "v1".into());
    into.kind.get_or_insert_with(|| "Config".into());
    state::write_private(users, serde_yaml::to_string(&into)?.as_bytes()).map(drop)
}

/// The lock that kubectl and kind respect: a file beside the kubeconfig that only one can create.
struct Lock(PathBuf);

impl Lock {
    fn take(users: &Path) -> anyhow::Result<Self> {
        let mut name = users.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        if let Some(folder) = users.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        match std::fs::File::create_new(&path) {
            Ok(_) => Ok(Self(path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::environment(format!("another program is changing {}", users.display()))
                    .hint(format!("try again; if none is, remove {}", path.display()))
                    .into())
            }
            Err(error) => Err(error).with_context(|| format!("making {}", path.display())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The one thing that has to happen however merging ends.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(name: &str, server: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\nclusters:\n- {{name: {name}, cluster: {{server: \
             \"{server}\"}}}}\nusers:\n- {{name: {name}, user: {{token: t}}}}\ncontexts:\n- {{name: {name}, context: \
             {{cluster: {name}, user: {name}}}}}\n"
        )
    }

    #[test]
    fn merging_replaces_its_own_and_leaves_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let (users, environment) = (folder.path().join("config"), folder.path().join("environment"));
        std::fs::write(&users, kubeconfig("work", "https://work")).unwrap();
        for server in ["https://old", "https://new"] {
            std::fs::write(&environment, kubeconfig("kind-e-a", server)).unwrap();
            merge_into(&users, &environment).unwrap();
        }
        let merged = read(&users).unwrap();
        assert_eq!(merged.current_context.as_deref(), Some("work"));
        let server = |name: &str| {
            let found: Vec<_> = merged.clusters.iter().filter(|cluster| cluster.name == name).collect();
            assert_eq!(found.len(), 1);
            found[0].cluster.as_ref().unwrap().server.clone().unwrap()
        };
        assert_eq!((server("work").as_str(), server("kind-e-a").as_str()), ("https://work", "https://new"));
        assert!(!folder.path().join("config.lock").exists());
    }

    #[test]
    fn a_file_that_somebody_changes_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (users, environment) = (folder.path().join("config"), folder.path().join("environment"));
        std::fs::write(&environment, kubeconfig("a", "https://a")).unwrap();
        std::fs::write(folder.path().join("config.lock"), "").unwrap();
        let error = merge_into(&users, &environment).unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");
        assert!(!users.exists());
    }
}
