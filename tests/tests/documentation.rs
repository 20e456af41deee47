//! Every KDL snippet of the documentation and every example is a valid file.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use graphs::Facts;
use schema::{Diagnostic, Source, Sources};
use std::{fs, path::Path};

/// Checks a text and returns its errors, drawn.
fn problems(name: &str, text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let id = sources.add(name, text);
    let source = Source {
        id,
        name: name.to_owned(),
        text: text.to_owned(),
    };
    // A snippet may read the environment; what it would find there does not matter.
    let (document, mut diagnostics) = schema::parse(&source, &|_| Some("secret".to_owned()));
    if let Err(more) = graphs::check(document, &Facts::default()) {
        diagnostics.extend(more);
    }
    let style = engine::report::Style {
        colours: false,
        width: 100,
    };
    let bad = diagnostics.iter().any(Diagnostic::is_error);
    bad.then(|| engine::report::human(&diagnostics, &sources, style))
}

/// The contents of the fenced blocks of a language, with the line on which each begins.
fn fenced<'a>(text: &'a str, language: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    let fence = format!("```{language}");
    while let Some((number, line)) = lines.next() {
        if line.trim() == fence {
            let body: Vec<&'a str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim() != "```")
                .collect();
            blocks.push((number + 1, body.join("\n")));
        }
    }
    blocks
}

fn files_below(folder: &Path, extension: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|have| have == extension) {
            found.push(path);
        }
    }
}

#[test]
fn every_snippet_checks() {
    let root = tests::repository();
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    for folder in ["docs", "examples"] {
        files_below(&root.join(folder), "md", &mut pages);
    }
    let mut checked = 0;
    let mut bad = String::new();
    for page in pages {
        for (line, snippet) in fenced(&fs::read_to_string(&page).unwrap(), "kdl") {
            checked += 1;
            let name = format!("{}:{line}", page.strip_prefix(&root).unwrap().display());
            bad.extend(problems(&name, &snippet));
        }
    }
    assert!(bad.is_empty(), "{bad}");
    assert!(checked >= 10, "only {checked} snippets were found");
}

#[test]
fn every_example_checks_and_is_formatted() {
    let mut graphs = Vec::new();
    files_below(&tests::repository().join("examples"), "kdl", &mut graphs);
    assert!(graphs.len() >= 3);
    for path in graphs {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        assert_eq!(problems(&name, &text), None, "{name}");
        let mut sources = Sources::default();
        let id = sources.add(name.clone(), text.clone());
        let formatted = schema::format(sources.get(id).unwrap()).unwrap();
        assert_eq!(formatted, text, "{name} is not formatted");
    }
}
