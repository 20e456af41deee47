//! What went wrong with a store, in our words: pure, over what its library says.
//!
//! The library tells little by type and much by text, and its text repeats addresses, which may be
//! signed. So the status and the store's own code are read from the text, and nothing else of it is
//! handed on.

use crate::source::{ObjectPlace, Problem, Service};
use object_store::{Error, client::HttpError};
use std::error::Error as StdError;

/// The most of a store's own message that is repeated.
const MAX_MESSAGE: usize = 200;

/// What a store's error means for who wanted `what` of `place`.
pub(super) fn problem(error: &Error, place: &ObjectPlace, what: &str, signed: bool) -> Problem {
    let text = error.to_string();
    let status = status(&text);
    let code = tag(&text, "Code");
    let is = |wanted: &[&str]| code.is_some_and(|code| wanted.contains(&code));
    let what = what.to_owned();
    if is(&["NoSuchBucket", "ContainerNotFound", "BucketNotFound"]) {
        return Problem::NotFound {
            what: format!("the bucket of {place}"),
        };
    }
    match (error, status) {
        (Error::InvalidPath { .. }, _) => Problem::damaged(
            place.to_string(),
            "it holds a name that leads out of its folder or that no file can have",
        ),
        (Error::NotFound { .. }, _) | (_, Some(404 | 410)) => Problem::NotFound { what },
        (Error::Precondition { .. } | Error::NotModified { .. }, _) => Problem::Changed { what },
        (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, status) => {
            refused(place.service, what, status.unwrap_or(403), signed)
        }
        (_, Some(status @ (401 | 403))) => refused(place.service, what, status, signed),
        (_, Some(301 | 307 | 400))
            if is(&[
                "PermanentRedirect",
                "AuthorizationHeaderMalformed",
                "IllegalLocationConstraintException",
            ]) =>
        {
            Problem::Unreachable {
                what,
                reason: "the bucket is in another region; set AWS_REGION".to_owned(),
            }
        }
        _ => Problem::Unreachable {
            what,
            reason: reason(error, &text, status, code) + hint(place.service, &text, signed),
        },
    }
}

fn refused(service: Service, what: String, status: u16, signed: bool) -> Problem {
    Problem::Refused {
        what,
        status,
        help: match (service, signed) {
            (Service::S3, true) => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY may not read it",
            (Service::S3, false) => {
                "it needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true \
                 where the bucket is public"
            }
            (Service::Gs, true) => "the account of GOOGLE_APPLICATION_CREDENTIALS may not read it",
            (Service::Gs, false) => "it needs GOOGLE_APPLICATION_CREDENTIALS",
            (Service::Az, true) => "the key of AZURE_STORAGE_ACCOUNT_NAME may not read it",
            (Service::Az, false) => {
                "it needs AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
            }
            (Service::Https, _) => {
                "the server wants to know who asks; give a signed URL with (env)"
            }
        },
    }
}

/// What a person wants to know of an error that is none of the usual ones.
fn reason(error: &Error, text: &str, status: Option<u16>, code: Option<&str>) -> String {
    if let Some(status) = status {
        let message = tag(text, "Message").unwrap_or_default();
        let message: String = message.chars().take(MAX_MESSAGE).collect();
        return match (code, message.as_str()) {
            (Some(code), "") => format!("the server answers {status} {code}"),
            (Some(code), message) => format!("the server answers {status} {code}: {message}"),
            (None, _) => format!("the server answers {status}"),
        };
    }
    match transport(error) {
        Some(reason) => reason,
        None => "the server's answer is none".to_owned(),
    }
}

/// The causes of an error of the transport. They name no address.
fn transport(error: &Error) -> Option<String> {
    let mut cause: &(dyn StdError + 'static) = error;
    while cause.downcast_ref::<HttpError>().is_none() {
        cause = cause.source()?;
    }
    let mut reason = String::new();
    while let Some(further) = cause.source() {
        cause = further;
        let said = cause.to_string();
        if !reason.is_empty() {
            reason.push_str(": ");
        }
        reason.push_str(&said);
    }
    Some(reason).filter(|reason| !reason.is_empty())
}

/// What helps where nothing says whom the store takes us for: then the machine is asked for an
/// account, and most machines have none.
fn hint(service: Service, text: &str, signed: bool) -> &'static str {
    let asked_machine = text.contains("/latest/")
        || text.contains("/computeMetadata/")
        || text.contains("/metadata/identity");
    match service {
        _ if signed || !asked_machine => "",
        Service::S3 => {
            " (no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
             AWS_SKIP_SIGNATURE=true where the bucket is public)"
        }
        Service::Gs => " (no credentials: set GOOGLE_APPLICATION_CREDENTIALS)",
        Service::Az => " (no credentials: set AZURE_STORAGE_ACCOUNT_KEY)",
        Service::Https => "",
    }
}

/// The status of an answer in the text of the library.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// What stands in an element of the store's answer, which is XML.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Place;

    fn said(text: &str, signed: bool) -> String {
        let Ok(Place::Object(place)) = Place::parse("s3://models/mini/") else {
            panic!("no object");
        };
        let error = Error::Generic {
            store: "S3",
            source: text.to_owned().into(),
        };
        problem(&error, &place, "s3://models/mini/a.json", signed).to_string()
    }

    #[test]
    fn each_answer_has_its_own_words() {
        let answer = |status: &str, code: &str| {
            format!(
                "Error performing GET http://h/models?X-Signature=abc in 1ms - Server returned \
                 non-2xx status code: {status}: <Error><Code>{code}</Code><Message>because</Message></Error>"
            )
        };
        for (text, signed, says) in [
            (
                answer("404 Not Found", "NoSuchBucket"),
                true,
                "the bucket of s3://models/mini/ does not exist",
            ),
            (
                answer("404 Not Found", "NoSuchKey"),
                true,
                "s3://models/mini/a.json does not exist",
            ),
            (
                answer("403 Forbidden", "AccessDenied"),
                true,
                "is refused (403): AWS_ACCESS_KEY_ID and",
            ),
            (
                answer("403 Forbidden", "AccessDenied"),
                false,
                "AWS_SKIP_SIGNATURE=true",
            ),
            (
                answer("400 Bad Request", "AuthorizationHeaderMalformed"),
                true,
                "set AWS_REGION",
            ),
            (
                answer("503 Slow Down", "SlowDown"),
                true,
                "the server answers 503 SlowDown: because",
            ),
            (
                "Error performing PUT http://169.254.169.254/latest/api/token".to_owned(),
                false,
                "no credentials: set AWS",
            ),
        ] {
            let said = said(&text, signed);
            assert!(said.contains(says), "{said}");
            assert!(!said.contains("Signature=abc"), "{said}");
        }
    }
}
