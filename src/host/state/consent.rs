//! What the state directory says about clusters that exist: what the user agreed to change in them ([`crate::plan::consent`]), and
//! which cluster each is. It is deleted with the environment, whose clusters are then asked about again.

use std::io::ErrorKind;

use anyhow::Context;

use super::{Files, write_private};
use crate::base::error::Error;
use crate::plan::consent::Grant;
use crate::plan::existing::Known;

impl Files {
    /// Records what the user agreed to.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn store_consent(&self, given: &[Grant]) -> anyhow::Result<bool> {
        write_private(&self.consent(), serde_yaml::to_string(given)?.as_bytes())
    }

    /// Returns what the user agreed to; nothing if nobody was asked.
    ///
    /// # Errors
    /// If the file exists and cannot be read: a broken one is never taken for consent.
    pub fn consent_given(&self) -> anyhow::Result<Vec<Grant>> {
        let file = self.consent();
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
        };
        serde_yaml::from_str(&text).map_err(|error| {
            Error::environment(format!("reading {}: {error}", file.display()))
                .hint(format!("to be asked again: rm {}", file.display()))
                .into()
        })
    }

    /// Records which cluster one is.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn store_known(&self, cluster: &str, known: &Known) -> anyhow::Result<bool> {
        write_private(&self.of_cluster(cluster, KNOWN), serde_yaml::to_string(known)?.as_bytes())
    }

    /// Returns which cluster one is; none if `up` has not changed it.
    ///
    /// # Errors
    /// If the file exists and cannot be read.
    pub fn known(&self, cluster: &str) -> anyhow::Result<Option<Known>> {
        let file = self.of_cluster(cluster, KNOWN);
        let what = || format!("reading {}", file.display());
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok(Some(serde_yaml::from_str(&text).with_context(what)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(what),
        }
    }
}

/// The file of a cluster that says which one it is.
const KNOWN: &str = "cluster.yaml";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::state::Directories;

    #[test]
    fn consent_round_trips_and_a_broken_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Directories { state: folder.path().to_owned(), cache: folder.path().join("cache") };
        let files = folders.environment("shop");
        assert_eq!(files.consent_given().unwrap(), []);
        let grant = Grant {
            installs: true,
            uid: "6f0e".into(),
            cluster: "east".into(),
            context: "arn:aws:eks:eu-west-1:1:cluster/a".into(),
            server: "https://10.0.0.5".into(),
            namespaces: ["istio-system".to_owned()].into(),
            readers: ["west".to_owned()].into(),
        };
        files.store_consent(std::slice::from_ref(&grant)).unwrap();
        assert_eq!(files.consent_given().unwrap(), [grant]);
        assert!(!files.exist());
        for broken in [
            "?",
            "- {uid: 1}",
            "- {uid: a, cluster: b, context: c, server: d, namespaces: [], readers: [], more: 1}",
        ] {
            std::fs::write(files.consent(), broken).unwrap();
            assert!(files.consent_given().is_err(), "{broken}");
        }
    }
}
