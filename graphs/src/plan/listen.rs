//! What is different about the server.

use super::{Handover, Step, change::Changes};
use schema::Server;

/// The steps of `listen`, of `admin`, and of everything else about the server.
pub(super) fn compare(before: &Server, after: &Server) -> (Step, Step, Step) {
    let Server {
        listen,
        admin,
        api_keys,
        max_body,
        timeout,
        graceful_shutdown_timeout,
        rollout,
    } = before;
    let mut other = Changes::default();
    // Keys are secrets.
    other.whole("api-key", api_keys, &after.api_keys);
    other.values("max-body", max_body, &after.max_body);
    other.values("timeout", timeout, &after.timeout);
    other.values(
        "graceful-shutdown-timeout",
        graceful_shutdown_timeout,
        &after.graceful_shutdown_timeout,
    );
    other.optional("rollout", rollout.as_ref(), after.rollout.as_ref());
    (
        socket("listen", listen, &after.listen),
        socket("admin", admin, &after.admin),
        Step::adjust(other.into_list()),
    )
}

fn socket(
    what: &str,
    before: &schema::Spanned<schema::Text>,
    after: &schema::Spanned<schema::Text>,
) -> Step {
    let mut changes = Changes::default();
    changes.values(what, before, after);
    match changes.into_list() {
        none if none.is_empty() => Step::Keep,
        why => Step::Replace {
            why,
            handover: Handover::Overlap,
        },
    }
}
