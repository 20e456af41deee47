//! What several test files need.

use schema::{Document, Source, SourceId, parse};

/// A source of this text.
pub fn source(text: &str) -> Source {
    Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: text.to_owned(),
    }
}

/// What a text without mistakes declares.
pub fn document(text: &str) -> Document {
    let (document, diagnostics) = parse(&source(text), &|name| Some(format!("value of {name}")));
    assert_eq!(diagnostics, []);
    document
}
