//! TLS to servers that do not speak HTTP over reqwest: which certificates are taken.

use crate::NodeError;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::{path::PathBuf, sync::Arc};

/// Whose certificates are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Those that the operating system trusts, for the host's name.
    System,
    /// Those that the certificates of a PEM file have signed, for the host's name.
    Signed(PathBuf),
    /// Any: what is sent is hidden from those who listen, not from those who stand between.
    Anyone,
}

/// The client's side of TLS.
///
/// # Errors
/// The certificates that are trusted cannot be read.
pub(super) fn config(trust: &Trust) -> Result<ClientConfig, NodeError> {
    let failed = |error| NodeError::because("TLS cannot be set up", error);
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(failed)?;
    let verified = match trust {
        Trust::System => builder.with_platform_verifier().map_err(failed)?,
        Trust::Signed(file) => builder.with_root_certificates(roots(file)?),
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider))),
    };
    Ok(verified.with_no_client_auth())
}

fn roots(file: &PathBuf) -> Result<RootCertStore, NodeError> {
    let unreadable = |error| {
        let reason = format!("cannot read the certificates in {}", file.display());
        NodeError::because(reason, error)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        let added = roots.add(certificate.map_err(unreadable)?);
        added.map_err(|error| NodeError::because("a certificate cannot be trusted", error))?;
    }
    Ok(roots)
}

/// Takes any certificate, of a server that has its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
