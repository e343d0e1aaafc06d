//! Reads certificates: their content, and their issuers.

use crate::base::digest::hex;
use anyhow::{Context, ensure};
use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData};
use serde::Serialize;
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, pem::Pem};

/// The content of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateInfo {
    /// For example `O=kindmesh, CN=kindmesh root`; empty in a mesh's workload certificates.
    pub subject: String,
    /// The subject of the issuer's certificate.
    pub issuer: String,
    /// Bytes in hexadecimal, separated by colons.
    pub serial: String,
    /// The start of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// Whether it may sign other certificates.
    pub is_ca: bool,
    /// How many CAs may follow below it; none means no limit.
    pub path_len: Option<u32>,
    /// SHA-256 of the certificate, in lower-case hexadecimal.
    pub sha256: String,
}

/// Parses all certificates of a PEM text, in order.
///
/// # Errors
/// If it contains no certificate, or anything else.
pub fn inspect(pem: &[u8]) -> anyhow::Result<Vec<CertificateInfo>> {
    let blocks = blocks(pem)?;
    blocks.iter().map(|block| info(&parse(block)?)).collect()
}

/// Whether the first certificate of `issuer_pem` signed the first one of `child_pem`: the name matches, the issuer
/// is a CA and the signature is valid. Does not check validity periods or path lengths.
pub fn chains_to(child_pem: &[u8], issuer_pem: &[u8]) -> bool {
    let (Ok(child), Ok(issuer)) = (blocks(child_pem), blocks(issuer_pem)) else { return false };
    let (Ok(child), Ok(issuer)) = (parse(&child[0]), parse(&issuer[0])) else { return false };
    issuer.is_ca()
        && child.issuer().as_raw() == issuer.subject().as_raw()
        && child.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Whether the key belongs to the first certificate.
pub(super) fn certifies(pem: &[u8], key: &KeyPair) -> bool {
    let Ok(blocks) = blocks(pem) else { return false };
    parse(&blocks[0]).is_ok_and(|certificate| certificate.public_key().raw == key.subject_public_key_info())
}

/// Returns the PEM blocks; at least one.
fn blocks(pem: &[u8]) -> anyhow::Result<Vec<Pem>> {
    let blocks: Vec<Pem> = Pem::iter_from_buffer(pem).collect::<Result<_, _>>().context("it is not valid PEM")?;
    ensure!(!blocks.is_empty(), "it contains no certificate");
    Ok(blocks)
}

fn parse(block: &Pem) -> anyhow::Result<X509Certificate<'_>> {
    ensure!(block.label == "CERTIFICATE", "it contains a {}, not a certificate", block.label);
    block.parse_x509().context("it contains no valid certificate")
}

fn info(certificate: &X509Certificate<'_>) -> anyhow::Result<CertificateInfo> {
    let constraints = certificate.basic_constraints().context("its basic constraints are invalid")?;
    let time = |seconds| Timestamp::from_second(seconds).context("its validity period is invalid");
    Ok(CertificateInfo {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: certificate.raw_serial_as_string(),
        not_before: time(certificate.validity().not_before.timestamp())?,
        not_after: time(certificate.validity().not_after.timestamp())?,
        is_ca: certificate.is_ca(),
        path_len: constraints.and_then(|constraints| constraints.value.path_len_constraint),
        sha256: hex(&Sha256::digest(certificate.as_raw())),
    })
}
