//! What several test files need.
#![allow(dead_code, reason = "each test file uses a part")]

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

/// The codes of all problems, in order.
pub fn problems_of(text: &str) -> Vec<&'static str> {
    let (_, diagnostics) = parse(&source(text), &|_| None);
    diagnostics.iter().map(|problem| problem.code).collect()
}
