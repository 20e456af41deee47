//! Durations, sizes and shares: numbers that carry a unit.

use super::{Scalar, plain_text};
use crate::{
    ByteSize, Diagnostic, Share, Span, codes,
    decode::Reader,
    syntax::{Entry, Value, shorten},
};
use std::time::Duration;

/// Units of time and their lengths in seconds, longest first.
const DURATIONS: [(&str, f64); 6] = [
    ("d", 86_400.0),
    ("h", 3_600.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 1e-3),
    ("us", 1e-6),
];

/// Units of size and their bytes, largest first.
const SIZES: [(&str, f64); 9] = [
    ("TiB", (1u64 << 40) as f64),
    ("TB", 1e12),
    ("GiB", (1u64 << 30) as f64),
    ("GB", 1e9),
    ("MiB", (1u64 << 20) as f64),
    ("MB", 1e6),
    ("KiB", 1024.0),
    ("kB", 1e3),
    ("B", 1.0),
];

/// A number and a unit of `units`, in the base unit; a problem is reported otherwise.
fn measured(
    entry: &Entry,
    reader: &mut Reader,
    what: &str,
    example: &str,
    units: &[(&'static str, f64)],
) -> Option<f64> {
    let text = match &entry.value {
        Value::Integer(_) | Value::Float(_) => None,
        _ => Some(plain_text(
            entry,
            reader,
            &format!("{what} such as \"{example}\""),
        )?),
    };
    let split = text.and_then(|text| {
        let text = text.text.trim();
        let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..unit].parse().ok()?;
        let unit = text[unit..].trim_start();
        let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
        Some(number * factor)
    });
    if split.is_none() {
        reader.report(|| {
            let message = match text {
                Some(text) => format!("\"{}\" is not {what}", shorten(&text.text)),
                None => format!("{what} needs a unit"),
            };
            let names: Vec<&str> = units.iter().rev().map(|(name, _)| *name).collect();
            let help = format!(
                "write {what} such as \"{example}\"; units: {}",
                names.join(", ")
            );
            Diagnostic::error(codes::WRONG_UNIT, message, entry.span).help(help)
        });
    }
    split
}

impl Scalar for Duration {
    fn word() -> String {
        "a duration".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        let seconds = measured(entry, reader, "a duration", "5s", &DURATIONS)?;
        // Longer ones are mistakes, and sums of deadlines must not overflow.
        const LONGEST: f64 = 3_660.0 * 86_400.0;
        if seconds > LONGEST {
            reader.report(|| {
                Diagnostic::error(codes::OUT_OF_RANGE, "the duration is too long", entry.span)
                    .help("the most is ten years")
            });
            return None;
        }
        // Whole nanoseconds, so that "0.1s" and "100ms" are equal.
        Some(Duration::from_nanos((seconds * 1e9).round() as u64))
    }

    fn show(&self) -> String {
        if self.is_zero() {
            return "\"0s\"".to_owned();
        }
        let nanos = self.as_nanos();
        let whole = DURATIONS.iter().find_map(|(unit, seconds)| {
            let length = (seconds * 1e9) as u128;
            nanos
                .is_multiple_of(length)
                .then(|| format!("\"{}{unit}\"", nanos / length))
        });
        whole.unwrap_or_else(|| format!("\"{}s\"", self.as_secs_f64()))
    }

    fn stand_in(_: Span) -> Self {
        Duration::ZERO
    }
}

impl Scalar for ByteSize {
    fn word() -> String {
        "a size".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        let bytes = measured(entry, reader, "a size", "512MiB", &SIZES)?;
        // Above 2^53 a number no longer holds every count of bytes.
        const LARGEST: f64 = (1u64 << 53) as f64;
        if bytes > LARGEST {
            reader.report(|| {
                Diagnostic::error(codes::OUT_OF_RANGE, "the size is too large", entry.span)
                    .help("the most is 8192TiB")
            });
            return None;
        }
        Some(ByteSize(bytes.round() as u64))
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }

    fn stand_in(_: Span) -> Self {
        ByteSize(0)
    }
}

impl Scalar for Share {
    fn word() -> String {
        "a share".to_owned()
    }

    fn read(entry: &Entry, reader: &mut Reader) -> Option<Self> {
        measured(entry, reader, "a share", "5%", &[("%", 0.01)]).map(Share)
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }

    /// Neither smaller nor larger than any, so that no limit is broken by what is not there.
    fn stand_in(_: Span) -> Self {
        Share(f64::NAN)
    }
}
