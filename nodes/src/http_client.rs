//! The one way to an HTTP client.

use std::sync::Once;

/// A builder of clients whose TLS works.
pub fn http_client() -> reqwest::ClientBuilder {
    choose_cryptography();
    reqwest::Client::builder()
}

/// The cryptography of the process is chosen once, here.
pub(crate) fn choose_cryptography() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        // A process that chose already keeps its choice.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
