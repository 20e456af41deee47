//! Values inside templates and back.
//!
//! Lists, maps, vectors and documents are shown to minijinja through wrappers that hold the same
//! pointer, and a wrapper that comes back unchanged is unwrapped: a value that only passes through
//! an expression stays itself and is never copied.

use super::{Document, Map, Value};
use minijinja::{
    Error, ErrorKind,
    value::{Enumerator, Object, ObjectExt as _, ObjectRepr, Value as Shown, ValueKind},
};
use std::sync::Arc;

/// Most elements that an expression may make; those of lists that it only hands on do not count.
const MAX_ELEMENTS: usize = 1_000_000;

/// How deeply what an expression makes may be nested.
const MAX_DEPTH: usize = 128;

impl Value {
    /// The value as a template sees it; a pointer copy.
    pub fn to_template(&self) -> Shown {
        match self {
            Value::None => Shown::from(()),
            Value::Boolean(boolean) => Shown::from(*boolean),
            Value::Integer(integer) => Shown::from(*integer),
            Value::Number(number) => Shown::from(*number),
            Value::Text(text) => Shown::from(text),
            Value::Vector(vector) => Shown::from_object(VectorObject(Arc::clone(vector))),
            Value::List(list) => Shown::from_object(ListObject(Arc::clone(list))),
            Value::Map(map) => Shown::from_object(MapObject(Arc::clone(map))),
            Value::Document(document) => Shown::from_object(DocumentObject(document.clone())),
            Value::Stream(_) => Shown::from(Error::new(
                ErrorKind::InvalidOperation,
                "a stream must be collected before a template reads it",
            )),
        }
    }

    /// What an expression yielded; a pointer copy where it handed a value on.
    ///
    /// # Errors
    /// It is undefined, not a value (a function, say), nested too deeply, or too large.
    pub fn from_template(shown: &Shown) -> Result<Self, Error> {
        let mut elements = MAX_ELEMENTS;
        convert(shown, &mut elements, MAX_DEPTH)
    }
}

fn convert(shown: &Shown, elements: &mut usize, depth: usize) -> Result<Value, Error> {
    match shown.kind() {
        ValueKind::None => Ok(Value::None),
        ValueKind::Bool => Ok(Value::Boolean(shown.is_true())),
        ValueKind::Number => number(shown),
        ValueKind::String => Ok(shown.to_str().map_or(Value::None, Value::Text)),
        ValueKind::Undefined => Err(Error::new(
            ErrorKind::UndefinedError,
            "the expression is undefined",
        )),
        // The iteration reports the error that an invalid value carries.
        ValueKind::Invalid => match shown.try_iter() {
            Err(error) => Err(error),
            Ok(_) => Err(no_value(ValueKind::Invalid)),
        },
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::Plain => {
            unwrap(shown).map_or_else(|| build(shown, elements, depth), Ok)
        }
        other => Err(no_value(other)),
    }
}

fn number(shown: &Shown) -> Result<Value, Error> {
    if shown.is_integer()
        && let Some(integer) = shown.as_i64()
    {
        return Ok(Value::Integer(integer));
    }
    f64::try_from(shown.clone()).map(Value::Number)
}

/// The value behind one of our own wrappers.
fn unwrap(shown: &Shown) -> Option<Value> {
    if let Some(list) = shown.downcast_object_ref::<ListObject>() {
        return Some(Value::List(Arc::clone(&list.0)));
    }
    if let Some(map) = shown.downcast_object_ref::<MapObject>() {
        return Some(Value::Map(Arc::clone(&map.0)));
    }
    if let Some(document) = shown.downcast_object_ref::<DocumentObject>() {
        return Some(Value::Document(document.0.clone()));
    }
    let vector = shown.downcast_object_ref::<VectorObject>()?;
    Some(Value::Vector(Arc::clone(&vector.0)))
}

/// A value from a collection that the expression made.
fn build(shown: &Shown, elements: &mut usize, depth: usize) -> Result<Value, Error> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("the result is nested more than {MAX_DEPTH} levels deep"),
        ));
    };
    let mut next = |shown: &Shown| {
        *elements = elements.checked_sub(1).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("the result has more than {MAX_ELEMENTS} elements"),
            )
        })?;
        convert(shown, elements, depth)
    };
    match shown.kind() {
        ValueKind::Map => {
            let mut map = Map::new();
            for key in shown.try_iter()?.checked() {
                let key = key?;
                let value = next(&shown.get_item(&key)?)?;
                let name = key.to_str().unwrap_or_else(|| key.to_string().into());
                map.insert(name, value);
            }
            Ok(Value::Map(Arc::new(map)))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let elements = shown.try_iter()?.checked();
            let list: Result<Vec<_>, _> = elements.map(|element| next(&element?)).collect();
            Ok(Value::List(list?.into()))
        }
        other => Err(no_value(other)),
    }
}

fn no_value(kind: ValueKind) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("the expression yields a {kind}, which is not a value"),
    )
}

#[derive(Debug)]
struct ListObject(Arc<[Value]>);

impl Object for ListObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.0.get(key.as_usize()?).map(Value::to_template)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

#[derive(Debug)]
struct VectorObject(Arc<[f32]>);

impl Object for VectorObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.0.get(key.as_usize()?).copied().map(Shown::from)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

#[derive(Debug)]
struct MapObject(Arc<Map>);

impl Object for MapObject {
    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Shown> {
        self.0.get(key).map(Value::to_template)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_key_value_enumerator(|this| {
            let entries = this.0.iter();
            Box::new(entries.map(|(key, value)| (Shown::from(key), value.to_template())))
        })
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }
}

#[derive(Debug)]
struct DocumentObject(Document);

impl Object for DocumentObject {
    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Shown> {
        self.0.field(key).map(|value| value.to_template())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&Document::FIELDS)
    }
}

impl Document {
    /// The names of its fields.
    pub const FIELDS: [&'static str; 4] = ["id", "text", "score", "metadata"];

    /// The value of one of [`Document::FIELDS`].
    pub fn field(&self, name: &str) -> Option<Value> {
        Some(match name {
            "id" => Value::Text(Arc::clone(&self.id)),
            "text" => Value::Text(Arc::clone(&self.text)),
            "score" => Value::Number(self.score),
            "metadata" => Value::Map(Arc::clone(&self.metadata)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use minijinja::{Environment, context};

    fn value() -> Value {
        let document = |id: &str, score| {
            Value::Document(Document {
                id: id.into(),
                text: "some text".into(),
                score,
                metadata: Arc::new(Map::from_iter([("page".into(), Value::Integer(3))])),
            })
        };
        Value::list([document("a", 0.5), document("b", 0.25)])
    }

    fn eval(expression: &str, value: &Value) -> Result<Value, Error> {
        let environment = Environment::new();
        let expression = environment.compile_expression(expression)?;
        Value::from_template(&expression.eval(context! { v => value.to_template() })?)
    }

    fn check(expression: &str, value: &Value, expect: Expect) {
        expect.assert_eq(&match eval(expression, value) {
            Ok(value) => String::from_utf8(value.to_json().unwrap()).unwrap(),
            Err(error) => format!("error: {error:#}"),
        });
    }

    #[test]
    fn a_value_that_passes_through_stays_itself() {
        let list = value();
        let (Value::List(before), Value::List(after)) =
            (&list, eval("v if v | length > 1 else []", &list).unwrap())
        else {
            panic!("not lists");
        };
        assert!(Arc::ptr_eq(before, &after));

        let vector = Value::Vector([1.0, 2.0].into());
        let map = Value::Map(Arc::new(Map::from_iter([("x".into(), vector.clone())])));
        let (Value::Vector(before), Value::Vector(after)) = (&vector, eval("v.x", &map).unwrap())
        else {
            panic!("not vectors");
        };
        assert!(Arc::ptr_eq(before, &after));
    }

    #[test]
    fn documents_have_fields_and_lists_keep_them() {
        let documents = value();
        check(
            "v | map(attribute='id') | list",
            &documents,
            expect![[r#"["a","b"]"#]],
        );
        check(
            "v | sort(attribute='score') | first",
            &documents,
            expect![[r#"{"id":"b","text":"some text","score":0.25,"metadata":{"page":3}}"#]],
        );
        check("v[-1].metadata.page + 1", &documents, expect!["4"]);
        check(
            "{'n': v | length, 'half': 1 / 2}",
            &documents,
            expect![[r#"{"n":2,"half":0.5}"#]],
        );
        check(
            "v[0].nothing",
            &documents,
            expect!["error: undefined value: the expression is undefined"],
        );
    }

    #[test]
    fn what_is_not_a_value_is_an_error() {
        check(
            "v[7]",
            &value(),
            expect!["error: undefined value: the expression is undefined"],
        );
        check(
            "range",
            &value(),
            expect![
                "error: invalid operation: the expression yields a plain object, which is not a value"
            ],
        );
        check("range(99999) | list | length", &value(), expect!["99999"]);
        check(
            "[1] * 2000000",
            &value(),
            expect!["error: invalid operation: the result has more than 1000000 elements"],
        );
    }

    #[test]
    fn whole_numbers_stay_whole() {
        check(
            "v",
            &Value::Integer(i64::MAX),
            expect!["9223372036854775807"],
        );
        check("v", &Value::Number(2.0), expect!["2.0"]);
        check("v * 2", &Value::Integer(21), expect!["42"]);
    }
}
