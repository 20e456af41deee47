//! What a request's headers say of it: its id, its trace, its time, and whether it may come in.

use super::problem::Problem;
use http::{HeaderMap, header};
use nodes::{Map, Value};
use schema::{Spanned, Text};
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Longest id that is taken over from a client.
const MAX_ID: usize = 128;

/// The client's `x-request-id` if it is sound, and a fresh one otherwise.
pub(super) fn request_id(headers: &HeaderMap) -> Arc<str> {
    let sound = |id: &&str| {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte);
        (1..=MAX_ID).contains(&id.len()) && id.bytes().all(sound)
    };
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    given.filter(sound).map_or_else(fresh_id, Into::into)
}

/// An id that no other request of this process has, and hardly one of another.
fn fresh_id() -> Arc<str> {
    static BASE: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("request ids"));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // The finaliser of splitmix64 (Steele, Lea and Flood 2014) is a bijection.
    let mut id = BASE.wrapping_add(
        COUNT
            .fetch_add(1, Relaxed)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15),
    );
    id = (id ^ (id >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    id = (id ^ (id >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    id ^= id >> 31;
    format!("{id:016x}").into()
}

/// The trace id of a W3C `traceparent`, if there is a sound one.
pub(super) fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let parent = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = parent.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags) = (parts.next()?, parts.next()?);
    let hex = |text: &str, length| {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        text.len() == length && text.bytes().all(digit)
    };
    let sound = hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && hex(trace, 32)
        && hex(span, 16)
        && hex(flags, 2)
        && trace.bytes().any(|byte| byte != b'0')
        && span.bytes().any(|byte| byte != b'0');
    sound.then_some(trace)
}

/// How long the client wants to wait at most, from `x-request-timeout-seconds`.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    const NAME: &str = "x-request-timeout-seconds";
    let Some(given) = headers.get(NAME) else {
        return Ok(None);
    };
    let seconds: Option<f64> = given
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    seconds
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map(Some)
        .ok_or_else(|| Problem::header(NAME, "must be a positive number of seconds"))
}

/// Whether the request bears one of the keys, where there are any.
pub(super) fn authorize(headers: &HeaderMap, keys: &[Spanned<Text>]) -> Result<(), Problem> {
    if keys.is_empty() {
        return Ok(());
    }
    let given = headers.get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let given = given.ok_or_else(Problem::unauthorized)?;
    // Every key is looked at, so that the time says nothing of which one came close.
    let known = keys.iter().fold(false, |known, key| {
        known | same(given, key.value.expose().as_bytes())
    });
    if known {
        Ok(())
    } else {
        Err(Problem::unauthorized())
    }
}

/// Equality in a time that depends on the length of `given` alone.
fn same(given: &[u8], key: &[u8]) -> bool {
    let mut difference = given.len() ^ key.len();
    for (index, byte) in given.iter().enumerate() {
        let other = key.get(index).copied().unwrap_or_default();
        difference |= usize::from(std::hint::black_box(byte ^ other));
    }
    std::hint::black_box(difference) == 0
}

/// The headers as templates see them: lower case, `-` written `_`. Credentials are left out, so
/// that no template can hand them on.
pub(super) fn for_templates(headers: &HeaderMap) -> Value {
    let secret = [
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::COOKIE,
    ];
    let shown = headers.iter().filter(|(name, _)| !secret.contains(name));
    let entries = shown.filter_map(|(name, value)| {
        let name: Arc<str> = name.as_str().replace('-', "_").into();
        Some((name, Value::text(value.to_str().ok()?)))
    });
    Value::Map(Arc::new(entries.collect::<Map>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn a_sound_id_is_kept_and_another_is_replaced() {
        assert_eq!(&*request_id(&headers("x-request-id", "a-b:1")), "a-b:1");
        for unsound in ["", "a b", "a\"b"] {
            assert_eq!(request_id(&headers("x-request-id", unsound)).len(), 16);
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn a_traceparent_is_read_strictly() {
        let trace = |parent| trace_id(&headers("traceparent", parent)).map(str::to_owned);
        let id = "0af7651916cd43dd8448eb211c80319c";
        let sound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace(sound).as_deref(), Some(id));
        for unsound in [
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert_eq!(trace(unsound), None, "{unsound}");
        }
    }

    #[test]
    fn keys_open_and_nothing_else_does() {
        let keys = ["first", "second"].map(|key| Spanned {
            value: Text::secret(key),
            ..Spanned::new(Text::plain(""), schema::Span::default())
        });
        let open = |value| authorize(&headers("authorization", value), &keys).is_ok();
        assert!(open("Bearer second"));
        for wrong in [
            "Bearer secon",
            "Bearer second2",
            "Bearer ",
            "second",
            "Basic second",
        ] {
            assert!(!open(wrong), "{wrong}");
        }
        assert!(authorize(&HeaderMap::new(), &keys).is_err());
        assert!(authorize(&HeaderMap::new(), &[]).is_ok());
    }

    #[test]
    fn a_timeout_is_a_positive_number() {
        let timeout = |value| timeout(&headers("x-request-timeout-seconds", value));
        assert_eq!(timeout("0.5").unwrap(), Some(Duration::from_millis(500)));
        for wrong in ["0", "-1", "NaN", "inf", "soon"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn templates_see_no_credentials() {
        let mut all = headers("x-lora-id", "legal");
        all.extend(headers("authorization", "Bearer secret"));
        let shown = for_templates(&all).to_json().unwrap();
        assert_eq!(shown, br#"{"x_lora_id":"legal"}"#);
    }
}
