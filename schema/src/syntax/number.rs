//! Numbers: `12`, `-1_000`, `0xFF`, `0.5`, `1e-3`.

use super::Value;

/// Whether a bare word is meant as a number: a digit comes first, after a sign or a dot if need be.
pub(super) fn looks_like_number(word: &str) -> bool {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
    digits.starts_with(|first: char| first.is_ascii_digit())
}

/// The number that `word` writes; `None` if it writes none, or one that is too large.
pub(super) fn number(word: &str) -> Option<Value> {
    let (sign, unsigned) = match word.as_bytes().first()? {
        b'-' => ("-", &word[1..]),
        b'+' => ("", &word[1..]),
        _ => ("", word),
    };
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            let digits = digits_of(digits, radix)?;
            return i128::from_str_radix(&format!("{sign}{digits}"), radix)
                .ok()
                .map(Value::Integer);
        }
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let mut text = format!("{sign}{}", digits_of(whole, 10)?);
    if fraction.is_none() && exponent.is_none() {
        return text.parse().ok().map(Value::Integer);
    }
    if let Some(fraction) = fraction {
        text = format!("{text}.{}", digits_of(fraction, 10)?);
    }
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let sign = if exponent.starts_with('-') { "-" } else { "" };
        text = format!("{text}e{sign}{}", digits_of(digits, 10)?);
    }
    text.parse().ok().map(Value::Float)
}

/// The digits without their `_`; `None` if there is anything else, or no digit first.
fn digits_of(text: &str, radix: u32) -> Option<String> {
    let first = text.chars().next()?;
    let valid = first.is_digit(radix) && text.chars().all(|c| c == '_' || c.is_digit(radix));
    valid.then(|| text.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_written() {
        let cases = [
            ("12", Some(Value::Integer(12))),
            ("-1_000", Some(Value::Integer(-1000))),
            ("+7", Some(Value::Integer(7))),
            ("0xFF", Some(Value::Integer(255))),
            ("-0b101", Some(Value::Integer(-5))),
            ("0o17", Some(Value::Integer(15))),
            ("0.5", Some(Value::Float(0.5))),
            ("1e-3", Some(Value::Float(0.001))),
            ("-2.5E+2", Some(Value::Float(-250.0))),
            ("5s", None),
            ("1.", None),
            (".5", None),
            ("1e", None),
            ("0x", None),
            ("_1", None),
            ("999999999999999999999999999999999999999999", None),
        ];
        for (word, expected) in cases {
            assert_eq!(number(word), expected, "{word}");
        }
    }
}
