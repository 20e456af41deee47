//! One difference between two programs, in words.

use schema::{Argument, Spanned};
use std::{fmt, time::Duration};

/// One difference: what it is about, and how it was and is where that fits on a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The option or part.
    pub what: String,
    /// How it is different.
    pub how: How,
}

/// How something is different.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// It has another value.
    Values {
        /// The earlier value.
        before: String,
        /// The value from now on.
        after: String,
    },
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// It is different in a way that takes more than a line to show, or must not be shown.
    Changed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match &self.how {
            How::Values { before, after } => write!(f, "{what} {before} \u{2192} {after}"),
            How::Added => write!(f, "{what} added"),
            How::Removed => write!(f, "{what} removed"),
            How::Changed => write!(f, "{what} changed"),
        }
    }
}

impl Change {
    /// A difference that is not shown in full.
    pub(super) fn changed(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            how: How::Changed,
        }
    }
}

/// Differences as they are found.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<Change>);

impl Changes {
    /// Notes a difference whose two values are shown.
    pub(super) fn values<T: PartialEq + Show>(&mut self, what: &str, before: &T, after: &T) {
        if before != after {
            self.0.push(Change {
                what: what.to_owned(),
                how: How::Values {
                    before: before.show(),
                    after: after.show(),
                },
            });
        }
    }

    /// Notes that something is different.
    pub(super) fn whole<T: PartialEq>(&mut self, what: &str, before: &T, after: &T) {
        if before != after {
            self.0.push(Change::changed(what));
        }
    }

    /// Notes that something was added, removed or changed.
    pub(super) fn optional<T: PartialEq>(
        &mut self,
        what: &str,
        before: Option<&T>,
        after: Option<&T>,
    ) {
        let how = match (before, after) {
            (None, None) => return,
            (Some(before), Some(after)) if before == after => return,
            (Some(_), Some(_)) => How::Changed,
            (None, Some(_)) => How::Added,
            (Some(_), None) => How::Removed,
        };
        let what = what.to_owned();
        self.0.push(Change { what, how });
    }

    /// Notes a difference of two arguments: constants are shown, templates are too long.
    pub(super) fn argument(
        &mut self,
        what: &str,
        before: Option<&Argument>,
        after: Option<&Argument>,
    ) {
        match (before, after) {
            (Some(Argument::Literal(before)), Some(Argument::Literal(after))) => {
                self.values(what, &Constant(&before.value), &Constant(&after.value));
            }
            (before, after) => self.optional(what, before, after),
        }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.0.push(change);
    }

    pub(super) fn into_list(self) -> Vec<Change> {
        self.0
    }
}

/// A value that fits on a line.
pub(super) trait Show {
    fn show(&self) -> String;
}

macro_rules! show {
    ($($type:ty => |$value:ident| $text:expr),+ $(,)?) => {
        $(impl Show for $type {
            fn show(&self) -> String {
                let $value = self;
                $text
            }
        })+
    };
}

show! {
    u32 => |n| n.to_string(),
    u64 => |n| n.to_string(),
    f64 => |n| n.to_string(),
    String => |text| text.clone(),
    schema::Name => |name| name.to_string(),
    schema::Text => |text| text.to_string(),
    schema::ByteSize => |size| size.to_string(),
    Duration => |duration| format!("{duration:?}"),
    schema::WhenFull => |answer| format!("{answer:?}").to_lowercase(),
    schema::ScalePolicy => |policy| format!("{policy:?}").to_lowercase(),
}

impl<T: Show> Show for Spanned<T> {
    fn show(&self) -> String {
        self.value.show()
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map_or("default".to_owned(), Show::show)
    }
}

/// A constant of the file.
#[derive(PartialEq)]
struct Constant<'a>(&'a schema::Literal);

impl Show for Constant<'_> {
    fn show(&self) -> String {
        use schema::Literal::{Boolean, Integer, Null, Number, Text};
        match self.0 {
            Text(text) if text.chars().count() > 40 => {
                let start: String = text.chars().take(40).collect();
                format!("{:?}", start + "\u{2026}")
            }
            Text(text) => format!("{text:?}"),
            Integer(number) => number.to_string(),
            Number(number) => number.to_string(),
            Boolean(value) => value.to_string(),
            Null => "null".to_owned(),
        }
    }
}
