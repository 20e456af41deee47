//! TLS with a certificate that a client is told to trust, or with one that it is not.

use super::Fault;
use std::{
    io::Error,
    path::PathBuf,
    sync::{Arc, Once},
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
    server::TlsStream,
};

/// The file with the certificate of services over TLS, for `SSL_CERT_FILE`. It and its key are of no
/// use outside of these tests.
pub fn trusted() -> PathBuf {
    folder().join("trusted.crt")
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/faulty")
}

pub(super) async fn accept(
    stream: TcpStream,
    fault: Fault,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = match fault {
        Fault::Unknown => "unknown",
        _ => "trusted",
    };
    let certificate = CertificateDer::from_pem_file(folder().join(format!("{name}.crt")));
    let key = PrivateKeyDer::from_pem_file(folder().join(format!("{name}.key")));
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| drop(ring::default_provider().install_default()));
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.map_err(Error::other)?],
            key.map_err(Error::other)?,
        )
        .map_err(Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config)).accept(stream).await
}
