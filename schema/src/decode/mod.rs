//! Nodes of the syntax to declarations.
//!
//! Each block of the language is one function over [`Fields`], beside the type that it yields. What
//! a name refers to, and whether types fit, is not asked here.

mod block;
mod fields;
mod option;
mod scalar;

pub(crate) use block::block;
pub(crate) use fields::{Fields, Reader};
pub(crate) use option::Place;
pub(crate) use scalar::{Choice, Scalar};

/// What the reference says of a block's inside.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What the block is for.
    pub(crate) about: &'static str,
    /// Its options, in the order in which they are asked for.
    pub(crate) list: Vec<Described>,
}

/// What the reference says of an option or a block.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it means, in sentences.
    pub(crate) doc: &'static str,
    /// Its form.
    pub(crate) shape: Shape,
}

/// The form of an option or a block.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// A value.
    Value {
        /// Where it stands.
        place: Place,
        /// Its type and limits in words.
        word: String,
        /// What its absence means.
        need: Need,
        /// Whether it may be written more than once.
        repeated: bool,
    },
    /// A block with options of its own.
    Block {
        /// Its options.
        fields: Options,
        /// Whether it may be written more than once.
        repeated: bool,
    },
    /// Children with names of the author's choice.
    Named {
        /// The options of each.
        fields: Options,
    },
}

/// What the absence of an option means.
#[derive(Debug, Clone)]
pub(crate) enum Need {
    /// An error.
    Required,
    /// Something that the option's text says.
    Optional,
    /// This value.
    Default(String),
}

/// The name of `names` that `word` is most likely meant to be.
fn nearest(word: &str, names: &[&'static str]) -> Option<&'static str> {
    // Longer words are no slips of the pen, and comparing them costs the square of their length.
    const LONGEST: usize = 40;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase().replace('_', "-");
    let distance = |name: &str| strsim::damerau_levenshtein(&word, name);
    let nearest = names
        .iter()
        .map(|name| (distance(name), *name))
        .min_by_key(|(distance, _)| *distance);
    let first_part = |text: &str| text.split('-').next().map(str::len);
    let close = |(distance, name): &(usize, &str)| {
        // `max-delay` for `max-wait`: who got the first part right meant one of its family.
        let family = first_part(&word).is_some_and(|length| {
            first_part(name) == Some(length) && word[..length] == name[..length]
        });
        *distance <= 1 + name.len() / 4 + usize::from(family && word.len() > 3)
    };
    nearest.filter(close).map(|(_, name)| name)
}
