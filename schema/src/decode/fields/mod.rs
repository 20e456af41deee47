//! The one place where a block's options are stated: name, type, default and meaning.
//!
//! A block is a function `fn fields(f: &mut Fields) -> Self` that asks for its options one after
//! the other. The same function serves three purposes, by where the [`Fields`] comes from: it
//! decodes a block of a file, it yields the defaults, and it describes the options for the
//! reference. Because every question names its option, what a file has beyond them is unknown, and
//! the names that were asked for are those that a misspelt one is compared with.

mod rules;

use super::{
    Described, Options, Shape,
    option::{KeptBlock, Opt, Place},
    scalar::{Scalar, name},
};
use crate::{
    Diagnostic, Name, SourceId, Span, Spanned, codes,
    problems::Problems,
    syntax::{Entry, Node, shorten},
};
use std::{borrow::Cow, collections::HashMap};

/// What reading a value needs besides the value.
pub(crate) struct Reader<'a> {
    /// The source that is read.
    pub(crate) source: SourceId,
    /// Where problems go.
    pub(crate) problems: &'a mut Problems,
    /// Environment variables by name.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    /// Adds a problem.
    pub(crate) fn report(&mut self, make: impl FnOnce() -> Diagnostic) {
        self.problems.report(make);
    }
}

/// What a [`Fields`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Decode,
    Defaults,
    Describe,
}

/// One written thing of a block, and whether it has been asked for.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    what: What<'a>,
    asked: bool,
}

#[derive(Clone, Copy)]
pub(super) enum What<'a> {
    Property(&'a Entry),
    Child(&'a Node),
}

impl<'a> What<'a> {
    fn name(&self) -> Option<&'a Spanned<String>> {
        match self {
            What::Property(entry) => entry.key.as_ref(),
            What::Child(node) => Some(&node.name),
        }
    }
}

/// A block whose options are asked for.
pub(crate) struct Fields<'a> {
    mode: Mode,
    pub(super) reader: Reader<'a>,
    /// What the block is called in messages: `batch`, or `embed question`.
    title: Cow<'a, str>,
    /// The block's first word.
    word: Cow<'a, str>,
    /// The block's first word.
    head: Span,
    arguments: Vec<&'a Entry>,
    next_argument: usize,
    written: Vec<Written<'a>>,
    /// Positions in `written` of the things with a name, in order.
    by_name: HashMap<&'a str, Vec<usize>>,
    names: Vec<&'static str>,
    described: Vec<Described>,
    /// Whether children with any name belong to the block.
    open: bool,
    /// Meaning of what is asked for next.
    doc: &'static str,
    /// What the block is for.
    about: &'static str,
    /// The whole block.
    whole: Span,
}

impl<'a> Fields<'a> {
    fn new(mode: Mode, reader: Reader<'a>, title: Cow<'a, str>, head: Span) -> Self {
        Self {
            mode,
            reader,
            word: title.clone(),
            title,
            head,
            arguments: Vec::new(),
            next_argument: 0,
            written: Vec::new(),
            by_name: HashMap::new(),
            names: Vec::new(),
            described: Vec::new(),
            open: false,
            doc: "",
            about: "",
            whole: head,
        }
    }

    fn add(&mut self, what: What<'a>) {
        if let Some(name) = what.name() {
            let positions = self.by_name.entry(&name.value).or_default();
            positions.push(self.written.len());
        }
        self.written.push(Written { what, asked: false });
    }

    /// Decodes the nodes of a whole source.
    pub(crate) fn decode_document<T>(
        nodes: &[Node],
        reader: Reader<'_>,
        read: impl FnOnce(&mut Fields) -> T,
    ) -> T {
        let place = Span::new(reader.source, 0, 0);
        let mut fields = Fields::new(Mode::Decode, reader, "the file".into(), place);
        for node in nodes {
            fields.add(What::Child(node));
        }
        let value = read(&mut fields);
        fields.finish();
        value
    }

    /// What `read` yields for an empty block, which is all defaults.
    pub(crate) fn defaults<T>(read: impl FnOnce(&mut Fields) -> T) -> T {
        Self::apart(Mode::Defaults, read).0
    }

    /// The options that `read` asks for.
    pub(crate) fn describe<T>(read: impl FnOnce(&mut Fields) -> T) -> Options {
        Self::apart(Mode::Describe, read).1
    }

    fn apart<T>(mode: Mode, read: impl FnOnce(&mut Fields) -> T) -> (T, Options) {
        let mut problems = Problems::default();
        let reader = Reader {
            source: SourceId::default(),
            problems: &mut problems,
            environment: &|_| None,
        };
        let mut fields = Fields::new(mode, reader, Cow::default(), Span::default());
        let value = read(&mut fields);
        let options = Options {
            about: fields.about,
            list: fields.described,
        };
        (value, options)
    }

    fn inner<T>(&mut self, what: What<'a>, read: impl FnOnce(&mut Fields) -> T) -> T {
        let reader = Reader {
            source: self.reader.source,
            problems: &mut *self.reader.problems,
            environment: self.reader.environment,
        };
        let name = what.name();
        let title = name.map_or("", |name| &name.value);
        let head = name.map_or(self.head, |name| name.span);
        let mut fields = Fields::new(Mode::Decode, reader, title.into(), head);
        match what {
            What::Property(entry) => fields.arguments.push(entry),
            What::Child(node) => {
                fields.whole = node.span;
                fields.refuse_annotation(node);
                for entry in &node.entries {
                    match &entry.key {
                        Some(_) => fields.add(What::Property(entry)),
                        None => fields.arguments.push(entry),
                    }
                }
                for child in node.children.iter().flatten() {
                    fields.add(What::Child(child));
                }
            }
        }
        let value = read(&mut fields);
        fields.finish();
        value
    }

    fn refuse_annotation(&mut self, node: &Node) {
        if let Some(annotation) = &node.annotation {
            self.reader.report(|| {
                let message = format!("a name has no annotation: `({})`", shorten(annotation));
                Diagnostic::error(codes::UNKNOWN_ANNOTATION, message, annotation.span)
                    .help("only a value can be read from the environment: `(env)\"NAME\"`")
            });
        }
    }

    /// Where problems of the block as a whole are shown: its first word.
    pub(crate) fn head(&self) -> Span {
        self.head
    }

    /// What the block is called in messages.
    pub(crate) fn set_title(&mut self, title: String) {
        self.title = title.into();
    }

    /// Adds a problem of the block, if it is one of a file.
    pub(crate) fn report(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.mode == Mode::Decode {
            self.reader.report(make);
        }
    }

    /// Says what the block is for.
    pub(crate) fn about(&mut self, about: &'static str) {
        self.about = about.trim();
    }

    /// Says what that is which is asked for next.
    pub(crate) fn doc(&mut self, doc: &'static str) -> &mut Self {
        self.doc = doc.trim();
        self
    }

    pub(super) fn take_doc(&mut self) -> &'static str {
        std::mem::take(&mut self.doc)
    }

    /// The whole block.
    pub(crate) fn whole(&self) -> Span {
        self.whole
    }

    /// The block's first word as a name of the author's choice.
    pub(crate) fn own_name(&mut self) -> Spanned<Name> {
        let head = self.head;
        let name = match self.mode {
            Mode::Decode => name(&self.word, head, &mut self.reader),
            _ => None,
        };
        Spanned::new(name.unwrap_or_else(|| Name::new("")), head)
    }

    /// What `read` makes of this same block.
    pub(crate) fn then<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        read(self)
    }

    /// A value on the block's own line; `name` is what the reference calls it.
    pub(crate) fn argument<B: Scalar>(&mut self, name: &'static str) -> Opt<'_, 'a, B> {
        Opt::new(self, Place::Argument, name)
    }

    /// An option: a property of the block's line or a child with one value.
    pub(crate) fn option<B: Scalar>(&mut self, name: &'static str) -> Opt<'_, 'a, B> {
        Opt::new(self, Place::Option, name)
    }

    /// A block within this one, written at most once.
    pub(crate) fn block<T, K: KeptBlock<T>>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields) -> T,
    ) -> Option<K> {
        let doc = self.take_doc();
        if self.mode == Mode::Describe {
            let fields = Fields::describe(read);
            self.described.push(Described {
                name,
                doc,
                shape: Shape::Block {
                    fields,
                    repeated: false,
                },
            });
            return None;
        }
        let found = self.take_once(name)?;
        let span = self.place_of(found);
        Some(K::keep_block(self.inner(found, read), span))
    }

    /// Blocks within this one, written any number of times.
    pub(crate) fn blocks<T, K: KeptBlock<T>>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Fields) -> T,
    ) -> Vec<K> {
        let doc = self.take_doc();
        self.blocks_of(&[(name, doc)], |_, fields| read(fields))
    }

    /// Blocks with one of several names, written any number of times, in the order of the file.
    pub(crate) fn blocks_of<T, K: KeptBlock<T>>(
        &mut self,
        names: &[(&'static str, &'static str)],
        mut read: impl FnMut(&'static str, &mut Fields) -> T,
    ) -> Vec<K> {
        let mut found = Vec::new();
        for (name, doc) in names {
            if self.mode == Mode::Describe {
                self.described.push(Described {
                    name,
                    doc,
                    shape: Shape::Block {
                        fields: Fields::describe(|fields| read(name, fields)),
                        repeated: true,
                    },
                });
            }
            let positions = self.take(name);
            found.extend(positions.into_iter().map(|position| (position, *name)));
        }
        found.sort_unstable_by_key(|(position, _)| *position);
        let mut blocks = Vec::new();
        for (position, name) in found {
            let what = self.written[position].what;
            let span = self.place_of(what);
            let value = self.inner(what, |fields| read(name, fields));
            blocks.push(K::keep_block(value, span));
        }
        blocks
    }

    /// Children with any name, and what `read` makes of each.
    pub(crate) fn named<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Fields) -> T,
    ) -> Vec<T> {
        let doc = self.take_doc();
        self.open = true;
        if self.mode == Mode::Describe {
            let fields = Fields::describe(&mut read);
            self.described.push(Described {
                name,
                doc,
                shape: Shape::Named { fields },
            });
            return Vec::new();
        }
        let mut values = Vec::new();
        for position in 0..self.written.len() {
            if let (What::Child(node), false) =
                (self.written[position].what, self.written[position].asked)
            {
                self.written[position].asked = true;
                values.push(self.inner(What::Child(node), &mut read));
            }
        }
        values
    }

    /// Whether something with this name is written in the block.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The name by which others refer to the block: its first argument.
    pub(crate) fn id(&mut self) -> Spanned<Name> {
        let id: Spanned<Name> = self.argument("name").required();
        if !id.as_str().is_empty() {
            self.set_title(format!("{} {}", self.title, shorten(id.as_str())));
        }
        id
    }

    fn place_of(&self, what: What<'_>) -> Span {
        match what {
            What::Property(entry) => entry.span,
            What::Child(node) => node.span,
        }
    }

    /// Everything with this name.
    fn take(&mut self, name: &'static str) -> Vec<usize> {
        self.names.push(name);
        let positions = self.by_name.get(name).cloned().unwrap_or_default();
        for position in &positions {
            self.written[*position].asked = true;
        }
        positions
    }

    /// The one thing with this name; further ones are reported.
    pub(super) fn take_once(&mut self, name: &'static str) -> Option<What<'a>> {
        let positions = self.take(name);
        let mut found = positions
            .into_iter()
            .map(|position| self.written[position].what);
        let first = found.next()?;
        for again in found.collect::<Vec<_>>() {
            let (Some(first), Some(again)) = (first.name(), again.name()) else {
                continue;
            };
            let title = &self.title;
            self.reader.report(|| {
                let message = format!("`{name}` is written twice in {title}");
                Diagnostic::error(codes::REPEATED_OPTION, message, again.span)
                    .label("again here")
                    .also(first.span, "first here")
                    .help("keep one of them")
            });
        }
        Some(first)
    }

    /// Everything with this name, where repeating it is meant.
    pub(super) fn take_all(&mut self, name: &'static str) -> Vec<What<'a>> {
        let positions = self.take(name);
        let found = positions
            .into_iter()
            .map(|position| self.written[position].what);
        found.collect()
    }

    /// The next value on the block's line.
    pub(super) fn take_argument(&mut self) -> Option<&'a Entry> {
        let argument = self.arguments.get(self.next_argument).copied();
        self.next_argument += usize::from(argument.is_some());
        argument
    }

    /// Takes down an option for the reference.
    pub(super) fn describe_option(&mut self, make: impl FnOnce() -> Described) {
        if self.mode == Mode::Describe {
            self.described.push(make());
        }
    }
}
