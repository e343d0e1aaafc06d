use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::*;
use crate::base::error::{self, Kind};

const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

fn root(dir: &TempDir) -> Root {
    Root::ensure(dir.path(), "demo").unwrap().value
}

fn intermediate(dir: &TempDir, root: &Root, cluster: &str) -> Outcome<Intermediate> {
    Intermediate::ensure(dir.path(), root, "demo", cluster).unwrap()
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Asserts that the root is rejected with an environment error, and returns the message.
fn refused(dir: &TempDir) -> String {
    let error = Root::ensure(dir.path(), "demo").unwrap_err();
    let error = error::find(&error).expect("a kindmesh error");
    assert_eq!(error.kind, Kind::Environment);
    assert!(error.hint.as_deref().unwrap().contains("kindmesh down"));
    error.message.clone()
}

fn with_certificate(pem: &str, check: impl FnOnce(&X509Certificate<'_>)) {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let (rest, certificate) = X509Certificate::from_der(&block.contents).unwrap();
    assert!(rest.is_empty());
    check(&certificate);
}

/// Subject and authority key identifiers.
fn key_ids(certificate: &X509Certificate<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut subject, mut authority) = (Vec::new(), Vec::new());
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject = id.0.to_vec(),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority = id.key_identifier.as_ref().unwrap().0.to_vec();
            }
            _ => {}
        }
    }
    (subject, authority)
}

#[test]
fn certificates_suit_a_mesh() {
    let dir = TempDir::new().unwrap();
    let root = root(&dir);
    let intermediate = intermediate(&dir, &root, "cluster1").value;
    let mut ids = Vec::new();
    for (pem, path_len) in [(root.cert_pem(), None), (&intermediate.cert_pem, Some(0))] {
        with_certificate(pem, |certificate| {
            let constraints = certificate.basic_constraints().unwrap().unwrap();
            assert!(constraints.critical && constraints.value.ca);
            assert_eq!(constraints.value.path_len_constraint, path_len);
            let usage = certificate.key_usage().unwrap().unwrap();
            assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
            assert!(!usage.value.digital_signature());
            assert!(certificate.extended_key_usage().unwrap().is_none());
            assert!(certificate.raw_serial().len() == 16);
            assert_eq!(certificate.version().0, 2);
            ids.push(key_ids(certificate));
        });
    }
    let (root_id, _) = &ids[0];
    let (intermediate_id, authority_id) = &ids[1];
    assert!(!root_id.is_empty() && root_id == authority_id && intermediate_id != root_id);
}

#[test]
fn inspection_returns_names_and_validity() {
    let dir = TempDir::new().unwrap();
    let root = root(&dir);
    let intermediate = intermediate(&dir, &root, "cluster1").value;
    let chain = inspect(intermediate.chain_pem.as_bytes()).unwrap();
    let [child, parent] = chain.as_slice() else { panic!("{chain:?}") };
    assert_eq!(child.subject, "O=kindmesh, CN=demo cluster1 intermediate");
    assert_eq!(child.subject, crate::base::names::subject("demo", Some("cluster1")).to_string());
    assert_eq!(child.issuer, parent.subject);
    assert_eq!(parent.subject, crate::base::names::subject("demo", None).to_string());
    assert_eq!(parent.issuer, parent.subject);
    assert_ne!(child.serial, parent.serial);
    assert_eq!(child.sha256.len(), 64);
    assert_eq!((child.path_len, parent.path_len), (Some(0), None));
    let now = Timestamp::now();
    for (certificate, years) in [(child, 5), (parent, 10)] {
        assert!(certificate.is_ca);
        let age = now.duration_since(certificate.not_before);
        assert!(age >= SignedDuration::from_hours(1) && age < SignedDuration::from_mins(65), "{age:?}");
        let left = certificate.not_after.duration_since(now);
        assert!((left - YEAR * years).abs() < SignedDuration::from_hours(4 * 24), "{left:?}");
    }
}

#[test]
fn chains_are_verified() {
    let (dir, other_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // The same name, another key: only the signature distinguishes them.
    let (root, stranger) = (root(&dir), self::root(&other_dir));
    let intermediate = intermediate(&dir, &root, "cluster1").value;
    let cert = intermediate.cert_pem.as_bytes();
    assert!(chains_to(cert, root.cert_pem().as_bytes()));
    assert!(chains_to(root.cert_pem().as_bytes(), root.cert_pem().as_bytes()));
    assert!(!chains_to(cert, stranger.cert_pem().as_bytes()));
    assert!(!chains_to(root.cert_pem().as_bytes(), cert));
    assert!(!chains_to(b"", cert) && !chains_to(cert, b"junk"));
}

#[test]
fn inspection_rejects_invalid_certificates() {
    let dir = TempDir::new().unwrap();
    let intermediate = intermediate(&dir, &root(&dir), "cluster1").value;
    assert!(inspect(b"").is_err());
    assert!(inspect(b"hello\n").is_err());
    assert!(inspect(intermediate.key_pem.as_bytes()).is_err());
    let cut = &intermediate.cert_pem[..200];
    assert!(inspect(cut.as_bytes()).is_err());
}

#[test]
fn all_is_reused_and_private() {
    let dir = TempDir::new().unwrap();
    let trust = dir.path().join("trust");
    let first = Root::ensure(&trust, "demo").unwrap();
    let pair = Intermediate::ensure(&trust, &first.value, "demo", "cluster1").unwrap();
    assert!(first.changed && pair.changed);
    let again = Root::ensure(&trust, "demo").unwrap();
    let pair_again = Intermediate::ensure(&trust, &again.value, "demo", "cluster1").unwrap();
    assert!(!again.changed && !pair_again.changed);
    assert_eq!(first.value.cert_pem(), again.value.cert_pem());
    assert_eq!(pair.value, pair_again.value);

    assert_eq!(mode(&trust), 0o700);
    let names: Vec<_> = fs::read_dir(&trust).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 4, "no temporary file is left: {names:?}");
    for name in names {
        assert_eq!(mode(&name), 0o600, "{}", name.display());
    }
}

#[test]
fn open_permissions_are_restricted() {
    let dir = TempDir::new().unwrap();
    root(&dir);
    let key = dir.path().join("root-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    root(&dir);
    assert_eq!((mode(&key), mode(dir.path())), (0o600, 0o700));
}

#[test]
fn key_without_certificate_is_replaced_unless_used() {
    let dir = TempDir::new().unwrap();
    let first = root(&dir);
    fs::remove_file(dir.path().join("root-cert.pem")).unwrap();
    let second = Root::ensure(dir.path(), "demo").unwrap();
    assert!(second.changed);
    assert_ne!(first.cert_pem(), second.value.cert_pem());

    intermediate(&dir, &second.value, "cluster1");
    fs::remove_file(dir.path().join("root-cert.pem")).unwrap();
    assert!(refused(&dir).contains("root-cert.pem"));
}

#[test]
fn a_broken_root_names_its_file() {
    let cases: [(&str, &[u8]); 4] = [
        ("root-cert.pem", b""),
        ("root-cert.pem", b"\xff\xfe no text"),
        ("root-key.pem", b""),
        ("root-key.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ];
    for (name, content) in cases {
        let dir = TempDir::new().unwrap();
        root(&dir);
        fs::write(dir.path().join(name), content).unwrap();
        let message = refused(&dir);
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn root_with_another_key_is_rejected() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    root(&dir);
    root(&other);
    let key = dir.path().join("root-key.pem");
    fs::copy(other.path().join("root-key.pem"), &key).unwrap();
    assert!(refused(&dir).contains("not the key"));
    fs::remove_file(&key).unwrap();
    assert!(refused(&dir).contains("root-key.pem"));
    assert!(!key.exists());
}

#[test]
fn an_intermediate_is_no_root() {
    let dir = TempDir::new().unwrap();
    let root = root(&dir);
    let pair = intermediate(&dir, &root, "cluster1").value;
    fs::write(dir.path().join("root-cert.pem"), pair.chain_pem).unwrap();
    assert!(refused(&dir).contains("2 certificates"));
}

#[test]
fn expiring_root_is_an_error_and_intermediate_is_replaced() {
    let dir = TempDir::new().unwrap();
    let now = Timestamp::now();
    let root = root(&dir);
    let pair = intermediate(&dir, &root, "cluster1").value;
    let later = |years: i32, days: i64| now + YEAR * years + SignedDuration::from_hours(days * 24);

    let kept = Intermediate::ensure_at(dir.path(), &root, "demo", "cluster1", later(4, 300)).unwrap();
    assert!(!kept.changed);
    let renewed = Intermediate::ensure_at(dir.path(), &root, "demo", "cluster1", later(4, 350)).unwrap();
    assert!(renewed.changed);
    assert_ne!(pair.key_pem, renewed.value.key_pem);

    assert!(Root::ensure_at(dir.path(), "demo", later(9, 300)).is_ok());
    let error = Root::ensure_at(dir.path(), "demo", later(9, 350)).unwrap_err();
    assert!(error.to_string().contains("expires at"), "{error}");
    let error = Root::ensure_at(dir.path(), "demo", now - YEAR).unwrap_err();
    assert!(error.to_string().contains("clock"), "{error}");
}

#[test]
fn invalid_or_unrelated_intermediate_is_replaced() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let root = root(&dir);
    intermediate(&dir, &root, "cluster1");
    let stranger = intermediate(&other, &self::root(&other), "cluster1").value;
    let (cert, key) = files::intermediate(dir.path(), "cluster1");
    let breakages: [&dyn Fn(); 6] = [
        &|| fs::remove_file(&cert).unwrap(),
        &|| fs::remove_file(&key).unwrap(),
        &|| fs::write(&cert, "").unwrap(),
        &|| fs::write(&key, "junk").unwrap(),
        &|| fs::write(&key, &stranger.key_pem).unwrap(),
        &|| {
            fs::write(&cert, &stranger.cert_pem).unwrap();
            fs::write(&key, &stranger.key_pem).unwrap();
        },
    ];
    for breakage in breakages {
        breakage();
        let made = intermediate(&dir, &root, "cluster1");
        assert!(made.changed);
        assert!(chains_to(made.value.cert_pem.as_bytes(), root.cert_pem().as_bytes()));
        assert!(!intermediate(&dir, &root, "cluster1").changed);
    }
}

#[test]
fn cluster_named_root_does_not_overwrite_the_root() {
    let dir = TempDir::new().unwrap();
    let root = root(&dir);
    intermediate(&dir, &root, "root");
    let again = Root::ensure(dir.path(), "demo").unwrap();
    assert!(!again.changed);
    assert_eq!(again.value.cert_pem(), root.cert_pem());
}

#[test]
fn secret_has_every_key_for_istiod() {
    let dir = TempDir::new().unwrap();
    let root = root(&dir);
    let pair = intermediate(&dir, &root, "cluster1").value;
    let data = pair.secret_data();
    let names: Vec<_> = data.keys().map(String::as_str).collect();
    assert_eq!(names, ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]);
    assert_eq!(data["root-cert.pem"], root.cert_pem().as_bytes());
    let chain = String::from_utf8(data["cert-chain.pem"].clone()).unwrap();
    assert!(chain.starts_with(pair.cert_pem.trim_end()) && chain.ends_with(root.cert_pem()));
    assert!(data["ca-key.pem"].starts_with(b"-----BEGIN PRIVATE KEY-----"));
}

#[test]
fn debug_output_holds_no_key() {
    let dir = TempDir::new().unwrap();
    let root = Root::ensure(dir.path(), "demo").unwrap();
    let pair = intermediate(&dir, &root.value, "cluster1");
    let shown = format!("{root:?}{pair:?}");
    assert!(shown.contains("BEGIN CERTIFICATE") && !shown.contains("PRIVATE KEY"), "{shown}");
    let body = |pem: &str| pem.lines().nth(1).unwrap().to_owned();
    assert!(!shown.contains(&body(&pair.value.key_pem)));
    assert!(!shown.contains(&body(&root.value.key.serialize_pem())));
}
