//! Which texts may name an adapter. A name becomes a folder's name, and it comes from a request.

use crate::NodeError;

/// The longest name.
const MAX_LENGTH: usize = 128;

/// Refuses what is no name: ASCII letters, digits, `-`, `_` and `.`, not starting with a dot. So no
/// name leads to another folder, and none looks like another one.
///
/// # Errors
/// [`NodeError::Invalid`] with what is allowed; it repeats nothing of the name, which may be hostile.
pub fn check_name(name: &str) -> Result<(), NodeError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=MAX_LENGTH).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(is_allowed)
    {
        return Ok(());
    }
    Err(NodeError::invalid(
        "an adapter's name consists of ASCII letters, digits, '-', '_' and '.', does not start with \
         a dot and is at most 128 characters long",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_and_not_paths() {
        for good in ["qa", "Legal-2.1_b", "0", "a..b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(129);
        for bad in [
            "", ".", "..", "../qa", "a/b", "a\\b", "/etc", ".hidden", "qa\0", "q a", "q\u{430}",
            "qa\n", "C:qa", "ｑa", &long,
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
