//! `switch`: the name of a branch.

use super::Port;
use crate::{
    Argument, Diagnostic, Spanned, Type, codes,
    decode::{Fields, block},
    syntax::shorten,
};

block! {
    /// Yields the name of the first case that holds, for other nodes' `when`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Switch {
        /// The value that is compared with the names of the cases without a condition of their own.
        pub on: Option<Argument> = option("on").optional(),
        /// A case; they are tried in order.
        pub cases: Vec<Case> = blocks("case", Case::fields),
        /// The case where none holds; without one, that is an error of the request.
        pub default: Option<Spanned<String>> = option("default").optional(),
    }
}

block! {
    /// One case of a `switch`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Case {
        /// Its name, which is what the switch yields.
        pub name: Spanned<String> = argument("name").required(),
        /// Its condition; without one, the switch's `on` must equal the name.
        pub when: Option<Argument> = option("when").optional(),
    }
}

impl Switch {
    pub(super) fn read(f: &mut Fields) -> Self {
        let switch = Self::fields(f);
        f.exactly_one(&[&["case"]]);
        let bare = switch.cases.iter().find(|case| case.when.is_none());
        if let (Some(case), false) = (bare, f.has("on")) {
            f.report(|| {
                let message = format!(
                    "nothing says when the case \"{}\" holds",
                    shorten(&case.name)
                );
                Diagnostic::error(codes::MISSING_OPTION, message, case.name.span)
                    .help("add `when` to the case, or `on` to the switch")
            });
        }
        switch
    }

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
