//! Reads certificates: their content, and their issuers.

use crate::base::digest::hex;
use anyhow::{Context, ensure};
use jiff::Timestamp;
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
    signed(&child, &issuer)
}

/// Checks that a chain begins with the certificate of `first_pem`, and that each certificate is signed by the next one and the last one by
/// one of `roots_pem`, which it may also contain.
///
/// # Errors
/// What is wrong with the chain.
pub fn leads_to(chain_pem: &[u8], first_pem: &[u8], roots_pem: &[u8]) -> anyhow::Result<()> {
    let (chain, first, roots) = (blocks(chain_pem)?, blocks(first_pem)?, blocks(roots_pem)?);
    let (chain, roots) = (parse_all(&chain)?, parse_all(&roots).context("root-cert.pem")?);
    ensure!(chain[0].as_raw() == parse(&first[0])?.as_raw(), "its first certificate is not that of ca-cert.pem");
    let is_root = |of: &X509Certificate<'_>| roots.iter().any(|root| root.as_raw() == of.as_raw());
    for (index, certificate) in chain.iter().enumerate() {
        if is_root(certificate) || roots.iter().any(|root| signed(certificate, root)) {
            return Ok(());
        }
        let next = chain.get(index + 1).context("it does not lead to root-cert.pem")?;
        ensure!(signed(certificate, next), "its certificate {} is not signed by the one that follows", index + 1);
    }
    anyhow::bail!("it does not lead to root-cert.pem")
}

fn signed(child: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    issuer.is_ca()
        && child.issuer().as_raw() == issuer.subject().as_raw()
        && child.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Whether a public key (DER of SubjectPublicKeyInfo) is that of the first certificate.
pub(super) fn certifies(pem: &[u8], public_key: &[u8]) -> bool {
    let Ok(blocks) = blocks(pem) else { return false };
    parse(&blocks[0]).is_ok_and(|certificate| certificate.public_key().raw == public_key)
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

fn parse_all(blocks: &[Pem]) -> anyhow::Result<Vec<X509Certificate<'_>>> {
    blocks.iter().map(parse).collect()
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
