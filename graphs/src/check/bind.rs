//! From a parsed argument to an expression with its type, and whether that type fits.

use crate::{
    Expression, Path, Root, Step, TemplateExpression,
    problems::Problems,
    template::{self, Parsed, Scope, Tree, literal_type, with_article},
    types,
};
use minijinja::machinery::ast::Expr;
use schema::{Diagnostic, Literal, Span, Type, codes};

/// An argument with its type.
pub(super) struct BoundArgument {
    pub(super) expression: Expression,
    pub(super) value_type: Type,
    /// The exact place of what gives the value.
    pub(super) place: Span,
    /// Whether it is a text with gaps, which is a text whatever fills them.
    pub(super) mixed: bool,
    /// The declaration that its type follows from, and what to say about it.
    pub(super) origin: Option<(Span, String)>,
}

/// Resolves an argument and finds its type.
pub(super) fn bind(parsed: &Parsed<'_>, scope: &Scope, problems: &mut Problems) -> BoundArgument {
    let tree = match parsed {
        Parsed::Computed(tree) => tree,
        Parsed::Constant(literal, span) => {
            return constant(literal.clone(), literal_type(literal), *span);
        }
        Parsed::Broken(span) => return constant(Literal::Null, Type::Any, *span),
    };
    let inferred = template::infer(tree, scope, problems);
    let reads = inferred.reads.into_iter();
    let reads: Vec<(String, Root)> = reads.map(|(name, root, _)| (name, root)).collect();
    let native = tree.native();
    let expression = match native.and_then(|expr| path(expr, scope)) {
        Some(path) => Expression::Path(path),
        None => Expression::Template(TemplateExpression {
            source: tree
                .native_source()
                .unwrap_or(tree.template.text())
                .to_owned(),
            native: native.is_some(),
            reads,
        }),
    };
    BoundArgument {
        expression,
        value_type: inferred.value_type,
        place: place(tree),
        mixed: native.is_none(),
        origin: native.and_then(|expr| origin(expr, scope)),
    }
}

fn constant(literal: Literal, value_type: Type, place: Span) -> BoundArgument {
    BoundArgument {
        expression: Expression::Constant(literal),
        value_type,
        place,
        mixed: false,
        origin: None,
    }
}

fn place(tree: &Tree<'_>) -> Span {
    match tree.native() {
        Some(expr) => tree.template.place(template::extent(expr)),
        None => tree.template.span(),
    }
}

/// The expression as a reference without computation, if it is one.
fn path(expr: &Expr<'_>, scope: &Scope) -> Option<Path> {
    let mut steps = Vec::new();
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::Var(var) => {
                steps.reverse();
                let root = scope.get(var.id)?.root;
                return Some(Path { root, steps });
            }
            Expr::GetAttr(attr) => {
                steps.push(Step::Field(attr.name.to_owned()));
                &attr.expr
            }
            Expr::GetItem(item) => {
                steps.push(match template::literal(&item.subscript_expr)? {
                    Literal::Text(name) => Step::Field(name),
                    Literal::Integer(index) => Step::Index(index),
                    _ => return None,
                });
                &item.expr
            }
            _ => return None,
        };
    }
}

/// Where the type of an expression comes from: the declaration of what it is about.
fn origin(expr: &Expr<'_>, scope: &Scope) -> Option<(Span, String)> {
    let (name, known) = match template::subject(expr) {
        Expr::Var(var) => (var.id.to_owned(), scope.get(var.id)?),
        Expr::GetAttr(attr) => (format!("input.{}", attr.name), scope.field(attr.name)?),
        _ => return None,
    };
    Some((
        known.declared?,
        format!("`{name}` is {}", with_article(&known.bounded())),
    ))
}

/// Checks that an argument fits one of the types that `taker` accepts, as `declared` somewhere; none
/// is left aside.
pub(super) fn check_fit(
    taker: &str,
    accepts: &[Type],
    declared: Option<&(Span, String)>,
    given: &BoundArgument,
    problems: &mut Problems,
) {
    let (value_type, _) = types::required(given.value_type.clone());
    if types::is_nothing(&given.value_type) || accepts.iter().any(|wanted| value_type.fits(wanted))
    {
        return;
    }
    let wanted: Vec<String> = accepts.iter().map(with_article).collect();
    let wanted = wanted.join(" or ");
    let sizes = |wanted: &Type| {
        matches!(
            (wanted, &value_type),
            (Type::Vector(Some(_)), Type::Vector(Some(_)))
        )
    };
    let code = match accepts.iter().any(sizes) {
        true => codes::DIMENSION_MISMATCH,
        false => codes::TYPE_MISMATCH,
    };
    let message = format!("{taker} takes {wanted}, not {}", with_article(&value_type));
    let mut problem = Diagnostic::error(code, message, given.place)
        .label(format!("this is {}", with_article(&value_type)));
    for (span, text) in given.origin.iter().chain(declared) {
        problem = problem.also(*span, text);
    }
    if given.mixed {
        problem = problem.help("a template keeps the type of its value only if it is one `{{ expression }}` and nothing else");
    }
    problems.push(problem);
}
