//! What is wrong with a file, where, and what would help.

use crate::{Span, codes};
use std::collections::HashSet;

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be run.
    Error,
    /// The file can be run; something in it probably is not what its author meant.
    Warning,
}

/// A place and what to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What stands there, in a few words; may be empty.
    pub text: String,
}

/// One problem of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable identifier of the kind of problem, such as `unknown-option`; documented in
    /// `docs/diagnostics.md` and fit for scripts.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// The problem in one sentence: lower case, no full stop.
    pub message: String,
    /// Where it is: the first label is the main place, further ones explain it.
    pub labels: Vec<Label>,
    /// What the author can do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels: vec![Label {
                span,
                text: String::new(),
            }],
            help: None,
        }
    }

    /// A warning at `span`.
    pub fn warning(code: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message, span)
        }
    }

    /// Says something at the main place.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = text.into();
        }
        self
    }

    /// Points at a further place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// The main place.
    pub fn place(&self) -> Option<Span> {
        self.labels.first().map(|label| label.span)
    }

    /// The problems that reading a file found and those that checking it found, by place.
    ///
    /// Where something could not be read, a stand-in with the same place went into the check; what
    /// the check says of it, or of what lies where the syntax is broken, follows from the first problem and is left
    /// out.
    pub fn joined(read: Vec<Diagnostic>, checked: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let places: HashSet<_> = read.iter().map(Diagnostic::place).collect();
        let broken = read.iter().filter(|it| it.code == codes::SYNTAX_ERROR);
        let broken: Vec<Span> = broken.filter_map(Diagnostic::place).collect();
        let is_broken = |place: Span| broken.iter().any(|broken| broken.holds(place));
        let follows = |problem: &Diagnostic| {
            places.contains(&problem.place()) || problem.place().is_some_and(is_broken)
        };
        let further: Vec<_> = checked.into_iter().filter(|it| !follows(it)).collect();
        let mut all: Vec<Diagnostic> = read.into_iter().chain(further).collect();
        all.sort_by_key(|problem| problem.place().map(|span| (span.source, span.start)));
        all
    }

    /// Whether the file cannot be run because of this.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
