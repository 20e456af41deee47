//! Expressions that are compiled once and evaluated for each request.
//!
//! Constants and plain paths never reach the template engine. The others run with a bound on
//! instructions, recursion and output, and what is undefined is an error.

use super::scope::{Names, View};
use graphs::{Expression as Checked, Path, TemplateExpression};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Expression, State, UndefinedBehavior, filters,
    machinery::{ast::Expr, parse_expr},
    syntax::SyntaxConfig,
    value::{Rest, Value as Shown},
};
use nodes::{NodeError, Value};
use std::{
    io,
    sync::{Arc, LazyLock},
};

/// Most instructions that one evaluation may take.
const FUEL: u64 = 1_000_000;

/// Most nested macro calls and includes of one evaluation.
const RECURSION: usize = 64;

/// Most bytes that a text may have, 8 MiB.
const OUTPUT: usize = 8 << 20;

/// An expression that is ready to be evaluated.
#[derive(Debug)]
pub(super) enum Compiled {
    /// Always this.
    Constant(Value),
    /// A reference without computation.
    Path(Path),
    /// One `{{ expression }}`, whose value keeps its type.
    Native(Native),
    /// A template that yields a text.
    Text(Text),
}

#[derive(Debug)]
pub(super) struct Native {
    expression: Expression<'static, 'static>,
    source: Box<str>,
    names: Names,
    /// Whether it is `x if y` without an `else`, which yields nothing where `y` is false.
    may_be_absent: bool,
}

#[derive(Debug)]
pub(super) struct Text {
    environment: Arc<Environment<'static>>,
    names: Names,
}

/// The environment of native expressions. It is one for the process because expressions borrow
/// theirs; it holds filters and bounds, nothing of any file.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// The only template of the environment of a [`Text`].
const NAME: &str = "template";

impl Compiled {
    /// Compiles an expression that has been checked.
    ///
    /// # Errors
    /// The template engine's, which the check should have found.
    pub(super) fn new(checked: &Checked) -> Result<Self, NodeError> {
        match checked {
            Checked::Constant(literal) => Ok(Compiled::Constant(literal.into())),
            Checked::Path(path) => Ok(Compiled::Path(path.clone())),
            Checked::Template(template) if template.native => {
                Native::new(template).map(Compiled::Native)
            }
            Checked::Template(template) => Text::new(template).map(Compiled::Text),
        }
    }

    /// Its value for this request.
    ///
    /// # Errors
    /// Something that it reads does not exist or has the wrong type, or a bound was reached.
    pub(super) fn evaluate(&self, view: View<'_>) -> Result<Value, NodeError> {
        match self {
            Compiled::Constant(value) => Ok(value.clone()),
            Compiled::Path(path) => view.path(path),
            Compiled::Native(native) => native.evaluate(view),
            Compiled::Text(text) => text.evaluate(view),
        }
    }
}

impl Native {
    fn new(template: &TemplateExpression) -> Result<Self, NodeError> {
        let source = template.source.trim();
        let failed = |error| failed(source, &error);
        let tree = parse_expr(source).map_err(failed)?;
        let expression = ENVIRONMENT.compile_expression_owned(source.to_owned());
        Ok(Self {
            expression: expression.map_err(failed)?,
            may_be_absent: matches!(tree, Expr::IfExpr(choice) if choice.false_expr.is_none()),
            source: source.into(),
            names: names(template),
        })
    }

    fn evaluate(&self, view: View<'_>) -> Result<Value, NodeError> {
        let shown = self.expression.eval(view.names(&self.names));
        let value = shown.and_then(|shown| {
            if shown.is_undefined() && self.may_be_absent {
                return Ok(Value::None);
            }
            Value::from_template(&shown)
        });
        value.map_err(|error| failed(&self.source, &error))
    }
}

impl Text {
    fn new(template: &TemplateExpression) -> Result<Self, NodeError> {
        let mut environment = environment();
        environment
            .add_template_owned(NAME, template.source.clone())
            .map_err(|error| failed(&template.source, &error))?;
        Ok(Self {
            environment: Arc::new(environment),
            names: names(template),
        })
    }

    fn evaluate(&self, view: View<'_>) -> Result<Value, NodeError> {
        let mut text = Bounded::default();
        let template = self.environment.get_template(NAME);
        let rendered = template.and_then(|template| {
            template.render_captured_to(view.names(&self.names), &mut text)?;
            Ok(())
        });
        if text.overflowed {
            let reason = format!("a text has more than {OUTPUT} bytes");
            return Err(NodeError::failed(reason));
        }
        rendered.map_err(|error| {
            let template = self.environment.get_template(NAME);
            failed(
                template.as_ref().map_or("", |template| template.source()),
                &error,
            )
        })?;
        match String::from_utf8(text.bytes) {
            Ok(text) => Ok(Value::text(text)),
            Err(error) => Err(NodeError::because("a template yields no text", error)),
        }
    }
}

/// Whether a value counts as true in a condition: as Jinja has it, what is empty or zero does not.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::None => false,
        Value::Boolean(boolean) => *boolean,
        Value::Integer(integer) => *integer != 0,
        Value::Number(number) => *number != 0.0,
        Value::Text(text) => !text.is_empty(),
        Value::Vector(vector) => !vector.is_empty(),
        Value::List(list) => !list.is_empty(),
        Value::Map(map) => !map.is_empty(),
        Value::Document(_) | Value::Stream(_) => true,
    }
}

fn names(template: &TemplateExpression) -> Names {
    let reads = template.reads.iter();
    reads
        .map(|(name, root)| (name.as_str().into(), *root))
        .collect()
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.add_filter("json", filters::tojson);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment
}

/// `default` that stands in for a none too, because a request's optional field may be none.
fn default(state: &State, value: &Shown, arguments: Rest<Shown>) -> Result<Shown, Error> {
    if value.is_none() {
        return filters::default(state, &Shown::UNDEFINED, arguments);
    }
    filters::default(state, value, arguments)
}

fn failed(source: &str, error: &Error) -> NodeError {
    let reason = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("it takes more than {FUEL} steps"),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let mut shown: String = source.chars().take(80).collect();
    if shown.len() < source.len() {
        shown.push('…');
    }
    NodeError::failed(format!("`{shown}` cannot be evaluated: {reason}"))
}

/// Takes bytes up to [`OUTPUT`].
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl io::Write for &mut Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT {
            self.overflowed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scope::Scope, *};
    use expect_test::{Expect, expect};
    use graphs::Root;

    fn evaluate(source: &str, native: bool) -> Result<Value, NodeError> {
        let scope = Scope {
            input: Value::from_json(br#"{"name": "Ada", "n": 3, "tags": ["a", "b"], "off": null}"#)
                .unwrap(),
            headers: Value::from_json(br#"{"x_id": "7"}"#).unwrap(),
            ..Scope::default()
        };
        let compiled = Compiled::new(&Checked::Template(TemplateExpression {
            source: source.to_owned(),
            native,
            reads: vec![
                ("input".to_owned(), Root::Input),
                ("header".to_owned(), Root::Header),
            ],
        }))?;
        compiled.evaluate(View {
            scope: &scope,
            item: None,
        })
    }

    fn check(source: &str, native: bool, expect: Expect) {
        expect.assert_eq(&match evaluate(source, native) {
            Ok(value) => String::from_utf8(value.to_json().unwrap()).unwrap(),
            Err(error) => format!("error: {error}"),
        });
    }

    #[test]
    fn what_the_check_knows_is_there() {
        use graphs::builtins;
        let environment = environment();
        let is = |name: &str, kind: &str| {
            let source = format!("name is {kind}");
            let expression = environment.compile_expression(&source).unwrap();
            expression
                .eval(minijinja::context! { name })
                .unwrap()
                .is_true()
        };
        for filter in builtins::FILTERS {
            assert!(is(filter, "filter"), "filter {filter}");
        }
        for test in builtins::TESTS {
            assert!(is(test, "test"), "test {test}");
        }
        for function in builtins::FUNCTIONS {
            assert!(
                environment.globals().any(|(name, _)| name == *function),
                "{function}"
            );
        }
    }

    #[test]
    fn native_expressions_keep_types() {
        check("input.n * 2", true, expect!["6"]);
        check(
            "input.tags | reverse | list",
            true,
            expect![[r#"["b","a"]"#]],
        );
        check("input.name | upper", true, expect![[r#""ADA""#]]);
        check("input.n > 2 and 'b' in input.tags", true, expect!["true"]);
        check("input.name if input.n > 5", true, expect!["null"]);
        check("header.x_lora | default('qa')", true, expect![[r#""qa""#]]);
        check("header.x_lora", true, expect!["null"]);
        check("header.x_lora is none", true, expect!["true"]);
        check("header.x_lora == 'qa'", true, expect!["false"]);
        check("header.x_lora or 'qa'", true, expect![[r#""qa""#]]);
        check("header.x_id", true, expect![[r#""7""#]]);
        check("header", true, expect![[r#"{"x_id":"7"}"#]]);
        check("input.off | default(4)", true, expect!["4"]);
        check(
            "input | json",
            true,
            expect![[
                r#""{\"name\": \"Ada\", \"n\": 3, \"tags\": [\"a\", \"b\"], \"off\": null}""#
            ]],
        );
    }

    #[test]
    fn templates_yield_texts() {
        check(
            "{% for tag in input.tags %}[{{ tag }}]{% endfor %} {{ input.name }}\n",
            false,
            expect![[r#""[a][b] Ada\n""#]],
        );
        check("<{{ input.name }}>", false, expect![[r#""<Ada>""#]]);
        check(
            "{% if header.x_lora == 'qa' %}qa{% else %}other{% endif %} {{ header.x_id }}",
            false,
            expect![[r#""other 7""#]],
        );
    }

    #[test]
    fn what_is_missing_is_an_error() {
        check(
            "input.nothing",
            true,
            expect![
                "error: `input.nothing` cannot be evaluated: undefined value: the expression is undefined"
            ],
        );
        check(
            "input.nothing.more | upper",
            true,
            expect!["error: `input.nothing.more | upper` cannot be evaluated: undefined value"],
        );
        check(
            "Hello {{ input.nothing }}",
            false,
            expect!["error: `Hello {{ input.nothing }}` cannot be evaluated: undefined value"],
        );
        check(
            "input.name | int",
            true,
            expect![
                "error: `input.name | int` cannot be evaluated: invalid operation: invalid float literal"
            ],
        );
    }

    #[test]
    fn evaluation_is_bounded() {
        check(
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
            false,
            expect![
                "error: `{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}` cannot be evaluated: it takes more than 1000000 steps"
            ],
        );
        check(
            "{{ 'abcdefgh' * 2000000 }}",
            false,
            expect!["error: a text has more than 8388608 bytes"],
        );
        check(
            "{% for a in range(2000) %}{{ 'abcdefgh' * 1000 }}{% endfor %}",
            false,
            expect!["error: a text has more than 8388608 bytes"],
        );
    }
}
