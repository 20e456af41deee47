//! What a status of gRPC means.

use super::{Ended, FULL, Failure, innermost, shown};
use crate::NodeError;
use std::{error::Error, time::Duration};
use tonic::{Code, ConnectError, Status};

impl Failure {
    /// The server answered with a status that is no success, or the connection did. `named` is the
    /// model that the request named, if any.
    ///
    /// That the time is over is no failure of this kind: who set the time knows it.
    pub(crate) fn of_grpc(
        endpoint: &str,
        status: &Status,
        named: Option<(&'static str, &str)>,
    ) -> Self {
        if let Some(error) = status.source() {
            return Self::of_connection(endpoint, error);
        }
        let (code, words) = (status.code(), shown(status.message()));
        let said = match words.is_empty() {
            true => format!("{endpoint} answered {}", name(code)),
            false => format!("{endpoint} answered {}: {words}", name(code)),
        };
        let pause = pushback(status);
        match (code, named) {
            (Code::InvalidArgument, _) => Self::of_item(NodeError::invalid(said)),
            (Code::NotFound, Some((what, name))) => Self::of_item(NodeError::NotFound {
                what,
                name: name.to_owned(),
            }),
            (Code::NotFound | Code::Unimplemented, _) => {
                Self::senseless(format!("{said}; is the address right?"))
            }
            (Code::ResourceExhausted, _) => {
                let retry_after = pause.unwrap_or(FULL);
                Self {
                    error: NodeError::Full { retry_after },
                    ended: Ended::Full(retry_after),
                    elsewhere: true,
                }
            }
            (Code::Unavailable, _) => Self {
                error: NodeError::Unavailable {
                    reason: said,
                    retry_after: pause,
                },
                ended: pause.map_or(Ended::Badly, Ended::Full),
                elsewhere: true,
            },
            (Code::Cancelled | Code::Aborted, _) => Self::unreachable(said),
            _ => Self::senseless(said),
        }
    }

    /// The connection could not be made, or was lost.
    fn of_connection(endpoint: &str, error: &(dyn Error + 'static)) -> Self {
        let reason = innermost(error);
        let mut causes = std::iter::successors(Some(error), |&error| error.source());
        match causes.any(|cause| cause.is::<ConnectError>()) {
            true => Self::unreachable(format!("cannot connect to {endpoint}: {reason}")),
            false => Self::unreachable(format!("the connection to {endpoint} was lost: {reason}")),
        }
    }
}

/// How long a server asks to be left alone, which gRPC's retries call its pushback.
fn pushback(status: &Status) -> Option<Duration> {
    let text = status.metadata().get("grpc-retry-pushback-ms")?;
    let milliseconds = text.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(milliseconds))
}

/// A code as the protocol writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(status: &Status, expect: Expect) {
        let failure = Failure::of_grpc("grpc://a", status, Some(("model", "m")));
        let kind = format!("{:?}", failure.error);
        let kind = kind.split([' ', '{']).next().unwrap_or_default();
        expect.assert_eq(&format!(
            "{kind}: {}\n{:?}, elsewhere {}",
            failure.error, failure.ended, failure.elsewhere
        ));
    }

    #[test]
    fn codes_become_errors() {
        check(
            &Status::invalid_argument("unexpected shape"),
            expect![[r#"
                Invalid: grpc://a answered INVALID_ARGUMENT: unexpected shape
                Well, elsewhere false"#]],
        );
        check(
            &Status::not_found("no such model"),
            expect![[r#"
                NotFound: model "m" does not exist
                Well, elsewhere false"#]],
        );
        let mut full = Status::resource_exhausted("queue is full");
        let pause = "2500".parse().unwrap();
        full.metadata_mut().insert("grpc-retry-pushback-ms", pause);
        check(
            &full,
            expect![[r#"
                Full: too many requests are waiting
                Full(2.5s), elsewhere true"#]],
        );
        check(
            &Status::unavailable("the model is loading"),
            expect![[r#"
                Unavailable: grpc://a answered UNAVAILABLE: the model is loading
                Badly, elsewhere true"#]],
        );
        check(
            &Status::unimplemented(""),
            expect![[r#"
                Failed: grpc://a answered UNIMPLEMENTED; is the address right?
                Badly, elsewhere true"#]],
        );
        check(
            &Status::internal("out of memory"),
            expect![[r#"
                Failed: grpc://a answered INTERNAL: out of memory
                Badly, elsewhere true"#]],
        );
        check(
            &Status::aborted(""),
            expect![[r#"
                Unavailable: grpc://a answered ABORTED
                Badly, elsewhere true"#]],
        );
    }

    #[test]
    fn a_connection_is_told_from_a_server() {
        let refused = std::io::Error::other("connection refused");
        let connect = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        check(
            &connect,
            expect![[r#"
                Unavailable: cannot connect to grpc://a: connection refused
                Badly, elsewhere true"#]],
        );
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        check(
            &Status::from_error(Box::new(reset)),
            expect![[r#"
                Unavailable: the connection to grpc://a was lost: connection reset
                Badly, elsewhere true"#]],
        );
    }
}
