//! What a Python file defines, as far as its text says. Nothing of it is run, so what a file makes at
//! run time is not seen; where a file leaves that open, so does the answer.

use regex::Regex;
use std::{collections::BTreeSet, path::Path, sync::OnceLock};

/// What a Python file defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entries {
    /// These names, of functions, classes and whatever else is bound at its top.
    Known(BTreeSet<String>),
    /// These and perhaps others: it imports all of another module.
    Open(BTreeSet<String>),
}

impl Entries {
    /// Whether the file certainly does not define `name`.
    pub fn lacks(&self, name: &str) -> bool {
        matches!(self, Entries::Known(names) if !names.contains(name))
    }

    /// The names that are certain.
    pub fn names(&self) -> &BTreeSet<String> {
        let (Entries::Known(names) | Entries::Open(names)) = self;
        names
    }
}

/// Reads what a file defines.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn entries(file: &Path) -> std::io::Result<Entries> {
    Ok(of_text(&std::fs::read_to_string(file)?))
}

/// Names are looked for at any depth of `if` and `try`, which is to say in every line: a name too many
/// does no harm, since the worker looks again.
fn of_text(text: &str) -> Entries {
    static FORMS: OnceLock<[Regex; 3]> = OnceLock::new();
    let forms = FORMS.get_or_init(|| {
        [
            r"(?m)^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)",
            r"(?m)^[ \t]*(\w+)[ \t]*(?::[^=\n]+)?=[^=]",
            r"(?m)\b(?:import|as|,)[ \t(]*(\w+)",
        ]
        .map(|form| Regex::new(form).expect("the form is well written"))
    });
    let found = forms.iter().flat_map(|form| form.captures_iter(text));
    let mut names: BTreeSet<String> = found.map(|found| found[1].to_owned()).collect();
    // The names of an import that goes over several lines.
    for part in text.split("import (").skip(1) {
        let part = part.split(')').next().unwrap_or_default();
        let words = part.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        names.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    let open = ["import *", "globals()", "setattr(", "exec("];
    match open.iter().any(|form| text.contains(form)) {
        true => Entries::Open(names),
        false => Entries::Known(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_bind_a_name_is_seen() {
        let text = "
from a import b as renamed
from c import (
    one,
    two,
)
async def later(x): ...
@serve.deployment
class Rewriter:
    def __call__(self): ...
app = Rewriter.bind()
typed: int = 3
if True:
    def hidden(): ...
";
        let entries = of_text(text);
        for name in ["renamed", "one", "two", "later", "Rewriter", "app", "typed", "hidden"] {
            assert!(!entries.lacks(name), "{name}");
        }
        for name in ["Rewrite", "x == 3", "rewriter", "d"] {
            assert!(entries.lacks(name), "{name}");
        }
        assert!(!of_text("from a import *").lacks("anything"));
    }
}
