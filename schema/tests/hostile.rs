//! Whatever the text is, reading and formatting it ends, soon and without a panic.

use proptest::prelude::*;
use schema::{Source, SourceId, format, parse};

const EXAMPLES: [&str; 2] = [
    include_str!("cases/rag.kdl"),
    include_str!("cases/kinds.kdl"),
];

/// A source of this text.
fn source(text: &str) -> Source {
    Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: text.to_owned(),
    }
}

/// The codes of all problems, in order.
fn problems_of(text: &str) -> Vec<&'static str> {
    let (_, diagnostics) = parse(&source(text), &|_| None);
    diagnostics.iter().map(|problem| problem.code).collect()
}

/// Reads and formats `text`; what can be formatted must stay the same when formatted again.
fn try_all(text: &str) {
    let (document, diagnostics) = parse(&source(text), &|_| None);
    for diagnostic in &diagnostics {
        for label in &diagnostic.labels {
            // Each place can be cut out of the text.
            let _ = &text[label.span.range()];
        }
    }
    if let Ok(formatted) = format(&source(text)) {
        let again = format(&source(&formatted)).expect("formatting keeps the text valid");
        assert_eq!(again, formatted, "formatting again changes the text");
        let (after, _) = parse(&source(&formatted), &|_| None);
        assert_eq!(document, after, "formatting changes what the file says");
    }
}

/// Pieces that mean something to the syntax, so that random texts get far into it.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "{",
        "}",
        "(",
        ")",
        "=",
        ";",
        "\n",
        "\r\n",
        " ",
        "\t",
        "\\",
        "\\\n",
        "\"",
        "\"\"\"",
        "\"\"\"\n",
        "\n\"\"\"",
        "#",
        "#\"",
        "\"#",
        "##\"\"\"\n",
        "/-",
        "//",
        "/*",
        "*/",
        "#true",
        "#null",
        "1",
        "-1.5e3",
        "0xF",
        "5s",
        "\\n",
        "\\u{1F600}",
        "\\u{",
        "{{ a }}",
        "\"{{ a",
        "}}\"",
        "\"{{ a[\"é\"] }}é\"",
        "{% if %}",
        "é",
        "\u{2028}",
        "\u{85}",
        "\u{FEFF}",
        "\u{202E}",
        "\0",
        "graph",
        "g",
        "input",
        "embed",
        "model",
        "text",
        "(env)",
        "batch",
        "max-size",
        "type",
        "server",
        "    ",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => any::<String>()]
}

/// Something between one and three times the number of steps: too little for a file, much for a
/// mistake of the parser.
fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        try_all(&text);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        try_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_pieces(text in pieces()) {
        try_all(&text);
    }

    #[test]
    fn examples_with_a_piece_replaced(
        example in prop::sample::select(EXAMPLES.to_vec()),
        at in any::<prop::sample::Index>(),
        length in 0usize..40,
        replacement in piece(),
    ) {
        let mut start = at.index(example.len());
        while !example.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = (start + length).min(example.len());
        while !example.is_char_boundary(end) {
            end += 1;
        }
        try_all(&format!("{}{replacement}{}", &example[..start], &example[end..]));
    }
}

#[test]
fn every_prefix_of_an_example() {
    for example in EXAMPLES {
        for end in (0..example.len()).filter(|end| example.is_char_boundary(*end)) {
            try_all(&example[..end]);
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for (open, close) in [
        ("a {", "}"),
        ("a { ", ""),
        ("a {\n/-", "}"),
        ("a /-{", "}"),
        ("/- a { ", ""),
        ("a /-{ /-", ""),
    ] {
        let text = open.repeat(20_000) + &close.repeat(20_000);
        try_all(&text);
        assert!(problems_of(&text).contains(&"too-deep"), "{open}");
    }
    for repeated in [
        "/*",
        "/* * / ",
        "/-",
        "(",
        "((",
        "\\\n",
        "\\",
        "/- ",
        "}",
        "=",
        "[",
        "\"",
        "\"\"\"\n",
        "#",
        "\"{{\"a",
        "\"{{\"a\"}}\"b",
    ] {
        try_all(&repeated.repeat(50_000));
        try_all(&format!("a {}", repeated.repeat(50_000)));
    }
    // Templates with quotes of their own that would all end at the last quote, which is never closed.
    let all_at_once = "\"{{\"a".repeat(20_000) + "\"" + &"}}".repeat(20_000);
    try_all(&format!("a {all_at_once}"));
    assert_eq!(problems_of(&("/*".repeat(9) + &"*/".repeat(9))), [""; 0]);
}

#[test]
fn blocks_may_be_nested_as_deep_as_is_said() {
    let nested = |depth: usize| "a {".repeat(depth) + &"}".repeat(depth);
    assert!(!problems_of(&nested(64)).contains(&"too-deep"));
    assert_eq!(
        problems_of(&nested(65))
            .iter()
            .filter(|code| **code == "too-deep")
            .count(),
        1
    );
}

#[test]
fn a_long_file_is_refused() {
    let comment = |length: usize| format!("//{}", "x".repeat(length - 2));
    assert_eq!(problems_of(&comment(1 << 20)), [""; 0]);
    assert_eq!(problems_of(&comment((1 << 20) + 1)), ["too-large"]);
}

#[test]
fn a_file_full_of_mistakes_has_an_end() {
    let problems = problems_of(&"wibble 1\n".repeat(10_000));
    assert_eq!(problems.len(), 201);
    assert_eq!(problems.last(), Some(&"too-many-problems"));
}

#[test]
fn ten_mistakes_are_ten_problems() {
    let problems = problems_of(
        "server { listne \"a:1\"; timeout 5 }
         model m { source \"file:a\" sha256=\"x\"; max-tokens 0 }
         graph g {
            input { q type=strnig; q-2 default=\"x\" type=integer }
            embed input { model m; text \"a\" }
            search s { index i; vector \"a\"; top-k 0; top-k 5 }
            template t { text true }
         }",
    );
    assert_eq!(problems.len(), 10, "{problems:?}");
}
