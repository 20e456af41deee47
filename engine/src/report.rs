//! Diagnostics as a person sees them (source excerpt, label, help) and as an editor reads them.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use schema::{Diagnostic, Label, Severity, Sources, Span};
use serde_json::json;
use std::fmt;

/// How diagnostics are drawn for a person.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Colours and box-drawing characters; off where the output is not a terminal.
    pub colours: bool,
    /// Columns to wrap at.
    pub width: usize,
}

/// Draws every diagnostic with an excerpt of its source.
pub fn human(diagnostics: &[Diagnostic], sources: &Sources, style: Style) -> String {
    let theme = match style.colours {
        true => GraphicalTheme::unicode(),
        false => GraphicalTheme::unicode_nocolor(),
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(style.width)
        .with_context_lines(1);
    let mut text = String::new();
    for diagnostic in diagnostics {
        let report = Report::new(diagnostic, sources);
        if handler.render_report(&mut text, &report).is_err() {
            // An excerpt that cannot be drawn must not hide the problem itself.
            text.push_str(&format!("{}: {}\n", diagnostic.code, diagnostic.message));
        }
        text.push('\n');
    }
    text
}

/// An error and its causes in one line: `a: b: c`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors repeat their cause in their own words.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// One line that counts errors and warnings: `2 errors, 1 warning`.
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|one| one.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let count = |number: usize, word: &str| match number {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{number} {word}s")),
    };
    let parts: Vec<_> = [count(errors, "error"), count(warnings, "warning")]
        .into_iter()
        .flatten()
        .collect();
    match parts.is_empty() {
        true => "no problems".to_owned(),
        false => parts.join(", "),
    }
}

/// One JSON object a diagnostic, with byte offsets and line and column (both from 1, columns in
/// characters), for `engine check --json`.
pub fn json(diagnostics: &[Diagnostic], sources: &Sources) -> serde_json::Value {
    let place = |label: &Label| {
        let source = sources.get(label.span.source);
        let text = source.map_or("", |source| source.text.as_str());
        let (line, column) = line_and_column(text, label.span.start as usize);
        let (end_line, end_column) = line_and_column(text, label.span.end as usize);
        json!({
            "file": source.map(|source| &source.name),
            "start": label.span.start, "end": label.span.end,
            "line": line, "column": column, "end_line": end_line, "end_column": end_column,
            "text": label.text,
        })
    };
    let one = |diagnostic: &Diagnostic| {
        json!({
            "code": diagnostic.code,
            "severity": match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "message": diagnostic.message,
            "labels": diagnostic.labels.iter().map(place).collect::<Vec<_>>(),
            "help": diagnostic.help,
        })
    };
    diagnostics.iter().map(one).collect()
}

/// Line and column of a byte offset, both from 1.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    (line, column)
}

/// A diagnostic with the one source that miette can show for it; labels in other sources become
/// related reports.
struct Report<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
    elsewhere: Vec<Elsewhere<'a>>,
}

impl<'a> Report<'a> {
    fn new(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Self {
        let main = diagnostic.labels.first().map(|label| label.span.source);
        let (here, there): (Vec<_>, Vec<_>) = diagnostic
            .labels
            .iter()
            .partition(|label| Some(label.span.source) == main);
        Self {
            diagnostic,
            source: main.and_then(|id| named(sources, id)),
            labels: here.into_iter().map(labelled).collect(),
            elsewhere: there
                .into_iter()
                .map(|label| Elsewhere {
                    text: &label.text,
                    source: named(sources, label.span.source),
                    label: labelled(label),
                })
                .collect(),
        }
    }
}

fn named(sources: &Sources, id: schema::SourceId) -> Option<NamedSource<String>> {
    let source = sources.get(id)?;
    Some(NamedSource::new(&source.name, source.text.clone()))
}

fn labelled(label: &Label) -> LabeledSpan {
    let Span { start, end, .. } = label.span;
    let text = (!label.text.is_empty()).then(|| label.text.clone());
    LabeledSpan::new(text, start as usize, (end - start) as usize)
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        let help = self.diagnostic.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'b>(&'b self) -> Option<Box<dyn Iterator<Item = &'b dyn miette::Diagnostic> + 'b>> {
        let elsewhere = self.elsewhere.iter();
        Some(Box::new(
            elsewhere.map(|one| one as &dyn miette::Diagnostic),
        ))
    }
}

/// A label in another source than the diagnostic's main one.
struct Elsewhere<'a> {
    text: &'a str,
    source: Option<NamedSource<String>>,
    label: LabeledSpan,
}

impl fmt::Display for Elsewhere<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl fmt::Debug for Elsewhere<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Elsewhere<'_> {}

impl miette::Diagnostic for Elsewhere<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(miette::Severity::Advice)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(self.label.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const PLAIN: Style = Style {
        colours: false,
        width: 80,
    };

    #[test]
    fn shows_the_place_the_reason_and_the_help() {
        let mut sources = Sources::default();
        let id = sources.add("graph.kdl", "graph g {\n    bach max-size=1\n}\n");
        let other = sources.add("pools.kdl", "batch max-size=2\n");
        let problem = Diagnostic::error(
            "unknown-option",
            "unknown option \"bach\"",
            Span::new(id, 14, 18),
        )
        .label("here")
        .also(Span::new(other, 0, 5), "as it is written here")
        .help("did you mean \"batch\"?");
        expect![[r#"
            unknown-option

              × unknown option "bach"
               ╭─[graph.kdl:2:5]
             1 │ graph g {
             2 │     bach max-size=1
               ·     ──┬─
               ·       ╰── here
             3 │ }
               ╰────
              help: did you mean "batch"?

            Advice: 
              ☞ as it is written here
               ╭─[pools.kdl:1:1]
             1 │ batch max-size=2
               · ──┬──
               ·   ╰── as it is written here
               ╰────

        "#]]
        .assert_eq(&human(std::slice::from_ref(&problem), &sources, PLAIN));
        assert_eq!(json(&[problem], &sources)[0]["labels"][0]["line"], 2);
    }

    #[test]
    fn counts() {
        let span = Span::default();
        let error = Diagnostic::error("a", "a", span);
        let warning = Diagnostic::warning("b", "b", span);
        assert_eq!(summary(&[]), "no problems");
        assert_eq!(
            summary(&[error.clone(), error, warning]),
            "2 errors, 1 warning"
        );
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(line_and_column("a\nüx", 4), (2, 2));
        assert_eq!(line_and_column("", 9), (1, 1));
    }
}
