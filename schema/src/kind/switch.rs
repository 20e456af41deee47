//! `switch`: the name of a branch.

use super::Port;
use crate::{Argument, Spanned, Type};

/// Yields the name of the first case that holds, for other nodes' `when`.
#[derive(Debug, Clone, PartialEq)]
pub struct Switch {
    /// The value that is compared with the names of the cases without a condition of their own.
    pub on: Option<Argument>,
    /// The cases, tried in order.
    pub cases: Vec<Case>,
    /// The case where none holds; without one, that is an error of the request.
    pub default: Option<Spanned<String>>,
}

/// One case of a `switch`.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name, which is what the switch yields.
    pub name: Spanned<String>,
    /// Its condition; without one, the switch's `on` must equal the name.
    pub when: Option<Argument>,
}

impl Switch {
    /// Every text that the switch can yield.
    pub fn outcomes(&self) -> Vec<String> {
        let mut outcomes: Vec<String> = Vec::new();
        let names = self.cases.iter().map(|case| &case.name);
        for name in names.chain(&self.default) {
            if !outcomes.contains(&name.value) {
                outcomes.push(name.value.clone());
            }
        }
        outcomes
    }

    pub(super) fn ports(&self) -> Vec<Port<'_>> {
        let on = self.on.iter().map(|on| Port::new("on", Type::Any, on));
        let cases = self.cases.iter().filter_map(|case| {
            let when = case.when.as_ref()?;
            Some(Port::new(&case.name.value, Type::Any, when))
        });
        on.chain(cases).collect()
    }
}
