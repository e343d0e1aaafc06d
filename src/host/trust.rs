//! The root of trust: one root CA for the environment, one intermediate CA for each cluster's mesh.
//!
//! The root's key never leaves the environment's directory. A cluster gets its intermediate CA as the secret
//! `cacerts`, which must exist before istiod starts: otherwise istiod signs with its own certificate, and the
//! clusters do not trust each other.
//!
//! Of each pair, the key is written first and the certificate last, each complete or missing. So a key without a
//! certificate was never used, and a command that was killed in between can be repeated. The environment's lock,
//! not this module, prevents two commands from using one directory at the same time.

mod authority;
mod ca;
mod files;
mod inspect;
#[cfg(feature = "cli")]
pub mod kubernetes;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::Context;

use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData};

pub use authority::Authority;
pub use inspect::{chains_to, inspect, leads_to};

use crate::base::error::Error;
use crate::base::event::Outcome;
use crate::base::names;
use crate::host::state;

/// A certificate that expires sooner than this is not used: a workload certificate never outlives the intermediate
/// CA that signed it.
const MARGIN: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The environment's root CA, with the key that signs intermediate CAs.
pub struct Root {
    cert_pem: String,
    key: KeyPair,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// The file of the root certificate.
const ROOT_CERT: &str = "root-cert.pem";
/// The file of a cluster's intermediate CA, as in the secret `cacerts`.
const CA_CERT: &str = "ca-cert.pem";
/// The file of its key.
const CA_KEY: &str = "ca-key.pem";
/// The file with the chain of certificates from the intermediate CA to the root CA.
const CERT_CHAIN: &str = "cert-chain.pem";

/// Returns the certificate of the root CA in a directory, as PEM.
///
/// # Errors
/// The file system's errors.
pub fn root_certificate(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join(ROOT_CERT);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

impl Root {
    /// Loads the root CA from `root-cert.pem` and `root-key.pem` in `dir`, or creates it there.
    ///
    /// # Errors
    /// A root CA that cannot be used anymore is an environment error and is not replaced: a running mesh trusts
    /// it, and istiod rejects another one.
    pub fn ensure(dir: &Path, environment: &str) -> anyhow::Result<Outcome<Self>> {
        Self::ensure_at(dir, environment, Timestamp::now())
    }

    fn ensure_at(dir: &Path, environment: &str, now: Timestamp) -> anyhow::Result<Outcome<Self>> {
        files::private_directory(dir)?;
        let (cert_path, key_path) = (dir.join(ROOT_CERT), dir.join("root-key.pem"));
        match (files::read(&cert_path)?, files::read_private(&key_path)?) {
            (Some(cert_pem), Some(key_pem)) => match usable(&cert_pem, &key_pem, now) {
                Ok(key) => Ok(Outcome::unchanged(Self { cert_pem, key })),
                Err(Flaw::Certificate(why)) => Err(unusable(&cert_path, &why).into()),
                Err(Flaw::Key(why)) => Err(unusable(&key_path, &why).into()),
            },
            (Some(_), None) => Err(unusable(&key_path, "it is missing, but its certificate exists").into()),
            (None, Some(_)) if files::holds_intermediates(dir)? => {
                Err(unusable(&cert_path, "it is missing, but its key has signed intermediate CAs").into())
            }
            (None, _) => {
                let (cert_pem, key) = ca::make_root(environment, now)?;
                state::write_private(&key_path, key.serialize_pem().as_bytes())?;
                state::write_private(&cert_path, cert_pem.as_bytes())?;
                Ok(Outcome::changed(Self { cert_pem, key }))
            }
        }
    }

    /// Returns the root's certificate, which all clusters share.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }
}

/// The CA with which one cluster's istiod signs workload certificates.
#[derive(Clone, PartialEq, Eq)]
pub struct Intermediate {
    /// The certificate of the intermediate CA.
    pub cert_pem: String,
    /// Its key, PKCS#8.
    pub key_pem: String,
    /// The intermediate CA, then the root CA.
    pub chain_pem: String,
    /// The root CA.
    pub root_pem: String,
}

impl fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intermediate").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// Deletes the intermediate CA of a cluster from `dir`.
///
/// # Errors
/// The file system's errors.
pub fn remove_intermediate(dir: &Path, cluster: &str) -> anyhow::Result<()> {
    let (cert_path, key_path) = files::intermediate(dir, cluster);
    [cert_path, key_path].iter().try_for_each(|path| state::remove_file(path))
}

impl Intermediate {
    /// Loads the cluster's intermediate CA from `intermediate-CLUSTER-cert.pem` and `…-key.pem` in `dir`, or
    /// creates it there; one that is invalid, about to expire or of another root is replaced: istiod picks up
    /// the new one while it runs.
    ///
    /// # Errors
    /// If `dir` cannot be read or written.
    pub fn ensure(dir: &Path, root: &Root, environment: &str, cluster: &str) -> anyhow::Result<Outcome<Self>> {
        Self::ensure_at(dir, root, environment, cluster, Timestamp::now())
    }

    fn ensure_at(
        dir: &Path,
        root: &Root,
        environment: &str,
        cluster: &str,
        now: Timestamp,
    ) -> anyhow::Result<Outcome<Self>> {
        files::private_directory(dir)?;
        let (cert_path, key_path) = files::intermediate(dir, cluster);
        let wanted = names::subject(environment, Some(cluster)).to_string();
        if let (Some(cert_pem), Some(key_pem)) = (files::read(&cert_path)?, files::read_private(&key_path)?)
            && usable(&cert_pem, &key_pem, now).is_ok()
            && inspect(cert_pem.as_bytes())?.iter().all(|c| c.subject == wanted && c.path_len == Some(0))
            && chains_to(cert_pem.as_bytes(), root.cert_pem.as_bytes())
        {
            return Ok(Outcome::unchanged(Self::of(root, cert_pem, key_pem)));
        }
        let (cert_pem, key) = ca::make_intermediate(root, environment, cluster, now)?;
        let key_pem = key.serialize_pem();
        state::write_private(&key_path, key_pem.as_bytes())?;
        state::write_private(&cert_path, cert_pem.as_bytes())?;
        Ok(Outcome::changed(Self::of(root, cert_pem, key_pem)))
    }

    fn of(root: &Root, cert_pem: String, key_pem: String) -> Self {
        let root_pem = root.cert_pem.clone();
        Self { chain_pem: format!("{}\n{}", cert_pem.trim_end(), root_pem), cert_pem, key_pem, root_pem }
    }

    /// Returns the data of the secret `cacerts`. istiod requires all four keys to start.
    pub fn secret_data(&self) -> BTreeMap<String, Vec<u8>> {
        [
            (CA_CERT, &self.cert_pem),
            (CA_KEY, &self.key_pem),
            (CERT_CHAIN, &self.chain_pem),
            (ROOT_CERT, &self.root_pem),
        ]
        .into_iter()
        .map(|(name, pem)| (name.to_owned(), pem.clone().into_bytes()))
        .collect()
    }
}

/// Why a stored pair cannot sign, and which of its two files is the reason.
enum Flaw {
    Certificate(String),
    Key(String),
}

/// Returns the key of a stored pair, if it can sign for long enough.
fn usable(cert_pem: &str, key_pem: &str, now: Timestamp) -> Result<KeyPair, Flaw> {
    usable_certificate(cert_pem, now).map_err(Flaw::Certificate)?;
    let key = KeyPair::from_pem(key_pem).map_err(|error| Flaw::Key(format!("it has no usable key: {error}")))?;
    if !inspect::certifies(cert_pem.as_bytes(), &key.subject_public_key_info()) {
        return Err(Flaw::Key(OTHER_KEY.into()));
    }
    Ok(key)
}

const OTHER_KEY: &str = "it is not the key of the certificate next to it";

/// Checks that a certificate can sign for long enough.
///
/// # Errors
/// Why it cannot.
fn usable_certificate(pem: &str, now: Timestamp) -> Result<(), String> {
    let certificates = inspect(pem.as_bytes()).map_err(|error| format!("{error:#}"))?;
    let [certificate] = certificates.as_slice() else {
        return Err(format!("it contains {} certificates instead of one", certificates.len()));
    };
    if !certificate.is_ca {
        return Err("it is not the certificate of a CA".into());
    }
    if certificate.not_before > now {
        return Err(format!("it is valid from {}, but the host's clock says {now}", certificate.not_before));
    }
    if certificate.not_after < now + MARGIN {
        return Err(format!("it expires at {}, in less than 30 days", certificate.not_after));
    }
    Ok(())
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::environment(format!("the root of trust in {} cannot be used: {why}", path.display())).hint(
        "restore the file, or recreate the environment, since a running mesh rejects another root CA: \
         kindmesh down, then kindmesh up",
    )
}
