//! Which of several places takes a call that would rather find something in memory.

use crate::decode::Choice;

/// Which of several addresses, or workers, takes a call that names an adapter or a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Placement {
    /// The one where it is warm, unless that one has more than its share of the load.
    #[default]
    Warm,
    /// The one with less load, as every other call.
    Load,
}

impl Choice for Placement {
    const CHOICES: &'static [(&'static str, Self, &'static str)] = &[
        (
            "warm",
            Placement::Warm,
            "where it is warm, unless that one has more than its share of the load",
        ),
        ("load", Placement::Load, "where there is less load"),
    ];
}
