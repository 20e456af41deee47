//! `input`: the fields of a request and the rules they are held to.

use crate::{
    Diagnostic, Literal, Name, Spanned, Type, codes,
    decode::{Choice, Fields, block},
};

block! {
    /// A field of a request and the rules it is held to.
    #[derive(Debug, Clone, PartialEq)]
    pub struct InputField {
        /// Its name in the request, as written; `-` and `_` are the same, and requests use `_`.
        pub id: Spanned<Name> = own_name(),
        /// Its type.
        pub value_type: Spanned<Type> = then(TypeWord::read),
        /// Its value in a request that does not have it; without one, the field is required.
        pub default: Option<Spanned<Literal>> = option("default").optional(),
        /// A request need not have it, and it is none then.
        pub optional: bool = option("optional").or(false),
        /// Smallest number allowed.
        pub min: Option<f64> = option("min").optional(),
        /// Largest number allowed.
        pub max: Option<f64> = option("max").optional(),
        /// Fewest characters of a text, or elements of a list.
        pub min_length: Option<u32> = option("min-length").optional(),
        /// Most characters of a text, or elements of a list.
        pub max_length: Option<u32> = option("max-length").optional(),
        /// The only texts allowed.
        pub one_of: Vec<String> = option("one-of").many(),
        /// What it is, for the OpenAPI document.
        pub description: Option<String> = option("description").optional(),
    }
}

impl InputField {
    pub(super) fn all(f: &mut Fields) -> Vec<Self> {
        f.about("The fields of a request, each a name with the rules it is held to.");
        f.doc("A field.").named("NAME", InputField::read)
    }

    fn read(f: &mut Fields) -> Self {
        let field = Self::fields(f);
        field.check_rules(f);
        field.check_default(f);
        field
    }

    /// Rules that mean nothing for the field's type, or leave no value.
    fn check_rules(&self, f: &mut Fields) {
        let value_type = &self.value_type.value;
        let number = matches!(value_type, Type::Integer | Type::Number);
        let text = *value_type == Type::Text;
        let sized = text || matches!(value_type, Type::List(_));
        let rules: [(&[&'static str], bool, &str); 3] = [
            (&["min", "max"], number, "a number"),
            (&["min-length", "max-length"], sized, "a string or a list"),
            (&["one-of"], text, "a string"),
        ];
        for (names, fits, wanted) in rules {
            let written = names.iter().find_map(|name| f.first_place(name));
            if let (Some((name, place)), false) = (written, fits) {
                f.report(|| {
                    let message = format!("`{name}` is a rule for {wanted}");
                    Diagnostic::error(codes::CONFLICTING_OPTIONS, message, place)
                        .help(format!("remove it, or make the field {wanted}"))
                });
            }
        }
        let inverted = self.min.zip(self.max).is_some_and(|(min, max)| min > max);
        let lengths = self.min_length.zip(self.max_length);
        if inverted || lengths.is_some_and(|(min, max)| min > max) {
            let name = self.id.clone();
            f.report(|| {
                let message = format!("no value of \"{}\" fits both limits", name.value);
                Diagnostic::error(codes::OUT_OF_RANGE, message, name.span)
                    .help("make the least smaller than the most")
            });
        }
        f.at_most_one(&[&["default"], &["optional"]]);
    }

    /// A default that a request could not send.
    fn check_default(&self, f: &mut Fields) {
        let Some(default) = &self.default else { return };
        let fits = match (&default.value, &self.value_type.value) {
            (Literal::Text(text), Type::Text) => {
                let length = text.chars().count() as u32;
                (self.one_of.is_empty() || self.one_of.contains(text))
                    && self.min_length.is_none_or(|least| length >= least)
                    && self.max_length.is_none_or(|most| length <= most)
            }
            (Literal::Integer(value), Type::Integer | Type::Number) => self.allows(*value as f64),
            (Literal::Number(value), Type::Number) => self.allows(*value),
            (Literal::Boolean(_), Type::Boolean) | (_, Type::Any) => true,
            _ => false,
        };
        if !fits {
            f.report(|| {
                let message = "the default breaks the rules of its own field";
                Diagnostic::error(codes::WRONG_TYPE, message, default.span)
                    .also(
                        self.id.span,
                        format!("the type of this field is {}", self.value_type.value),
                    )
                    .help("write a value that a request could send")
            });
        }
    }

    fn allows(&self, value: f64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

/// A type as files write it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TypeWord {
    String,
    Integer,
    Number,
    Boolean,
    List,
    Map,
    Vector,
    Any,
}

impl Choice for TypeWord {
    const CHOICES: &'static [(&'static str, Self, &'static str)] = &[
        ("string", TypeWord::String, "a text"),
        ("integer", TypeWord::Integer, "a whole number"),
        ("number", TypeWord::Number, "a number"),
        ("boolean", TypeWord::Boolean, "true or false"),
        (
            "list",
            TypeWord::List,
            "a sequence, of the type that `of` says",
        ),
        ("map", TypeWord::Map, "an object"),
        (
            "vector",
            TypeWord::Vector,
            "a list of numbers to search with",
        ),
        ("any", TypeWord::Any, "anything"),
    ];
}

impl TypeWord {
    /// Reads the options `type` and `of`.
    fn read(f: &mut Fields) -> Spanned<Type> {
        let word = f.doc("Its type.").option("type").or(TypeWord::String);
        Self::with_element(word, f)
    }

    /// Reads a type on the block's line, and the option `of`.
    pub(crate) fn read_argument(f: &mut Fields) -> Spanned<Type> {
        let word = f.doc("The type.").argument("type").required();
        Self::with_element(word, f)
    }

    fn with_element(word: Spanned<TypeWord>, f: &mut Fields) -> Spanned<Type> {
        let element: Option<Spanned<TypeWord>> = f
            .doc("Type of a list's elements; `any` if absent.")
            .option("of")
            .optional();
        if let (Some(element), true) = (element, word.value != TypeWord::List) {
            f.report(|| {
                let message = "`of` is the type of a list's elements";
                Diagnostic::error(codes::CONFLICTING_OPTIONS, message, element.span)
                    .help("make the type a list, or remove `of`")
            });
        }
        let element = element.map_or(Type::Any, |element| element.value_type(Type::Any));
        Spanned::new(word.value_type(element), word.span)
    }

    fn value_type(self, element: Type) -> Type {
        match self {
            TypeWord::String => Type::Text,
            TypeWord::Integer => Type::Integer,
            TypeWord::Number => Type::Number,
            TypeWord::Boolean => Type::Boolean,
            TypeWord::List => Type::list(element),
            TypeWord::Map => Type::Map,
            TypeWord::Vector => Type::Vector(None),
            TypeWord::Any => Type::Any,
        }
    }
}
