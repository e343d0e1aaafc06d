//! Creates certificates: the root CA, and the intermediate CAs that it signs.

use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};

use super::Root;
use crate::base::names::{Subject, subject};

/// How far in the past validity begins: the clocks of nodes in a virtual machine lag after the host slept.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);
pub(super) const ROOT_LIFETIME: SignedDuration = SignedDuration::from_hours(3652 * 24);
const INTERMEDIATE_LIFETIME: SignedDuration = SignedDuration::from_hours(1826 * 24);

/// Creates the root CA: its certificate and its key.
pub(super) fn make_root(environment: &str, now: Timestamp) -> anyhow::Result<(String, KeyPair)> {
    let key = new_key()?;
    let certificate = params(&subject(environment, None), BasicConstraints::Unconstrained, now, ROOT_LIFETIME)?
        .self_signed(&key)
        .context("failed to create the certificate of the root CA")?;
    Ok((certificate.pem(), key))
}

/// Creates a cluster's intermediate CA: its certificate, signed by the root CA, and its key.
pub(super) fn make_intermediate(
    root: &Root,
    environment: &str,
    cluster: &str,
    now: Timestamp,
) -> anyhow::Result<(String, KeyPair)> {
    let key = new_key()?;
    // A path length of 0: it signs workload certificates but no further CA.
    let subject = subject(environment, Some(cluster));
    let certificate = params(&subject, BasicConstraints::Constrained(0), now, INTERMEDIATE_LIFETIME)?;
    // Read from the certificate, so that the issuer and its key identifier match the root's.
    let issuer = Issuer::from_ca_cert_pem(&root.cert_pem, &root.key)
        .context("failed to read the certificate of the root CA")?;
    let certificate = certificate
        .signed_by(&key, &issuer)
        .with_context(|| format!("failed to sign the intermediate CA of {cluster}"))?;
    Ok((certificate.pem(), key))
}

pub(super) fn new_key() -> anyhow::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("failed to create a key")
}

pub(super) fn params(
    subject: &Subject,
    constraints: BasicConstraints,
    now: Timestamp,
    lifetime: SignedDuration,
) -> anyhow::Result<CertificateParams> {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, subject.organization);
    name.push(DnType::CommonName, subject.common_name.as_str());

    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(random_serial()?);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now - CLOCK_SKEW)?;
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now + lifetime)?;
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // No extended key usage: on a CA it would restrict the certificates below it.
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn since_epoch(time: Timestamp) -> anyhow::Result<Duration> {
    let seconds = u64::try_from(time.as_second()).context("the host's clock is before 1970")?;
    Ok(Duration::from_secs(seconds))
}

/// Returns 126 random bits; the two highest bits are fixed, so that the number is positive and has a constant length.
fn random_serial() -> anyhow::Result<SerialNumber> {
    let mut bytes = [0; 16];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system returned no random numbers"))?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
