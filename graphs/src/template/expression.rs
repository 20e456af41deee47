//! The types of expressions, and what they read.

use super::{
    builtins::{FILTERS, FUNCTIONS, OPERATOR_TESTS, TESTS},
    filters::{self, Given},
    infer::{Infer, with_article},
    parse::{literal, range},
    place::{extent, last_name, subject},
};
use crate::{
    codes,
    problems::listed,
    types::{self, Field},
};
use minijinja::machinery::ast::{
    BinOp, BinOpKind, Call, CallArg, CompareOpKind, Expr, Filter, GetAttr, GetItem, IfExpr, Map,
    Slice, Test, UnaryOpKind,
};
use schema::{Diagnostic, Literal, Name, Type};
use std::ops::Range;

impl<'a> Infer<'_, 'a> {
    /// The type of an expression. Whatever is wrong with it has been said; its type is then `Any`,
    /// so that one mistake is one diagnostic.
    pub(super) fn expr(&mut self, expr: &Expr<'a>) -> Type {
        let found = match expr {
            Expr::Var(var) => self.name(var.id, range(var.span())),
            Expr::Const(_) => literal(expr).map_or(Type::Any, |literal| literal_type(&literal)),
            Expr::GetAttr(attr) => self.attribute(expr, attr),
            Expr::GetItem(item) => self.item(expr, item),
            Expr::Slice(slice) => self.slice(slice),
            Expr::UnaryOp(unary) => {
                let found = self.expr(&unary.expr);
                match unary.op {
                    UnaryOpKind::Not => Type::Boolean,
                    UnaryOpKind::Neg => self.number("`-`", &found, extent(&unary.expr)),
                }
            }
            Expr::BinOp(op) => self.binary(expr, op),
            Expr::Compare(compare) => {
                self.expr(&compare.expr);
                for op in &compare.ops {
                    self.expr(&op.expr);
                }
                let firsts =
                    std::iter::once(&compare.expr).chain(compare.ops.iter().map(|op| &op.expr));
                for (left, op) in firsts.zip(&compare.ops) {
                    if matches!(op.op, CompareOpKind::Eq | CompareOpKind::Ne) {
                        self.compare_choice(left, &op.expr);
                    }
                }
                Type::Boolean
            }
            Expr::IfExpr(choice) => self.if_expr(choice),
            Expr::Filter(filter) => self.filter(expr, filter),
            Expr::Test(test) => self.test(test, range(test.span()).start),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.list(&list.items),
            Expr::Tuple(tuple) => self.list(&tuple.items),
            Expr::Map(map) => self.map(map),
        };
        if matches!(found, Type::Option(_)) && self.is_certain(expr) {
            return types::required(found).0;
        }
        found
    }

    /// A name on its own.
    fn name(&mut self, name: &str, place: Range<usize>) -> Type {
        if let Some(local) = self.local(name) {
            return local.clone();
        }
        if let Some(known) = self.scope.get(name) {
            let (root, found) = (known.root, known.bounded());
            self.read(name, root, place);
            return found;
        }
        if !FUNCTIONS.contains(&name) {
            self.unknown_name(name, place);
        }
        Type::Any
    }

    fn unknown_name(&mut self, name: &str, place: Range<usize>) {
        if !self.first_miss(name) {
            return;
        }
        let message = format!("unknown name \"{name}\"");
        let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, self.template.place(place));
        let help = match name {
            "item" => Some("only the arguments of a node with `each` have an `item`"),
            "loop" => Some("only the body of {% for %} has a `loop`"),
            _ => None,
        };
        if let Some(help) = help {
            return self.problems.push(problem.help(help));
        }
        if self.scope.field(name).is_some() {
            let help = format!("a field of the request is written `input.{name}`");
            return self.problems.push(problem.help(help));
        }
        let candidates = self.scope.names().into_iter().chain(self.locals());
        let candidates: Vec<&str> = candidates.chain(FUNCTIONS.iter().copied()).collect();
        self.problems
            .push_with_guess(problem, name, candidates, None);
    }

    /// `base.name`
    fn attribute(&mut self, whole: &Expr<'a>, attr: &GetAttr<'a>) -> Type {
        self.member(&attr.expr, attr.name, last_name(whole, attr.name))
    }

    /// `base[subscript]`
    fn item(&mut self, whole: &Expr<'a>, item: &GetItem<'a>) -> Type {
        if let Some(Literal::Text(name)) = literal(&item.subscript_expr) {
            return self.member(&item.expr, &name, range(item.subscript_expr.span()));
        }
        let base = self.expr(&item.expr);
        let subscript = self.expr(&item.subscript_expr);
        let (bare, may_be_none) = types::required(base);
        let found = match &bare {
            Type::List(_) | Type::Vector(_) | Type::Text | Type::Choice(_) => {
                types::element(&bare).unwrap_or(Type::Any)
            }
            Type::Any | Type::Map | Type::Record(_) => Type::Any,
            Type::Document if subscript.fits(&Type::Text) => Type::Any,
            _ => {
                let message = format!("{} has no elements", with_article(&bare));
                self.report(codes::TYPE_MISMATCH, message, extent(whole));
                Type::Any
            }
        };
        if may_be_none {
            types::optional(found)
        } else {
            found
        }
    }

    /// The field `name` of the value of `base`.
    fn member(&mut self, base: &Expr<'a>, name: &str, place: Range<usize>) -> Type {
        if let Expr::Var(var) = base
            && self.local(var.id).is_none()
        {
            match var.id {
                "input" => return self.input_field(name, range(var.span()), place),
                "header" => return self.header(name, range(var.span()), place),
                _ => {}
            }
        }
        let base_type = self.expr(base);
        self.field(&base_type, name, place)
    }

    fn input_field(&mut self, name: &str, root: Range<usize>, place: Range<usize>) -> Type {
        self.read("input", crate::Root::Input, root);
        if let Some(known) = self.scope.field(name) {
            return known.bounded();
        }
        if !self.first_miss(&format!("input.{name}")) {
            return Type::Any;
        }
        let message = format!("no field \"{name}\" in the request");
        let problem = Diagnostic::error(codes::UNKNOWN_FIELD, message, self.template.place(place));
        let spelled = name.replace('-', "_");
        if spelled != name && self.scope.field(&spelled).is_some() {
            let help =
                format!("in templates a \"-\" in a name is written \"_\": `input.{spelled}`");
            self.problems.push(problem.help(help));
            return Type::Any;
        }
        let fields = self.scope.fields();
        let otherwise = match fields.is_empty() {
            true => Some("the graph's `input` block declares no fields".to_owned()),
            false => Some(format!("it has {}", listed(fields.iter().copied()))),
        };
        self.problems
            .push_with_guess(problem, name, fields, otherwise);
        Type::Any
    }

    fn header(&mut self, name: &str, root: Range<usize>, place: Range<usize>) -> Type {
        self.read("header", crate::Root::Header, root);
        let spelled = name.replace('-', "_").to_lowercase();
        if spelled != name {
            let message = format!("no header is named \"{name}\" in templates");
            let problem =
                Diagnostic::error(codes::UNKNOWN_FIELD, message, self.template.place(place));
            let help = format!("headers are lower case with \"_\" for \"-\": `header.{spelled}`");
            self.problems.push(problem.help(help));
        }
        types::optional(Type::Text)
    }

    /// The field `name` of a value of type `base`.
    fn field(&mut self, base: &Type, name: &str, place: Range<usize>) -> Type {
        let place = self.template.place(place);
        match types::field(base, name) {
            Field::Is(found) => found,
            Field::Unknown(fields) => {
                let message = format!(
                    "no field \"{name}\" in {}",
                    with_article(&types::required(base.clone()).0)
                );
                let problem = Diagnostic::error(codes::UNKNOWN_FIELD, message, place);
                let names = fields.iter().map(String::as_str);
                let otherwise = Some(format!("it has {}", listed(names.clone())));
                self.problems
                    .push_with_guess(problem, name, names, otherwise);
                Type::Any
            }
            Field::NoFields => {
                let (bare, _) = types::required(base.clone());
                let message = format!("no field \"{name}\" in {}", with_article(&bare));
                let problem = Diagnostic::error(codes::UNKNOWN_FIELD, message, place);
                self.problems.push(match without_fields(&bare, name) {
                    Some(help) => problem.help(help),
                    None => problem,
                });
                Type::Any
            }
        }
    }

    fn slice(&mut self, slice: &Slice<'a>) -> Type {
        let base = self.expr(&slice.expr);
        for bound in [&slice.start, &slice.stop, &slice.step]
            .into_iter()
            .flatten()
        {
            let found = self.expr(bound);
            self.number("a slice", &found, extent(bound));
        }
        let (bare, may_be_none) = types::required(base);
        let found = match bare {
            Type::List(_) => bare,
            Type::Text | Type::Choice(_) | Type::TextStream => Type::Text,
            Type::Vector(_) => Type::list(Type::Number),
            Type::Any => Type::Any,
            other => {
                let message = format!("{} cannot be sliced", with_article(&other));
                self.report(codes::TYPE_MISMATCH, message, extent(&slice.expr));
                Type::Any
            }
        };
        if may_be_none {
            types::optional(found)
        } else {
            found
        }
    }

    fn binary(&mut self, whole: &Expr<'a>, op: &BinOp<'a>) -> Type {
        if matches!(op.op, BinOpKind::Sub) && self.is_hyphenated_name(whole, op) {
            return Type::Any;
        }
        let left = self.expr(&op.left);
        let right = match op.op {
            BinOpKind::ScAnd => self.given(&op.left, true, |this| this.expr(&op.right)),
            BinOpKind::ScOr => self.given(&op.left, false, |this| this.expr(&op.right)),
            _ => self.expr(&op.right),
        };
        match op.op {
            BinOpKind::Eq | BinOpKind::Ne => {
                self.compare_choice(&op.left, &op.right);
                Type::Boolean
            }
            BinOpKind::In => {
                self.choice_in_list(&op.left, &op.right);
                Type::Boolean
            }
            BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => Type::Boolean,
            BinOpKind::ScAnd => types::join(left, right),
            BinOpKind::ScOr => types::join(types::required(left).0, right),
            BinOpKind::Concat => Type::Text,
            _ => {
                let places = (extent(&op.left), extent(&op.right));
                self.arithmetic(op.op, (left, places.0), (right, places.1))
            }
        }
    }

    fn arithmetic(
        &mut self,
        op: BinOpKind,
        (left, left_place): (Type, Range<usize>),
        (right, right_place): (Type, Range<usize>),
    ) -> Type {
        let sign = sign(op);
        let left = self.present(sign, left, left_place.clone());
        let right = self.present(sign, right, right_place.clone());
        let number = |found: &Type| matches!(found, Type::Integer | Type::Number);
        let text = |found: &Type| matches!(found, Type::Text | Type::Choice(_) | Type::TextStream);
        match (op, &left, &right) {
            (_, Type::Any, _) | (_, _, Type::Any) => Type::Any,
            (BinOpKind::Div, a, b) if number(a) && number(b) => Type::Number,
            (_, a, b) if number(a) && number(b) => types::join(left, right),
            (BinOpKind::Add, a, b) if text(a) && text(b) => Type::Text,
            (BinOpKind::Add, Type::List(_), Type::List(_)) => types::join(left, right),
            (BinOpKind::Mul, a, Type::Integer) if text(a) => Type::Text,
            (BinOpKind::Mul, Type::List(_), Type::Integer) => left,
            (BinOpKind::Add, a, b) => {
                let message = format!("cannot add {} and {}", with_article(a), with_article(b));
                let place = self.template.place(left_place.start..right_place.end);
                let problem = Diagnostic::error(codes::TYPE_MISMATCH, message, place);
                let help = "`~` joins values as text";
                let texts = text(a) || text(b);
                self.problems
                    .push(if texts { problem.help(help) } else { problem });
                Type::Any
            }
            (_, a, _) if !number(a) => self.number(sign, &left, left_place),
            _ => self.number(sign, &right, right_place),
        }
    }

    /// The type without none, saying so where there might be one.
    fn present(&mut self, taker: &str, found: Type, place: Range<usize>) -> Type {
        let (bare, may_be_none) = types::required(found);
        if may_be_none {
            let source = self.source(place.clone()).to_owned();
            let message = format!("`{source}` may be none, which {taker} fails on");
            let place = self.template.place(place);
            let problem = Diagnostic::warning(codes::NONE_POSSIBLE, message, place);
            let help = format!("say what it is then, such as `{source} | default(0)`");
            self.problems.push(problem.help(help));
        }
        bare
    }

    /// A number, or a diagnostic and `Any`.
    fn number(&mut self, taker: &str, found: &Type, place: Range<usize>) -> Type {
        let found = self.present(taker, found.clone(), place.clone());
        match found {
            Type::Integer | Type::Number | Type::Any => found,
            other => {
                let message = format!("{taker} takes a number, not {}", with_article(&other));
                self.report(codes::TYPE_MISMATCH, message, place);
                Type::Any
            }
        }
    }

    /// Whether the subtraction is a name written with `-`, such as `top-k`; says how to write it.
    fn is_hyphenated_name(&mut self, whole: &Expr<'a>, op: &BinOp<'a>) -> bool {
        let place = extent(whole).start..extent(subject(&op.right)).end;
        let written = self.source(place.clone()).to_owned();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if !written.bytes().all(is_name) || !written.contains('-') {
            return false;
        }
        let spelled = written.replace('-', "_");
        let mut steps = spelled.split('.');
        let root = steps.next().unwrap_or_default();
        let field = steps.next();
        let Some(known) = self.scope.get(root).map(|known| known.root) else {
            return false;
        };
        if root == "input" && !field.is_some_and(|field| self.scope.field(field).is_some()) {
            return false;
        }
        if self.operands_known(whole) {
            return false;
        }
        self.read(root, known, place.clone());
        let message = format!("\"{written}\" is a subtraction here");
        let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, self.template.place(place));
        let help = format!("in templates a \"-\" in a name is written \"_\": `{spelled}`");
        self.problems.push(problem.help(help));
        true
    }

    /// Whether every name of a chain of subtractions is known.
    fn operands_known(&self, expr: &Expr<'a>) -> bool {
        let mut rest = expr;
        loop {
            let (operand, next) = match rest {
                Expr::BinOp(op) if matches!(op.op, BinOpKind::Sub) => (&op.right, Some(&op.left)),
                other => (other, None),
            };
            let known = match subject(operand) {
                Expr::Var(var) => self.local(var.id).is_some() || self.scope.get(var.id).is_some(),
                Expr::GetAttr(attr) => self.scope.field(attr.name).is_some(),
                _ => true,
            };
            match next {
                _ if !known => return false,
                Some(next) => rest = next,
                None => return true,
            }
        }
    }

    /// A text that a choice is compared with must be one that it can be.
    fn compare_choice(&mut self, left: &Expr<'a>, right: &Expr<'a>) {
        for (choice, other) in [(left, right), (right, left)] {
            if let Some(Literal::Text(case)) = literal(other) {
                self.check_case(choice, &case, range(other.span()));
            }
        }
    }

    fn choice_in_list(&mut self, choice: &Expr<'a>, list: &Expr<'a>) {
        let items = match list {
            Expr::List(list) => &list.items,
            Expr::Tuple(tuple) => &tuple.items,
            _ => return,
        };
        for item in items {
            if let Some(Literal::Text(case)) = literal(item) {
                self.check_case(choice, &case, range(item.span()));
            }
        }
    }

    fn check_case(&mut self, choice: &Expr<'a>, case: &str, place: Range<usize>) {
        let known = match choice {
            Expr::Var(var) if self.local(var.id).is_none() => self.scope.get(var.id),
            Expr::GetAttr(attr) => match &attr.expr {
                Expr::Var(var) if var.id == "input" => self.scope.field(attr.name),
                _ => None,
            },
            _ => None,
        };
        let Some(known) = known else { return };
        let cases = match &known.value_type {
            Type::Choice(cases) => cases,
            Type::Option(some) => match &**some {
                Type::Choice(cases) => cases,
                _ => return,
            },
            _ => return,
        };
        if cases.iter().any(|other| other == case) {
            return;
        }
        let source = self.source(extent(choice));
        let message = format!("`{source}` is never \"{case}\"");
        let mut problem =
            Diagnostic::error(codes::UNREACHABLE, message, self.template.place(place));
        let all = listed(cases.iter().map(String::as_str));
        if let Some(declared) = known.declared {
            problem = problem.also(declared, format!("one of {all}"));
        }
        let otherwise = Some(format!("it is one of {all}"));
        let names = cases.iter().map(String::as_str);
        self.problems
            .push_with_guess(problem, case, names, otherwise);
    }

    fn if_expr(&mut self, choice: &IfExpr<'a>) -> Type {
        self.expr(&choice.test_expr);
        let yes = self.given(&choice.test_expr, true, |this| this.expr(&choice.true_expr));
        let no = match &choice.false_expr {
            Some(no) => self.given(&choice.test_expr, false, |this| this.expr(no)),
            None => types::nothing(),
        };
        types::join(yes, no)
    }

    fn filter(&mut self, whole: &Expr<'a>, filter: &Filter<'a>) -> Type {
        let base = match &filter.expr {
            Some(base) => self.expr(base),
            // The text of the block that the filter is applied to.
            None => Type::Text,
        };
        let given = self.arguments(&filter.args);
        let start = range(whole.span()).start;
        let place = start..start + filter.name.len();
        if !FILTERS.contains(&filter.name) {
            let message = format!("unknown filter \"{}\"", filter.name);
            let place = self.template.place(place);
            let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, place);
            let names = FILTERS.iter().copied();
            self.problems
                .push_with_guess(problem, filter.name, names, None);
            return Type::Any;
        }
        if filters::wants_elements(filter.name) && types::element(&base).is_none() {
            let message = format!(
                "`{}` takes a list, not {}",
                filter.name,
                with_article(&base)
            );
            self.report(codes::TYPE_MISMATCH, message, place);
            return Type::Any;
        }
        self.filter_names(filter, &base);
        filters::result(filter.name, &base, &given)
    }

    /// Attributes, filters and tests that a filter is given by name.
    fn filter_names(&mut self, filter: &Filter<'a>, base: &Type) {
        let element = types::element(base).unwrap_or(Type::Any);
        let attribute = filters::attribute_argument(filter.name);
        let test = filters::names_test(filter.name);
        for (index, arg) in filter.args.iter().enumerate() {
            let (expr, is_attribute) = match arg {
                CallArg::Pos(expr) => (expr, attribute == Some(index)),
                CallArg::Kwarg(name, expr) => (expr, *name == "attribute" && attribute.is_some()),
                _ => return,
            };
            let Some(Literal::Text(name)) = literal(expr) else {
                continue;
            };
            let place = range(expr.span());
            if is_attribute {
                let mut found = element.clone();
                for step in name.split('.') {
                    found = self.field(&found, step, place.clone());
                }
            } else if matches!(arg, CallArg::Pos(_)) && test == Some(index) {
                if !TESTS.contains(&&*name) && !OPERATOR_TESTS.contains(&&*name) {
                    self.unknown_test(&name, place);
                }
            } else if filter.name == "map" && index == 0 && !FILTERS.contains(&&*name) {
                let message = format!("unknown filter \"{name}\"");
                let place = self.template.place(place);
                let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, place);
                let help = format!("the field of each element is `map(attribute='{name}')`");
                let names = FILTERS.iter().copied();
                self.problems
                    .push_with_guess(problem, &name, names, Some(help));
            }
        }
    }

    fn test(&mut self, test: &Test<'a>, start: usize) -> Type {
        self.expr(&test.expr);
        self.arguments(&test.args);
        if !TESTS.contains(&test.name) {
            self.unknown_test(test.name, start..start + test.name.len());
        }
        if matches!(test.name, "eq" | "equalto" | "ne")
            && let [CallArg::Pos(other)] = test.args.as_slice()
        {
            self.compare_choice(&test.expr, other);
        }
        Type::Boolean
    }

    fn unknown_test(&mut self, name: &str, place: Range<usize>) {
        let message = format!("unknown test \"{name}\"");
        let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, self.template.place(place));
        let names = TESTS.iter().copied();
        self.problems.push_with_guess(problem, name, names, None);
    }

    /// A call of a function; values have no methods.
    pub(super) fn call(&mut self, call: &Call<'a>) -> Type {
        let found = match &call.expr {
            Expr::Var(var) => self.function(var.id, range(var.span())),
            Expr::GetAttr(attr) => self.method(&call.expr, attr),
            other => {
                self.expr(other);
                self.report(
                    codes::TYPE_MISMATCH,
                    "this is not a function".to_owned(),
                    extent(other),
                );
                Type::Any
            }
        };
        self.arguments(&call.args);
        found
    }

    fn function(&mut self, name: &str, place: Range<usize>) -> Type {
        let is_value = self.local(name).is_some() || self.scope.get(name).is_some();
        match name {
            _ if is_value => {
                let message = format!("\"{name}\" is not a function");
                self.report(codes::TYPE_MISMATCH, message, place);
                Type::Any
            }
            "range" => Type::list(Type::Integer),
            "dict" => Type::Map,
            "debug" => Type::Text,
            _ if FUNCTIONS.contains(&name) => Type::Any,
            _ => {
                let message = format!("unknown function \"{name}\"");
                let problem =
                    Diagnostic::error(codes::UNKNOWN_NAME, message, self.template.place(place));
                if FILTERS.contains(&name) {
                    let help = format!("\"{name}\" is a filter: write `x | {name}`");
                    self.problems.push(problem.help(help));
                } else {
                    let names = FUNCTIONS.iter().copied();
                    self.problems.push_with_guess(problem, name, names, None);
                }
                Type::Any
            }
        }
    }

    fn method(&mut self, whole: &Expr<'a>, attr: &GetAttr<'a>) -> Type {
        let is_loop = matches!(&attr.expr, Expr::Var(var) if var.id == "loop");
        self.expr(&attr.expr);
        match attr.name {
            "cycle" if is_loop => Type::Any,
            "changed" if is_loop => Type::Boolean,
            name => {
                let message = format!("values have no methods, so no \"{name}\"");
                let place = self.template.place(last_name(whole, name));
                let problem = Diagnostic::error(codes::UNKNOWN_NAME, message, place);
                self.problems.push(if FILTERS.contains(&name) {
                    let source = self.template.text().get(extent(&attr.expr)).unwrap_or("x");
                    problem.help(format!(
                        "there is a filter of that name: `{source} | {name}`"
                    ))
                } else {
                    problem
                });
                Type::Any
            }
        }
    }

    fn arguments(&mut self, args: &[CallArg<'a>]) -> Given {
        let mut given = Given::default();
        for arg in args {
            match arg {
                CallArg::Pos(expr) => {
                    let found = self.expr(expr);
                    given.positional.push((found, literal_text(expr)));
                }
                CallArg::Kwarg(name, expr) => {
                    let found = self.expr(expr);
                    given
                        .named
                        .push(((*name).to_owned(), found, literal_text(expr)));
                }
                CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => {
                    self.expr(expr);
                }
            }
        }
        given
    }

    fn list(&mut self, items: &[Expr<'a>]) -> Type {
        let mut found: Option<Type> = None;
        for item in items {
            let item = self.expr(item);
            found = Some(match found {
                Some(found) => types::join(found, item),
                None => item,
            });
        }
        types::bounded(&Type::list(found.unwrap_or(Type::Any)))
    }

    fn map(&mut self, map: &Map<'a>) -> Type {
        let mut fields = Vec::new();
        let mut all_known = true;
        for (key, value) in map.keys.iter().zip(&map.values) {
            self.expr(key);
            let value = self.expr(value);
            match literal_text(key) {
                Some(name) if !name.contains('-') => fields.push((Name::new(name), value)),
                _ => all_known = false,
            }
        }
        match all_known {
            true => types::bounded(&Type::Record(fields)),
            false => Type::Map,
        }
    }

    /// Takes note of what cannot be none if `test` holds, or does not.
    pub(super) fn learn(&mut self, test: &Expr<'a>, holds: bool) {
        match test {
            Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) if holds => self.remember(test),
            Expr::UnaryOp(unary) if matches!(unary.op, UnaryOpKind::Not) => {
                self.learn(&unary.expr, !holds);
            }
            Expr::BinOp(op) => match op.op {
                BinOpKind::ScAnd if holds => {
                    self.learn(&op.left, true);
                    self.learn(&op.right, true);
                }
                BinOpKind::ScOr if !holds => {
                    self.learn(&op.left, false);
                    self.learn(&op.right, false);
                }
                BinOpKind::Ne | BinOpKind::Eq => {
                    let is_none = matches!(literal(&op.right), Some(Literal::Null));
                    if is_none && holds == matches!(op.op, BinOpKind::Ne) {
                        self.remember(&op.left);
                    }
                }
                _ => {}
            },
            Expr::Test(test) => match test.name {
                "none" | "undefined" if !holds => self.remember(&test.expr),
                _ => {}
            },
            _ => {}
        }
    }

    fn remember(&mut self, expr: &Expr<'a>) {
        let source = self.source(extent(expr)).to_owned();
        self.certain.push(source);
    }

    fn is_certain(&self, expr: &Expr<'a>) -> bool {
        if self.certain.is_empty() {
            return false;
        }
        let source = self.source(extent(expr));
        self.certain.iter().any(|certain| certain == source)
    }
}

/// The type of a literal.
pub(crate) fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Text(_) => Type::Text,
        Literal::Integer(_) => Type::Integer,
        Literal::Number(_) => Type::Number,
        Literal::Boolean(_) => Type::Boolean,
        Literal::Null => types::nothing(),
    }
}

fn literal_text(expr: &Expr<'_>) -> Option<String> {
    match literal(expr) {
        Some(Literal::Text(text)) => Some(text),
        _ => None,
    }
}

/// What an author who wrote `x.name` of such a value may have meant.
fn without_fields(value_type: &Type, name: &str) -> Option<String> {
    match value_type {
        Type::List(_) => Some(format!(
            "one element is `[0]`; the fields of all are `| map(attribute='{name}') | list`"
        )),
        _ if FILTERS.contains(&name) => Some(format!("there is a filter of that name: `| {name}`")),
        _ => None,
    }
}

fn sign(op: BinOpKind) -> &'static str {
    match op {
        BinOpKind::Add => "`+`",
        BinOpKind::Sub => "`-`",
        BinOpKind::Mul => "`*`",
        BinOpKind::Div => "`/`",
        BinOpKind::FloorDiv => "`//`",
        BinOpKind::Rem => "`%`",
        BinOpKind::Pow => "`**`",
        _ => "this operator",
    }
}
