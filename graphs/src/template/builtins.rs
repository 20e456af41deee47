//! The filters, tests and functions that templates have: those of minijinja, and `json`.
//!
//! The engine's environment is held to these lists. It differs from a plain minijinja environment
//! in two points: `json` is another name for `tojson`, and `default` (or `d`) stands in for a none
//! as it does for something undefined, because a request's optional field may be none.

/// The filters.
pub const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "json",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "urlencode",
    "zip",
];

/// The tests, as in `x is defined`.
pub const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "safe",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// The tests that have a sign for a name, for filters that take a test by its name.
pub const OPERATOR_TESTS: &[&str] = &["!=", "<", "<=", "==", ">", ">="];

/// The functions.
pub const FUNCTIONS: &[&str] = &["debug", "dict", "namespace", "range"];

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::{Environment, context};

    /// Our additions.
    const OURS: [&str; 1] = ["json"];

    #[test]
    fn the_lists_are_those_of_minijinja() {
        let environment = Environment::new();
        let holds = |test: &str, name: &str| {
            let source = format!("name is {test}");
            let expression = environment.compile_expression(&source).unwrap();
            expression.eval(context! { name }).unwrap().is_true()
        };
        for filter in FILTERS.iter().filter(|name| !OURS.contains(name)) {
            assert!(holds("filter", filter), "{filter}");
        }
        for test in TESTS.iter().chain(OPERATOR_TESTS) {
            assert!(holds("test", test), "{test}");
        }
        let functions: Vec<String> = environment.globals().map(|(name, _)| name.into()).collect();
        assert_eq!(functions, FUNCTIONS);
    }

    #[test]
    fn the_lists_are_sorted() {
        for list in [FILTERS, TESTS, OPERATOR_TESTS, FUNCTIONS] {
            assert!(list.is_sorted());
        }
    }
}
