//! One option: where it may stand, what it may be, and what it is if it is absent.

use super::{
    Described, Need, Shape,
    fields::{Fields, What},
    scalar::{Scalar, unknown_value},
};
use crate::{
    Argument, Diagnostic, Span, Spanned, codes,
    syntax::{Entry, Node},
};

/// Where an option stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the block's line, without a name.
    Argument,
    /// With its name: a property of the block's line, or a child.
    Option,
}

/// A value as a block keeps it: bare, or with its place.
pub(crate) trait Kept {
    /// The value without its place.
    type Bare: Scalar;

    /// Keeps `value`, which is written at `span`.
    fn keep(value: Self::Bare, span: Span) -> Self;
}

impl<B: Scalar> Kept for B {
    type Bare = B;

    fn keep(value: B, _: Span) -> Self {
        value
    }
}

impl<B: Scalar> Kept for Spanned<B> {
    type Bare = B;

    fn keep(value: B, span: Span) -> Self {
        Spanned::new(value, span)
    }
}

/// A block as the block around it keeps it: bare, or with its place.
pub(crate) trait KeptBlock<T> {
    /// Keeps `value`, which is written at `span`.
    fn keep_block(value: T, span: Span) -> Self;
}

impl<T> KeptBlock<T> for T {
    fn keep_block(value: T, _: Span) -> Self {
        value
    }
}

impl<T> KeptBlock<T> for Spanned<T> {
    fn keep_block(value: T, span: Span) -> Self {
        Spanned::new(value, span)
    }
}

/// An option that is being asked for. What is done with it last says what its absence means.
pub(crate) struct Opt<'f, 'a, B> {
    fields: &'f mut Fields<'a>,
    place: Place,
    name: &'static str,
    doc: &'static str,
    least: Option<B>,
    most: Option<B>,
    order: fn(&B, &B) -> bool,
    texts: &'static [&'static str],
    limits: Option<(f64, f64)>,
}

impl<'f, 'a, B: Scalar> Opt<'f, 'a, B> {
    pub(super) fn new(fields: &'f mut Fields<'a>, place: Place, name: &'static str) -> Self {
        Self {
            doc: fields.take_doc(),
            fields,
            place,
            name,
            least: None,
            most: None,
            order: |_, _| true,
            texts: &[],
            limits: None,
        }
    }

    /// Nothing smaller is taken.
    pub(crate) fn at_least(mut self, least: B) -> Self
    where
        B: PartialOrd,
    {
        self.least = Some(least);
        self.order = |a, b| a <= b;
        self
    }

    /// Nothing larger is taken.
    pub(crate) fn at_most(mut self, most: B) -> Self
    where
        B: PartialOrd,
    {
        self.most = Some(most);
        self.order = |a, b| a <= b;
        self
    }

    /// Its value, or `default` where it is absent.
    pub(crate) fn or<K: Kept<Bare = B>>(mut self, default: B) -> K {
        self.describe(|| Need::Default(default.show()), false);
        let head = self.fields.head();
        match self.single() {
            Some((value, span)) => K::keep(value, span),
            None => K::keep(default, head),
        }
    }

    /// Its value, or nothing where it is absent.
    pub(crate) fn optional<K: Kept<Bare = B>>(mut self) -> Option<K> {
        self.describe(|| Need::Optional, false);
        self.single().map(|(value, span)| K::keep(value, span))
    }

    /// Its value; a problem is reported where it is absent, and a stand-in returned.
    pub(crate) fn required<K: Kept<Bare = B>>(mut self) -> K {
        self.describe(|| Need::Required, false);
        let head = self.fields.head();
        match self.find() {
            Found::Value(value, span) => K::keep(value, span),
            Found::Unreadable => K::keep(B::stand_in(head), head),
            Found::Nothing => {
                self.fields.missing(self.name, self.doc, self.place);
                K::keep(B::stand_in(head), head)
            }
        }
    }

    /// All its values: it may be repeated and have several values each time.
    pub(crate) fn many<K: Kept<Bare = B>>(mut self) -> Vec<K> {
        self.describe(|| Need::Optional, true);
        self.all()
    }

    fn all<K: Kept<Bare = B>>(&mut self) -> Vec<K> {
        let mut entries = Vec::new();
        match self.place {
            Place::Argument => entries.extend(std::iter::from_fn(|| self.fields.take_argument())),
            Place::Option => {
                for found in self.fields.take_all(self.name) {
                    match found {
                        What::Property(entry) => entries.push(entry),
                        What::Child(node) => entries.extend(self.values(node)),
                    }
                }
            }
        }
        let read = entries.into_iter().filter_map(|entry| self.read(entry));
        read.map(|(value, span)| K::keep(value, span)).collect()
    }

    /// All its values, or `defaults` where there is none.
    pub(crate) fn many_or<K: Kept<Bare = B>>(mut self, defaults: Vec<B>) -> Vec<K> {
        let shown: Vec<String> = defaults.iter().map(Scalar::show).collect();
        self.describe(|| Need::Default(shown.join(", ")), true);
        let head = self.fields.head();
        let mut values = self.all();
        if values.is_empty() {
            values.extend(defaults.into_iter().map(|value| K::keep(value, head)));
        }
        values
    }

    /// All its values, of which there must be one.
    pub(crate) fn many_required<K: Kept<Bare = B>>(mut self) -> Vec<K> {
        self.describe(|| Need::Required, true);
        let values = self.all();
        if values.is_empty() && !self.fields.has(self.name) {
            self.fields.missing(self.name, self.doc, self.place);
        }
        values
    }

    fn describe(&mut self, need: impl FnOnce() -> Need, repeated: bool) {
        let Self {
            fields,
            place,
            name,
            doc,
            least,
            most,
            texts,
            limits,
            ..
        } = self;
        fields.describe_option(|| {
            let limits = match (least.as_ref(), most.as_ref()) {
                (Some(least), Some(most)) => format!(", {} to {}", least.show(), most.show()),
                (Some(least), None) => format!(", at least {}", least.show()),
                (None, Some(most)) => format!(", at most {}", most.show()),
                (None, None) => match limits {
                    Some((least, most)) if most.is_finite() => format!(", {least} to {most}"),
                    Some((least, _)) => format!(", at least {least}"),
                    None => String::new(),
                },
            };
            let texts: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
            let word = if texts.is_empty() {
                B::word()
            } else {
                texts.join(", ")
            };
            Described {
                name,
                doc,
                shape: Shape::Value {
                    place: *place,
                    word: word + &limits,
                    need: need(),
                    repeated,
                },
            }
        });
    }

    fn single(&mut self) -> Option<(B, Span)> {
        match self.find() {
            Found::Value(value, span) => Some((value, span)),
            Found::Unreadable | Found::Nothing => None,
        }
    }

    fn find(&mut self) -> Found<B> {
        let entry = match self.place {
            Place::Argument => self.fields.take_argument(),
            Place::Option => match self.fields.take_once(self.name) {
                None => None,
                Some(What::Property(entry)) => Some(entry),
                Some(What::Child(node)) => match self.values(node).as_slice() {
                    [] => return Found::Unreadable,
                    [entry, further @ ..] => {
                        if let Some(second) = further.first() {
                            self.one_value_only(second);
                        }
                        Some(*entry)
                    }
                },
            },
        };
        match entry {
            None => Found::Nothing,
            Some(entry) => match self.read(entry) {
                Some((value, span)) => Found::Value(value, span),
                None => Found::Unreadable,
            },
        }
    }

    /// The values of an option that is written as a child.
    fn values(&mut self, node: &'a Node) -> Vec<&'a Entry> {
        let name = self.name;
        let mut values = Vec::new();
        for entry in &node.entries {
            match &entry.key {
                None => values.push(entry),
                Some(key) => self.unexpected(key.span, "has no options of its own"),
            }
        }
        if let Some(child) = node.children.iter().flatten().next() {
            self.unexpected(child.span, "has no block of its own");
        }
        if values.is_empty() {
            self.fields.reader.report(|| {
                let message = format!("`{name}` has no value");
                Diagnostic::error(codes::MISSING_OPTION, message, node.name.span)
                    .help(format!("write {} after it", B::word()))
            });
        }
        values
    }

    fn one_value_only(&mut self, second: &Entry) {
        let name = self.name;
        self.fields.reader.report(|| {
            let message = format!("`{name}` takes one value");
            Diagnostic::error(codes::UNEXPECTED_VALUE, message, second.span)
                .label("a second one")
                .help("remove it")
        });
    }

    fn unexpected(&mut self, span: Span, what: &str) {
        let name = self.name;
        self.fields.reader.report(|| {
            Diagnostic::error(codes::UNEXPECTED_VALUE, format!("`{name}` {what}"), span)
                .help("remove it")
        });
    }

    fn read(&mut self, entry: &Entry) -> Option<(B, Span)> {
        let value = B::read(entry, &mut self.fields.reader)?;
        let (order, name, texts) = (self.order, self.name, self.texts);
        if let Some(text) = value
            .text()
            .filter(|text| !texts.is_empty() && !texts.contains(text))
        {
            unknown_value(&mut self.fields.reader, text, entry.span, texts);
            return None;
        }
        if let (Some((least, most)), Some(number)) = (self.limits, value.number())
            && !(least..=most).contains(&number)
        {
            let help = match most.is_finite() {
                true => format!("it is {least} to {most}"),
                false => format!("the least is {least}"),
            };
            self.out_of_range(&value, entry.span, name, help);
            return None;
        }
        if let Some(least) = self.least.as_ref().filter(|least| !order(least, &value)) {
            let help = format!("the least is {}", least.show());
            self.out_of_range(&value, entry.span, name, help);
            return None;
        }
        if let Some(most) = self.most.as_ref().filter(|most| !order(&value, most)) {
            let help = format!("the most is {}", most.show());
            self.out_of_range(&value, entry.span, name, help);
            return None;
        }
        Some((value, entry.span))
    }

    fn out_of_range(&mut self, value: &B, span: Span, name: &str, help: String) {
        self.fields.reader.problems.report(|| {
            let message = format!("{} is out of range for `{name}`", value.show());
            Diagnostic::error(codes::OUT_OF_RANGE, message, span).help(help)
        });
    }
}

impl Opt<'_, '_, Argument> {
    /// A constant number outside `least..=most` is not taken; `most` may be infinite.
    pub(crate) fn within(mut self, least: f64, most: f64) -> Self {
        self.limits = Some((least, most));
        self
    }
}

impl Opt<'_, '_, String> {
    /// Nothing but these texts is taken.
    pub(crate) fn one_of(mut self, texts: &'static [&'static str]) -> Self {
        self.texts = texts;
        self
    }
}

enum Found<B> {
    Value(B, Span),
    /// It is there, and what is wrong with it has been reported.
    Unreadable,
    Nothing,
}
