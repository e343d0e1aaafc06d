//! Who signs the intermediate CAs of an environment: its own root CA, or somebody else, who gave them as files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::{
    CA_CERT, CA_KEY, CERT_CHAIN, Intermediate, OTHER_KEY, ROOT_CERT, Root, files, inspect, usable_certificate,
};
use crate::base::digest::hex;
use crate::base::error::Error;
use crate::base::event::Outcome;
use crate::base::hint::down_hint;
use crate::host::state;
use crate::spec::Spec;

/// The intermediate CAs of an environment's clusters, and their common root.
#[derive(Debug)]
pub enum Authority {
    /// kindmesh's own root CA, which signs them when they are needed.
    Own(Box<Root>),
    /// Files of the user. The key of their root is not needed.
    Given {
        /// The certificates of the root that all of them share.
        root_pem: String,
        /// The intermediate CA of each cluster.
        intermediates: BTreeMap<String, Intermediate>,
    },
}

impl Authority {
    /// Loads or creates the root CA in `dir`; with `trust.from`, reads its files instead, and copies the root certificate to `dir`.
    ///
    /// # Errors
    /// A usage error for given files that cannot be used; otherwise those of [`Root::ensure`] and of the file system.
    pub fn ensure(dir: &Path, spec: &Spec) -> anyhow::Result<Outcome<Self>> {
        let environment = spec.name.as_str();
        let Some(from) = &spec.trust.from else {
            let Outcome { value, changed } = Root::ensure(dir, environment)?;
            return Ok(Outcome { value: Self::Own(Box::new(value)), changed });
        };
        let given = given(spec, Path::new(from))?;
        files::private_directory(dir)?;
        let path = dir.join(ROOT_CERT);
        let stored = files::read(&path)?;
        let changed = stored.as_deref() != Some(given.root_pem());
        if stored.is_some_and(|stored| digests(&stored).is_disjoint(&digests(given.root_pem()))) {
            let what = format!("trust.from: {from} has another root than the running mesh, which rejects it");
            let hint = format!("use the earlier one, or {} first", down_hint(environment));
            return Err(Error::usage(what).hint(hint).into());
        }
        if changed {
            state::write_private(&path, given.root_pem().as_bytes())?;
        }
        Ok(Outcome { value: given, changed })
    }

    /// Checks the files of `trust.from`, if it is set.
    ///
    /// # Errors
    /// A usage error that names the first file that cannot be used.
    pub fn check(spec: &Spec) -> Result<(), Error> {
        spec.trust.from.as_ref().map_or(Ok(()), |from| given(spec, Path::new(from)).map(drop))
    }

    /// Returns the root's certificate, which all clusters share.
    pub fn root_pem(&self) -> &str {
        match self {
            Self::Own(root) => root.cert_pem(),
            Self::Given { root_pem, .. } => root_pem,
        }
    }

    /// Returns the start of the root certificate's SHA-256: 12 hexadecimal digits. Pods with this annotation restart when the root
    /// changes.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(self.root_pem()))[..12].to_owned()
    }

    /// Returns the intermediate CA of a cluster. Those of the own root CA are kept in `dir`.
    ///
    /// # Errors
    /// Those of [`Intermediate::ensure`].
    pub fn intermediate(&self, dir: &Path, environment: &str, cluster: &str) -> anyhow::Result<Intermediate> {
        match self {
            Self::Own(root) => Ok(Intermediate::ensure(dir, root, environment, cluster)?.value),
            Self::Given { intermediates, .. } => {
                let given = intermediates.get(cluster).cloned();
                given.ok_or_else(|| anyhow::anyhow!("no intermediate CA was given for cluster {cluster}"))
            }
        }
    }
}

/// Reads the four files of each cluster with an istiod.
fn given(spec: &Spec, from: &Path) -> Result<Authority, Error> {
    let now = Timestamp::now();
    let mut intermediates = BTreeMap::new();
    for cluster in spec.primaries() {
        intermediates.insert(cluster.name.to_string(), intermediate(&from.join(cluster.name.as_str()), now)?);
    }
    let mut each = intermediates.iter();
    let Some((first, one)) = each.next() else {
        return Err(Error::usage("trust.from needs at least one cluster with an istiod"));
    };
    if let Some((other, _)) = each.find(|(_, other)| digests(&other.root_pem) != digests(&one.root_pem)) {
        return Err(refused(&from.join(other).join(ROOT_CERT), &format!("it is not the root of {first}")));
    }
    Ok(Authority::Given { root_pem: one.root_pem.clone(), intermediates })
}

fn intermediate(folder: &Path, now: Timestamp) -> Result<Intermediate, Error> {
    let read = |name: &str| {
        let path = folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) => Err(refused(&path, &error.to_string())),
        }
    };
    let (cert_pem, key_pem) = (read(CA_CERT)?, read(CA_KEY)?);
    let (chain_pem, root_pem) = (read(CERT_CHAIN)?, read(ROOT_CERT)?);
    usable_certificate(&cert_pem, now).map_err(|why| refused(&folder.join(CA_CERT), &why))?;
    is_key_of(&key_pem, &cert_pem).map_err(|why| refused(&folder.join(CA_KEY), &why))?;
    if let Err(error) = inspect::leads_to(chain_pem.as_bytes(), cert_pem.as_bytes(), root_pem.as_bytes()) {
        return Err(refused(&folder.join(CERT_CHAIN), &format!("{error:#}")));
    }
    Ok(Intermediate { cert_pem, key_pem, chain_pem, root_pem })
}

/// Returns the SHA-256 of each certificate of a PEM text; none if it is not valid.
fn digests(pem: &str) -> BTreeSet<String> {
    let certificates = inspect::inspect(pem.as_bytes()).unwrap_or_default();
    certificates.into_iter().map(|certificate| certificate.sha256).collect()
}

/// Checks that a key is that of a certificate, in any format that istiod reads: PKCS#8, PKCS#1 or SEC1.
fn is_key_of(key_pem: &str, cert_pem: &str) -> Result<(), String> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes());
    let key = key.map_err(|error| format!("it has no usable key: {error}"))?;
    let key = any_supported_type(&key).map_err(|error| format!("it has no usable key: {error}"))?;
    let public = key.public_key().ok_or("it has no usable key")?;
    match inspect::certifies(cert_pem.as_bytes(), public.as_ref()) {
        true => Ok(()),
        false => Err(OTHER_KEY.into()),
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::usage(format!("trust.from: {} cannot be used: {why}", path.display())).hint(
        "trust.from/CLUSTER has Istio's files for each cluster: ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem, \
         all of one root: https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    /// A directory as a user has it, with files that an own root CA signed.
    fn folder(clusters: [&str; 2]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::ensure(&folder.path().join("root"), "theirs").unwrap().value;
        for cluster in clusters {
            write(&folder, &root, cluster);
        }
        folder
    }

    fn write(folder: &tempfile::TempDir, root: &Root, cluster: &str) {
        let signed = Intermediate::ensure(&folder.path().join("root"), root, "theirs", cluster).unwrap().value;
        let dir = folder.path().join(cluster);
        std::fs::create_dir_all(&dir).unwrap();
        signed.secret_data().iter().for_each(|(name, pem)| std::fs::write(dir.join(name), pem).unwrap());
    }

    /// A spec of two clusters with these files.
    fn spec(folder: &tempfile::TempDir) -> Spec {
        let clusters = "[{name: east}, {name: west}]";
        let text = format!("{{name: shop, trust: {{from: '{}'}}, clusters: {clusters}}}", folder.path().display());
        spec::from_text(&text, "kindmesh.yaml").unwrap().spec
    }

    fn read(folder: &tempfile::TempDir) -> Result<Authority, String> {
        let read = given(&spec(folder), folder.path());
        read.map_err(|error| error.message.replace(&folder.path().display().to_string(), "DIR"))
    }

    #[test]
    fn given_files_are_used_as_they_are() {
        let folder = folder(["east", "west"]);
        let state = tempfile::tempdir().unwrap();
        let ensure = || Authority::ensure(state.path(), &spec(&folder)).unwrap();
        let Outcome { value, changed } = ensure();
        assert!(changed && !ensure().changed);
        let east = value.intermediate(state.path(), "shop", "east").unwrap();
        assert_eq!(east.cert_pem, std::fs::read_to_string(folder.path().join("east/ca-cert.pem")).unwrap());
        assert_eq!(super::super::root_certificate(state.path()).unwrap(), value.root_pem());
        // No key is copied.
        let names: Vec<_> =
            std::fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [ROOT_CERT]);
    }

    #[test]
    fn another_root_is_refused_once_one_is_used() {
        let (one, other, state) =
            (folder(["east", "west"]), folder(["east", "west"]), tempfile::tempdir().unwrap());
        let ensure = |from: &tempfile::TempDir| Authority::ensure(state.path(), &spec(from));
        ensure(&one).unwrap();
        assert!(ensure(&other).unwrap_err().to_string().contains("another root than the running mesh"));
        // Moved, or with one more root.
        std::fs::rename(one.path().join("east"), one.path().join("moved")).unwrap();
        let roots = [one.path().join("moved"), other.path().join("east")]
            .map(|dir| std::fs::read_to_string(dir.join(ROOT_CERT)).unwrap());
        std::fs::rename(one.path().join("moved"), one.path().join("east")).unwrap();
        for cluster in ["east", "west"] {
            std::fs::write(one.path().join(cluster).join(ROOT_CERT), roots.concat()).unwrap();
        }
        assert!(ensure(&one).unwrap().changed);
    }

    #[test]
    fn unusable_files_are_refused_by_name() {
        let folder = folder(["east", "west"]);
        let at = |name: &str| folder.path().join(name);
        let swap = |one: &str, other: &str| {
            let text = std::fs::read_to_string(at(one)).unwrap();
            std::fs::copy(at(other), at(one)).unwrap();
            let said = read(&folder).unwrap_err();
            std::fs::write(at(one), text).unwrap();
            read(&folder).unwrap();
            said
        };
        assert_eq!(
            swap("west/ca-key.pem", "east/ca-key.pem"),
            "trust.from: DIR/west/ca-key.pem cannot be used: it is not the key of the certificate next to it"
        );
        assert_eq!(
            swap("west/cert-chain.pem", "east/cert-chain.pem"),
            "trust.from: DIR/west/cert-chain.pem cannot be used: its first certificate is not that of ca-cert.pem"
        );
        assert!(
            swap("west/ca-cert.pem", "west/ca-key.pem").contains("west/ca-cert.pem cannot be used: it contains a")
        );
        std::fs::remove_file(at("east/cert-chain.pem")).unwrap();
        assert!(
            read(&folder).unwrap_err().starts_with("trust.from: DIR/east/cert-chain.pem cannot be used: No such")
        );
    }

    #[test]
    fn clusters_of_two_roots_are_refused() {
        let (folder, other) = (folder(["east", "east"]), folder(["west", "west"]));
        std::fs::rename(other.path().join("west"), folder.path().join("west")).unwrap();
        assert_eq!(
            read(&folder).unwrap_err(),
            "trust.from: DIR/west/root-cert.pem cannot be used: it is not the root of east"
        );
        // A chain that ends at another root than the one next to it.
        std::fs::copy(folder.path().join("east/root-cert.pem"), folder.path().join("west/root-cert.pem")).unwrap();
        assert_eq!(
            read(&folder).unwrap_err(),
            "trust.from: DIR/west/cert-chain.pem cannot be used: it does not lead to root-cert.pem"
        );
    }
}
