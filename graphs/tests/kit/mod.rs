//! Files checked as the engine checks them, and diagnostics as text.

#![allow(dead_code, reason = "each test file uses its part of the kit")]

use graphs::{Content, Facts, IndexFacts, Machine, ModelFacts, Program, PythonFacts, check};
use schema::{Diagnostic, Document, Name, Severity, Source, SourceId, Span, parse};

/// Models and indexes that every test may use.
const PRELUDE: &str = r#"
model minilm { source "hf:sentence-transformers/all-MiniLM-L6-v2" }
model small { source "hf:example/small" }
model gemma { source "file:gemma.gguf" }
index docs { path "docs.index"; model minilm }
"#;

/// What is known: `minilm` and `docs` have 384 dimensions, `small` has 128; the folder of `tuned`
/// holds the adapters `legal` and `qa`.
pub fn facts() -> Facts {
    let model = |name: &str, size| {
        (
            Name::new(name),
            ModelFacts {
                dimensions: Some(size),
                ..ModelFacts::default()
            },
        )
    };
    let tuned = ModelFacts {
        adapters: Some(vec!["legal".to_owned(), "qa".to_owned()]),
        ..ModelFacts::default()
    };
    let tuned = (Name::new("tuned"), tuned);
    Facts {
        models: [model("minilm", 384), model("small", 128), tuned].into(),
        indexes: [(
            Name::new("docs"),
            IndexFacts {
                dimensions: Some(384),
            },
        )]
        .into(),
        python: [
            (
                "rewrite.py".to_owned(),
                PythonFacts::Defines(["QueryRewriter".to_owned()].into()),
            ),
            (
                "gone.py".to_owned(),
                PythonFacts::Unreadable("no such file".to_owned()),
            ),
        ]
        .into(),
        machine: Some(Machine {
            cpus: 4.0,
            gpus: 1.0,
            memory: 8 << 30,
        }),
        content: Content::default(),
    }
}

/// What a whole file declares, whatever is wrong with it.
pub fn document(text: &str) -> Document {
    read(text).0
}

fn read(text: &str) -> (Document, Vec<Diagnostic>) {
    let source = Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: text.to_owned(),
    };
    let environment = |name: &str| (name != "UNSET").then(|| "secret".to_owned());
    parse(&source, &environment)
}

/// Parses and checks a whole file.
pub fn check_file(text: &str) -> Result<Program, Vec<Diagnostic>> {
    let (document, mut diagnostics) = read(text);
    match check(document, &facts()) {
        Ok(program) if !diagnostics.iter().any(Diagnostic::is_error) => Ok(program),
        Ok(program) => {
            diagnostics.extend(program.warnings().iter().cloned());
            Err(diagnostics)
        }
        Err(more) => {
            diagnostics.extend(more);
            Err(diagnostics)
        }
    }
}

/// A file with the prelude and one graph of this body.
pub fn graph_file(body: &str) -> String {
    format!("graph g {{\n{body}\n}}\n{PRELUDE}")
}

/// The diagnostics of a graph with this body, as text; warnings of a good one too.
pub fn problems(body: &str) -> String {
    problems_of_file(&graph_file(body))
}

/// The diagnostics of a file, as text.
pub fn problems_of_file(text: &str) -> String {
    match check_file(text) {
        Ok(program) => render(text, program.warnings()),
        Err(diagnostics) => render(text, &diagnostics),
    }
}

/// A program of one graph with this body, which must be good.
pub fn program(body: &str) -> Program {
    let text = graph_file(body);
    check_file(&text).unwrap_or_else(|diagnostics| panic!("{}", render(&text, &diagnostics)))
}

fn render(text: &str, diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (code, message) = (diagnostic.code, &diagnostic.message);
        out += &format!("{severity}[{code}]: {message}\n");
        for label in &diagnostic.labels {
            let (place, excerpt) = excerpt(text, label.span);
            let about = if label.text.is_empty() { "" } else { ": " };
            out += &format!("  {place} `{excerpt}`{about}{}\n", label.text);
        }
        if let Some(help) = &diagnostic.help {
            out += &format!("  help: {help}\n");
        }
    }
    out
}

fn excerpt(text: &str, span: Span) -> (String, String) {
    let before = &text[..span.start as usize];
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
    let marked = text[span.range()]
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    (format!("{line}:{column}"), marked)
}
