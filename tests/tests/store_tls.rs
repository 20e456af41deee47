//! TLS to stores as their addresses ask for it. The PostgreSQL that runs here is built without TLS, so a proxy
//! speaks it in front of it, with the certificate for `localhost` in `tests/data`, which nobody trusts.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use nodes::{NodeError, store};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{path::PathBuf, sync::Arc};
use tests::{
    repository,
    stores::{backend, postgres},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// What a client of PostgreSQL sends that wants TLS: a length, and a number.
const WANTS_TLS: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

fn data(name: &str) -> PathBuf {
    repository().join("tests/data").join(name)
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(data("localhost.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(data("localhost.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

/// A proxy that speaks TLS, as PostgreSQL does or from the first byte, before a port; and its own port.
async fn secured(before: u16, as_postgres: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = acceptor();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if as_postgres {
                    let mut asked = [0; 8];
                    client.read_exact(&mut asked).await.unwrap();
                    assert_eq!(asked, WANTS_TLS);
                    client.write_all(b"S").await.unwrap();
                }
                // A client that does not trust the certificate leaves.
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(("127.0.0.1", before)).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

/// Whether a table that is not there can be asked for, or why not.
async fn reached(declared: &str) -> Result<(), String> {
    match store::open(&backend(declared)).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => panic!("there is no such collection"),
        Err(NodeError::Unavailable { reason, .. }) => Err(reason),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_compared_as_the_connection_string_asks() {
    let server = postgres();
    let bare: u16 = server
        .url
        .rsplit(':')
        .next()
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let port = secured(bare, true).await;
    let table = |host: &str, port: u16, options: &str| {
        format!(
            "pgvector \"postgresql://postgres@{host}:{port}/postgres?{options}\" table=\"docs\""
        )
    };
    let root = format!("sslrootcert={}", data("localhost.crt").display());
    let full = format!("sslmode=verify-full&{root}");
    assert_eq!(
        reached(&table("localhost", port, "sslmode=require")).await,
        Ok(())
    );
    assert_eq!(
        reached(&table("localhost", port, "sslmode=prefer")).await,
        Ok(())
    );
    assert_eq!(reached(&table("localhost", port, &full)).await, Ok(()));
    for (host, port, options, reason) in [
        // Signed by nobody whom the operating system trusts.
        ("localhost", port, "sslmode=verify-full", "certificate"),
        // Another host's certificate.
        ("127.0.0.1", port, full.as_str(), "certificate"),
        // No TLS where it is wanted.
        ("localhost", bare, "sslmode=require", "TLS"),
    ] {
        let error = reached(&table(host, port, options)).await.unwrap_err();
        assert!(error.contains(reason), "{host} {options}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn milvus_is_spoken_to_over_tls_where_its_address_says_so() {
    // Nobody has to be behind: the certificate is refused before anything is sent.
    let port = secured(9, false).await;
    let error = reached(&format!(
        "milvus \"https://localhost:{port}\" collection=\"docs\""
    ))
    .await;
    let error = error.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}
