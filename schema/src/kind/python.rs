//! `python`: a call of a Python function.

use super::{Placement, Port};
use crate::{
    Argument, Spanned, Text, Type,
    decode::{Fields, block},
    document::TypeWord,
};

block! {
    /// Calls a function or an object of a Python file, in worker processes. With a `batch` block
    /// each argument is a list with the values of several items, and as many results come back.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Python {
        /// The file.
        pub file: Spanned<Text> = option("file").required(),
        /// What in it is called.
        pub entry: PythonEntry = then(PythonEntry::read),
        /// A `requirements.txt` for an environment of its own.
        pub requirements: Option<Spanned<Text>> = option("requirements").optional(),
        /// Environment variables that the worker sees.
        pub env: Vec<Spanned<String>> = option("env").many(),
        /// Keyword arguments of the call, each a name and a value.
        pub arguments: Vec<(Spanned<String>, Argument)> =
            block("arguments", keywords).unwrap_or_default(),
        /// Which worker takes a call that names a model by the argument `multiplexed-model-id`.
        pub placement: Placement = option("placement").or(Placement::Warm),
        /// What it yields; not known if absent.
        pub returns: Option<Spanned<Type>> = block("returns", TypeWord::read_argument),
    }
}

/// What of a Python file is called.
#[derive(Debug, Clone, PartialEq)]
pub enum PythonEntry {
    /// A function.
    Function(Spanned<String>),
    /// A class: made once for each worker, its `__call__` once for each item.
    Class(Spanned<String>),
}

impl PythonEntry {
    /// Its name in the file.
    pub fn name(&self) -> &Spanned<String> {
        let (PythonEntry::Function(name) | PythonEntry::Class(name)) = self;
        name
    }

    fn read(f: &mut Fields) -> Self {
        f.exactly_one(&[&["function"], &["class"]]);
        let nothing = Spanned::new(String::new(), f.head());
        let class = f
            .doc("A class: made once for each worker, its `__call__` once for each item.")
            .option("class")
            .optional();
        let function = f.doc("A function.").option("function").optional();
        match class {
            Some(class) => PythonEntry::Class(class),
            None => PythonEntry::Function(function.unwrap_or(nothing)),
        }
    }
}

fn keywords(f: &mut Fields) -> Vec<(Spanned<String>, Argument)> {
    f.about("Keyword arguments of the call.");
    f.doc("An argument.").named("NAME", |f| {
        let name = f.own_name();
        let name = Spanned::new(name.to_string(), name.span);
        (name, f.doc("Its value.").argument("value").required())
    })
}

impl Python {
    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        self.arguments
            .iter()
            .map(|(name, argument)| Port::new(&name.value, Type::Any, argument))
            .collect()
    }
}
