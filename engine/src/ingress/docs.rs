//! A page on which a person reads what is served and tries it. It is one file and loads nothing
//! from elsewhere but `/openapi.json`.

use axum::response::{Html, IntoResponse};
use http::{HeaderValue, header};

/// The page.
pub(super) async fn page() -> impl IntoResponse {
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, Html(include_str!("docs.html")))
}
