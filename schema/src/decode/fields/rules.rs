//! What is wrong with a block as a whole: options that are missing, exclude each other, mean nothing
//! where they stand, or are not known.

use super::{Fields, What};
use crate::{
    Diagnostic, Span, Spanned, codes,
    decode::{Place, nearest},
    syntax::{Value, shorten},
};

impl Fields<'_> {
    /// Reports an option that means nothing on a node of this kind, which has no pool.
    pub(crate) fn refuse(&mut self, name: &'static str, kind: &str) {
        for position in self.take(name) {
            let Some(written) = self.written[position].what.name() else {
                continue;
            };
            self.report(|| {
                let message = format!("`{name}` means nothing on a {kind} node, which has no pool");
                Diagnostic::error(codes::NO_POOL, message, written.span)
                    .help("it runs within the request itself; remove the option")
            });
        }
    }

    /// Reports unless exactly one of these groups of options is written.
    pub(crate) fn exactly_one(&mut self, groups: &[&[&'static str]]) {
        self.at_most_one(groups);
        let written = |group: &&[&'static str]| group.iter().any(|name| self.has(name));
        if groups.iter().any(written) {
            return;
        }
        let (title, head) = (self.title.clone(), self.head);
        let names: Vec<String> = groups
            .iter()
            .filter_map(|group| group.first())
            .map(|name| format!("`{name}`"))
            .collect();
        self.report(|| {
            let (message, help) = match names.as_slice() {
                [name] => (format!("{title} has no {name}"), format!("add {name}")),
                names => (
                    format!("{title} has none of {}", names.join(", ")),
                    "write one of them".to_owned(),
                ),
            };
            Diagnostic::error(codes::MISSING_OPTION, message, head).help(help)
        });
    }

    /// Reports if more than one of these groups of options is written.
    pub(crate) fn at_most_one(&mut self, groups: &[&[&'static str]]) {
        let mut written = groups.iter().filter_map(|group| {
            let places = group.iter().filter_map(|name| self.first_place(name));
            places.min_by_key(|(_, span)| span.start)
        });
        let (Some((first, first_place)), Some((second, second_place))) =
            (written.next(), written.next())
        else {
            return;
        };
        self.report(|| {
            let message = format!("`{first}` and `{second}` exclude each other");
            Diagnostic::error(codes::CONFLICTING_OPTIONS, message, second_place)
                .also(first_place, "the other one")
                .help("keep one of them")
        });
    }

    /// Where the first of these is written, if it is.
    pub(crate) fn first_place(&self, name: &'static str) -> Option<(&'static str, Span)> {
        let position = *self.by_name.get(name)?.first()?;
        let written = self.written[position].what.name()?;
        Some((name, written.span))
    }

    /// Reports that an option is not there.
    pub(in crate::decode) fn missing(
        &mut self,
        name: &'static str,
        doc: &'static str,
        place: Place,
    ) {
        let (title, head) = (self.title.clone(), self.head);
        let word = shorten(&self.word);
        self.report(|| {
            let doc = doc.split_whitespace().collect::<Vec<_>>().join(" ");
            let doc = doc.strip_suffix('.').unwrap_or(&doc);
            let help = match place {
                Place::Argument => format!("write `{word} {}`", name.to_uppercase()),
                Place::Option => format!("add `{name}`: {}", lower_case_start(doc)),
            };
            Diagnostic::error(
                codes::MISSING_OPTION,
                format!("{title} has no `{name}`"),
                head,
            )
            .help(help)
        });
    }

    /// Reports what nothing has asked for.
    pub(super) fn finish(mut self) {
        for written in std::mem::take(&mut self.written) {
            if !written.asked
                && let Some(name) = written.what.name()
            {
                self.unknown(written.what, name);
            }
        }
        for argument in self.arguments.iter().skip(self.next_argument) {
            let title = &self.title;
            self.reader.problems.report(|| {
                let message = format!("{title} does not take this value");
                let diagnostic = Diagnostic::error(codes::UNEXPECTED_VALUE, message, argument.span);
                match &argument.value {
                    Value::Text(text) if self.names.contains(&text.text.as_str()) => {
                        diagnostic.help(format!("write an option as `{}=value`", text.text))
                    }
                    _ if self.names.contains(&"type") => {
                        diagnostic.help("write a type as `type=string`, or remove it")
                    }
                    _ => diagnostic.help("remove it, or write it as `name=value`"),
                }
            });
        }
    }

    fn unknown(&mut self, what: What, name: &Spanned<String>) {
        let (title, names, open) = (&self.title, &self.names, self.open);
        let thing = match what {
            What::Child(node) if node.children.is_some() => "block",
            _ => "option",
        };
        self.reader.problems.report(|| {
            let message = format!("unknown {thing} \"{}\" for {title}", shorten(&name.value));
            let diagnostic = Diagnostic::error(codes::UNKNOWN_OPTION, message, name.span);
            match nearest(&name.value, names) {
                Some(near) => diagnostic.help(format!("did you mean \"{near}\"?")),
                None if names.is_empty() && !open => diagnostic.help("it has no options"),
                None if open && names.is_empty() => {
                    diagnostic.help("write it on a line of its own")
                }
                None => diagnostic.help(format!("it has: {}", names.join(", "))),
            }
        });
    }
}

/// A sentence as the end of another one: `The prompt.` is `the prompt.`, `LoRA` stays.
fn lower_case_start(text: &str) -> String {
    let mut characters = text.chars();
    match (characters.next(), characters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}
