//! What PostgreSQL says when it does not do what was asked, as the errors of a node.

use crate::NodeError;
use std::{error::Error as _, time::Duration};
use tokio_postgres::Error;

/// The error for an item whose statement failed at `server` after `took`.
pub(super) fn of(server: &str, error: &Error, took: Duration) -> NodeError {
    let Some(said) = error.as_db_error() else {
        return of_connection(server, error);
    };
    let code = said.code().code();
    let words = format!("{server} says: {} ({code})", said.message());
    match (code, code.get(..2).unwrap_or_default()) {
        // Cancelled by the server's own limit on statements.
        ("57014", _) => NodeError::Timeout { after: took },
        // Starting, stopping, full, lost; or a conflict that another try does not have.
        (_, "08" | "53" | "40") | ("57P01" | "57P02" | "57P03" | "57P05", _) => {
            NodeError::unavailable(words)
        }
        // A value that is none of its type, or breaks a rule of the table.
        (_, "22" | "23") => NodeError::invalid(words),
        (_, "28") => NodeError::failed(format!("{words}; are user and password right?")),
        _ => NodeError::failed(words),
    }
}

fn of_connection(server: &str, error: &Error) -> NodeError {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // Its text is often that of the one around it.
        let text = inner.to_string();
        if !reason.ends_with(&text) {
            reason += &format!(": {text}");
        }
        cause = inner.source();
    }
    NodeError::unavailable(format!("{server} is out of reach: {reason}"))
}
