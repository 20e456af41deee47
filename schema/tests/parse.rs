//! What files say, and what is said about those that say it wrongly.

use schema::{Diagnostic, Document, Source, SourceId, parse};

fn source(text: &str) -> Source {
    Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: text.to_owned(),
    }
}

fn environment(name: &str) -> Option<String> {
    name.starts_with("ENGINE_")
        .then(|| format!("value of {name}"))
}

fn read(text: &str) -> (Document, Vec<Diagnostic>) {
    parse(&source(text), &environment)
}

#[test]
fn the_examples_parse_without_a_diagnostic() {
    for text in [
        include_str!("cases/rag.kdl"),
        include_str!("cases/kinds.kdl"),
    ] {
        let (_, diagnostics) = read(text);
        assert_eq!(diagnostics, []);
    }
}
