//! Any bytes as a file: reading and formatting end without a panic, every place of a diagnostic is
//! one of the text, and formatting is stable and keeps what the file says.
//!
//! `cargo +nightly fuzz run language fuzz/corpus/language schema/tests/cases -- -max_len=65536 -timeout=1`

#![no_main]

use libfuzzer_sys::fuzz_target;
use schema::{Source, SourceId, format, parse};

fn source(text: &str) -> Source {
    Source {
        id: SourceId(0),
        name: "fuzz.kdl".to_owned(),
        text: text.to_owned(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (document, diagnostics) = parse(&source(&text), &|_| None);
    for label in diagnostics.iter().flat_map(|diagnostic| &diagnostic.labels) {
        assert!(text.get(label.span.range()).is_some());
    }
    let Ok(formatted) = format(&source(&text)) else {
        return;
    };
    // Indentation may push a text over the size cap; then there is nothing to compare.
    if formatted.len() > 1 << 20 {
        return;
    }
    let again = format(&source(&formatted)).expect("formatting keeps a text valid");
    assert_eq!(again, formatted, "formatting again changes the text");
    assert_eq!(parse(&source(&formatted), &|_| None).0, document);
});
