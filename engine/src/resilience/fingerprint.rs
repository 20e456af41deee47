//! By what equal items are known to be equal.

use nodes::{Arguments, Value};
use sha2::{Digest as _, Sha256};

/// A digest of an item's arguments. Different arguments do not share one (SHA-256).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of arguments; none if a text among them is still being made.
    pub fn of(arguments: &Arguments) -> Option<Self> {
        let mut digest = Sha256::new();
        for (port, value) in arguments.iter() {
            text(&mut digest, port);
            feed(&mut digest, value)?;
        }
        Some(Self(digest.finalize().into()))
    }

    /// Of bytes.
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// Feeds a value so that no two different ones give the same bytes: each begins with what it is,
/// and whatever varies in length with its length.
fn feed(digest: &mut Sha256, value: &Value) -> Option<()> {
    match value {
        Value::None => digest.update([0]),
        Value::Boolean(boolean) => digest.update([1, u8::from(*boolean)]),
        Value::Integer(integer) => {
            digest.update([2]);
            digest.update(integer.to_le_bytes());
        }
        Value::Number(number) => {
            digest.update([3]);
            digest.update(number.to_le_bytes());
        }
        Value::Text(string) => {
            digest.update([4]);
            text(digest, string);
        }
        Value::Vector(vector) => {
            digest.update([5]);
            length(digest, vector.len());
            vector
                .iter()
                .for_each(|number| digest.update(number.to_le_bytes()));
        }
        Value::List(list) => {
            digest.update([6]);
            length(digest, list.len());
            list.iter().try_for_each(|value| feed(digest, value))?;
        }
        Value::Map(map) => {
            digest.update([7]);
            fields(digest, map)?;
        }
        Value::Document(document) => {
            digest.update([8]);
            text(digest, &document.id);
            text(digest, &document.text);
            digest.update(document.score.to_le_bytes());
            fields(digest, &document.metadata)?;
        }
        Value::Stream(_) => return None,
    }
    Some(())
}

fn fields(digest: &mut Sha256, map: &nodes::Map) -> Option<()> {
    length(digest, map.len());
    map.iter().try_for_each(|(name, value)| {
        text(digest, name);
        feed(digest, value)
    })
}

fn text(digest: &mut Sha256, text: &str) {
    length(digest, text.len());
    digest.update(text.as_bytes());
}

fn length(digest: &mut Sha256, length: usize) {
    digest.update((length as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[(&str, Value)]) -> Option<Fingerprint> {
        Fingerprint::of(&values.iter().cloned().collect())
    }

    #[test]
    fn what_differs_anywhere_differs() {
        let text = Value::text;
        let list = |values: &[Value]| Value::list(values.iter().cloned());
        let all = [
            of(&[]),
            of(&[("a", Value::None)]),
            of(&[("a", text("b"))]),
            of(&[("ab", text(""))]),
            of(&[("a", text("b")), ("a", text("c"))]),
            of(&[("a", text("c")), ("a", text("b"))]),
            of(&[("a", Value::Integer(1))]),
            of(&[("a", Value::Number(1.0))]),
            of(&[("a", list(&[text("x"), text("y")]))]),
            of(&[("a", list(&[text("xy")]))]),
            of(&[("a", list(&[list(&[text("x")]), text("y")]))]),
            of(&[("a", list(&[list(&[text("x"), text("y")])]))]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(one.is_some());
            assert!(!all[..index].contains(one), "number {index}");
        }
        assert_eq!(of(&[("a", text("b"))]), of(&[("a", text("b"))]));
    }

    #[test]
    fn a_text_that_is_being_made_has_none() {
        let (_sink, stream) = nodes::text_stream();
        assert_eq!(of(&[("a", Value::list([Value::Stream(stream)]))]), None);
    }
}
