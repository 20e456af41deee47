//! The pages of `docs/` that follow from the code.

use expect_test::expect_file;
use schema::{
    Source, SourceId,
    codes::{CHECK, READ},
};

#[test]
fn the_reference_is_written_from_the_declarations() {
    expect_file!["../../docs/reference.md"].assert_eq(&schema::reference());
}

/// A snippet of a page: the words after the opening fence, and the text.
fn snippets(page: &str) -> Vec<(Vec<&str>, String)> {
    let mut snippets = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(words) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```");
            let text = text.map(|line| format!("{line}\n")).collect();
            snippets.push((words.split_whitespace().collect(), text));
        }
    }
    snippets
}

/// The codes that reading `text` gives.
fn codes(text: &str) -> Vec<&'static str> {
    let source = Source {
        id: SourceId(0),
        name: "snippet.kdl".to_owned(),
        text: text.to_owned(),
    };
    let environment = |name: &str| (name != "UNSET").then(|| "secret".to_owned());
    let (_, diagnostics) = schema::parse(&source, &environment);
    diagnostics.iter().map(|problem| problem.code).collect()
}

#[test]
fn every_code_is_documented_and_every_documented_code_exists() {
    let page = include_str!("../../docs/diagnostics.md");
    let documented: Vec<(&str, &str)> = page
        .split("\n### `")
        .skip(1)
        .map(|section| {
            let (code, rest) = section.split_once("`\n\n").unwrap();
            (code, rest.lines().next().unwrap())
        })
        .collect();
    let known: Vec<(&str, &str)> = READ
        .iter()
        .chain(CHECK)
        .map(|(code, meaning)| (*code, meaning.trim()))
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn every_documented_mistake_gives_its_code_and_the_repair_none() {
    let page = include_str!("../../docs/diagnostics.md");
    let mut shown = Vec::new();
    for (words, text) in snippets(page) {
        match words.as_slice() {
            // What is found later is tried by the tests of the crate that finds it.
            ["kdl", code] if CHECK.iter().any(|(known, _)| known == code) => {
                assert_eq!(codes(&text), [""; 0], "{code}: {text}");
            }
            ["kdl", code] => {
                assert_eq!(codes(&text), [*code], "{text}");
                shown.push(*code);
            }
            _ => assert_eq!(codes(&text), [""; 0], "{text}"),
        }
    }
    // These need a file that is too long for a page, or two files; other tests have them.
    let elsewhere = [
        "too-large",
        "too-deep",
        "too-many-problems",
        "second-server",
    ];
    for (code, _) in READ {
        let counted = shown.contains(code) || elsewhere.contains(code);
        assert!(counted, "{code} has no example");
    }
}
