//! The one way to an HTTP client.

use std::sync::Once;

/// A builder of clients whose TLS works.
pub fn http_client() -> reqwest::ClientBuilder {
    choose_cryptography();
    reqwest::Client::builder()
}

/// Chooses the cryptography of the process, once; also for libraries that make clients of their own.
pub(crate) fn choose_cryptography() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        // A process that chose already keeps its choice.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
