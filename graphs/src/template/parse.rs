//! From an argument to a syntax tree, or to a constant where nothing is computed.

use minijinja::{
    machinery::{
        Span as TokenSpan, Token, Tokenizer,
        ast::{Expr, Stmt, UnaryOpKind},
        parse as parse_template,
    },
    syntax::SyntaxConfig,
    value::{Value, ValueKind},
};
use schema::{Argument, Diagnostic, Literal, Span, Template, codes};
use std::ops::Range;

/// Most operators, steps, calls and filters within one `{{ }}` or `{% %}`, and most `elif`s of a
/// template. minijinja's parser and compiler call themselves for each of these without a bound, so
/// that a longer chain could overflow the stack.
const MAX_CHAIN: usize = 200;

/// An argument as it was understood.
pub(crate) enum Parsed<'a> {
    /// Always the same.
    Constant(Literal, Span),
    /// Computed for each request.
    Computed(Tree<'a>),
    /// It does not compile, which has been said.
    Broken(Span),
}

/// The syntax tree of a template.
pub(crate) struct Tree<'a> {
    pub(crate) template: &'a Template,
    root: Stmt<'a>,
}

impl<'a> Tree<'a> {
    /// Its statements.
    pub(crate) fn body(&self) -> &[Stmt<'a>] {
        match &self.root {
            Stmt::Template(root) => &root.children,
            other => std::slice::from_ref(other),
        }
    }

    /// The expression, if the whole template is one `{{ expression }}` and keeps its type.
    pub(crate) fn native(&self) -> Option<&Expr<'a>> {
        match self.body() {
            [Stmt::EmitExpr(emit)] => Some(&emit.expr),
            _ => None,
        }
    }

    /// The bare text of the one expression, without `{{ }}`.
    pub(crate) fn native_source(&self) -> Option<&'a str> {
        match self.body() {
            [Stmt::EmitExpr(emit)] => self.template.text().get(range(emit.span())),
            _ => None,
        }
    }
}

/// Parses an argument.
///
/// # Errors
/// Why it does not compile, at the exact place.
pub(crate) fn parse(argument: &Argument) -> Result<Parsed<'_>, Diagnostic> {
    let template = match argument {
        Argument::Literal(literal) => {
            return Ok(Parsed::Constant(literal.value.clone(), literal.span));
        }
        Argument::Template(template) => template,
    };
    let text = template.text();
    if let Some(place) = endless_chain(text) {
        let message = format!("the template has more than {MAX_CHAIN} operators in a row");
        let problem = Diagnostic::error(codes::BAD_TEMPLATE, message, template.place(place));
        return Err(problem.help("take it apart with {% set %}, or into several nodes"));
    }
    let root = parse_template(text, "template", SyntaxConfig::default())
        .map_err(|error| does_not_compile(template, &error))?;
    let tree = Tree { template, root };
    Ok(match constant(&tree) {
        Some(literal) => Parsed::Constant(literal, template.span()),
        None => Parsed::Computed(tree),
    })
}

/// The byte range of a token or tree node.
pub(crate) fn range(span: TokenSpan) -> Range<usize> {
    span.start_offset as usize..span.end_offset as usize
}

/// The value of a template that computes nothing: plain text, or one literal.
fn constant(tree: &Tree<'_>) -> Option<Literal> {
    match tree.body() {
        [] => Some(Literal::Text(String::new())),
        [Stmt::EmitRaw(raw)] => Some(Literal::Text(raw.raw.to_owned())),
        [Stmt::EmitExpr(emit)] => literal(&emit.expr),
        _ => None,
    }
}

/// The value of an expression that is a literal, or the negative of one.
pub(crate) fn literal(expr: &Expr<'_>) -> Option<Literal> {
    let value = match expr {
        Expr::Const(constant) => constant.value.clone(),
        Expr::UnaryOp(unary) if matches!(unary.op, UnaryOpKind::Neg) => {
            return match literal(&unary.expr)? {
                Literal::Integer(integer) => Some(Literal::Integer(integer.checked_neg()?)),
                Literal::Number(number) => Some(Literal::Number(-number)),
                _ => None,
            };
        }
        _ => return None,
    };
    match value.kind() {
        ValueKind::None => Some(Literal::Null),
        ValueKind::Bool => Some(Literal::Boolean(value.is_true())),
        ValueKind::String => Some(Literal::Text(value.as_str()?.to_owned())),
        ValueKind::Number => number(&value),
        _ => None,
    }
}

fn number(value: &Value) -> Option<Literal> {
    if value.is_integer() {
        return value.as_i64().map(Literal::Integer);
    }
    f64::try_from(value.clone()).ok().map(Literal::Number)
}

fn does_not_compile(template: &Template, error: &minijinja::Error) -> Diagnostic {
    let text = template.text();
    let reported = error.range().unwrap_or(0..text.len());
    // At the end of a text the place is empty; its last letter shows better where that is.
    let start = text.floor_char_boundary(reported.start.min(text.len().saturating_sub(1)));
    let end = text.ceil_char_boundary(reported.end.max(start + 1));
    let place = template.place(start..end);
    let detail = error.detail().unwrap_or("bad syntax");
    let problem = Diagnostic::error(codes::BAD_TEMPLATE, "template does not compile", place);
    let problem = problem.label(detail);
    match detail.strip_prefix("unknown statement ") {
        Some("macro" | "call" | "include" | "import" | "from" | "extends" | "block") => {
            problem.help("a template stands for itself: it has no macros and takes in no others")
        }
        _ => problem,
    }
}

/// The place of a tag whose operators form a chain that is too long, or of an `elif` too many.
fn endless_chain(text: &str) -> Option<Range<usize>> {
    if text.len() <= MAX_CHAIN {
        return None;
    }
    let mut tokens = Tokenizer::new(text, "template", false, SyntaxConfig::default());
    let (mut operators, mut elifs, mut start) = (0, 0, 0);
    // What cannot be tokenized is reported by the parser.
    while let Ok(Some((token, span))) = tokens.next_token() {
        match token {
            Token::VariableStart | Token::BlockStart => {
                operators = 0;
                start = range(span).start;
            }
            Token::Ident("elif") => elifs += 1,
            Token::Ident("if" | "else" | "and" | "or" | "not" | "in" | "is") => operators += 1,
            Token::Ident(_)
            | Token::TemplateData(_)
            | Token::VariableEnd
            | Token::BlockEnd
            | Token::Str(_)
            | Token::String(_)
            | Token::Int(_)
            | Token::Int128(_)
            | Token::Float(_)
            | Token::Comma
            | Token::Colon
            | Token::Assign
            | Token::BracketClose
            | Token::ParenClose
            | Token::BraceOpen
            | Token::BraceClose => {}
            _ => operators += 1,
        }
        if operators > MAX_CHAIN || elifs > MAX_CHAIN {
            return Some(start..range(span).end);
        }
    }
    None
}
