//! The page of diagnostics, held against the check.

mod kit;

use kit::check_file;
use schema::codes::{CHECK, READ};

/// The snippets of a page: the words after the opening fence, and the text.
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

#[test]
fn every_documented_mistake_gives_its_code_and_the_repair_none() {
    let mut shown = Vec::new();
    for (words, text) in snippets(include_str!("../../docs/diagnostics.md")) {
        let found = match check_file(&text) {
            Ok(program) => program.warnings().to_vec(),
            Err(diagnostics) => diagnostics,
        };
        let found: Vec<&str> = found.iter().map(|problem| problem.code).collect();
        match words.as_slice() {
            ["kdl", code] if READ.iter().any(|(known, _)| known == code) => {}
            ["kdl", code] => {
                assert_eq!(found, [*code], "{text}");
                shown.push(*code);
            }
            _ => assert_eq!(found, [""; 0], "{text}"),
        }
    }
    for (code, _) in CHECK {
        assert!(shown.contains(code), "{code} has no example");
    }
}
