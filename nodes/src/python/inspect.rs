//! What a Python file defines, as far as its text says. Nothing of it is run, so what a file makes at
//! run time is not seen; where a file leaves that open, so does the answer.

use regex::Regex;
use std::{collections::BTreeSet, path::Path, sync::OnceLock};

/// The names that a file binds: of functions, classes, imports and values. None where it imports or
/// makes names that its text does not show.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn names(file: &Path) -> std::io::Result<Option<BTreeSet<String>>> {
    Ok(of_text(&std::fs::read_to_string(file)?))
}

/// Names are looked for at any depth of `if` and `try`, which is to say in every line: a name too many
/// does no harm, since the worker looks again.
fn of_text(text: &str) -> Option<BTreeSet<String>> {
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
    let is_open = open.iter().any(|form| text.contains(form));
    (!is_open).then_some(names)
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
        let names = of_text(text).unwrap();
        for name in [
            "renamed", "one", "two", "later", "Rewriter", "app", "typed", "hidden",
        ] {
            assert!(names.contains(name), "{name}");
        }
        for name in ["Rewrite", "x == 3", "rewriter", "d"] {
            assert!(!names.contains(name), "{name}");
        }
        assert_eq!(of_text("from a import *"), None);
    }
}
