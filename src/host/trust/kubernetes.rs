//! A CA of Kubernetes for clusters of a snapshot that came without keys.

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

use super::ca;
use crate::base::names::Subject;

/// A CA of Kubernetes. kubeadm creates all other keys of a control plane from it.
pub struct KubernetesCa(CertifiedIssuer<'static, KeyPair>);

impl KubernetesCa {
    /// Creates a CA, valid for ten years as kubeadm's.
    ///
    /// # Errors
    /// If no key or certificate can be created.
    pub fn create() -> anyhow::Result<Self> {
        let subject = Subject { organization: "kindmesh", common_name: "kubernetes".into() };
        let params =
            ca::params(&subject, rcgen::BasicConstraints::Unconstrained, Timestamp::now(), ca::ROOT_LIFETIME)?;
        let issuer = CertifiedIssuer::self_signed(params, ca::new_key()?);
        Ok(Self(issuer.context("failed to create the CA of Kubernetes")?))
    }

    /// Returns its certificate, PEM.
    pub fn cert_pem(&self) -> String {
        self.0.pem()
    }

    /// Returns its key, PKCS#8 PEM.
    pub fn key_pem(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// Returns the kubeconfig of a worker's kubelet, whose Kubernetes node and control plane have these names.
    ///
    /// # Errors
    /// If no key or certificate can be created.
    pub fn kubelet_config(&self, node: &str, control_plane: &str) -> anyhow::Result<String> {
        let what = || format!("failed to create the certificate of node {node}");
        let key = ca::new_key()?;
        let now = Timestamp::now();
        let subject = Subject { organization: "system:nodes", common_name: format!("system:node:{node}") };
        let mut params: CertificateParams =
            ca::params(&subject, rcgen::BasicConstraints::Unconstrained, now, ca::ROOT_LIFETIME)?;
        params.is_ca = IsCa::NoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.0).with_context(what)?;
        let encoded = |pem: String| STANDARD.encode(pem);
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "kubelet",
            "clusters": [{"name": "kubernetes", "cluster": {
                "server": format!("https://{control_plane}:6443"),
                "certificate-authority-data": encoded(self.cert_pem())}}],
            "users": [{"name": "kubelet", "user": {
                "client-certificate-data": encoded(cert.pem()), "client-key-data": encoded(key.serialize_pem())}}],
            "contexts": [{"name": "kubelet", "context": {"cluster": "kubernetes", "user": "kubelet"}}],
        });
        Ok(config.to_string())
    }
}
