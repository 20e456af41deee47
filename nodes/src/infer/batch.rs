//! Items that share a request. Pure.

use super::tensor::Tensor;
use tokio::time::Instant;

/// An item as the model takes it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// In the order of the model's inputs.
    pub(super) tensors: Vec<Tensor>,
    /// How many dimensions of 1 were put before those of every value.
    pub(super) added: usize,
    pub(super) deadline: Option<Instant>,
}

impl Item {
    /// Its rows, if all of its tensors have as many and it has any.
    fn rows(&self) -> Option<usize> {
        let first = self.tensors.first()?.rows()?;
        let even = self
            .tensors
            .iter()
            .all(|tensor| tensor.rows() == Some(first));
        (even && first > 0).then_some(first)
    }

    fn joins(&self, other: &Self) -> bool {
        let mut pairs = self.tensors.iter().zip(&other.tensors);
        self.rows().is_some() && other.rows().is_some() && pairs.all(|(one, two)| one.joins(two))
    }
}

/// The places of items that can share a request, those of each request together.
pub(super) fn groups(items: &[Option<Item>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&Item, Vec<usize>)> = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let Some(item) = item else { continue };
        match groups.iter_mut().find(|(first, _)| first.joins(item)) {
            Some((_, group)) => group.push(place),
            None => groups.push((item, vec![place])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The tensors of a request for items of one group.
pub(super) fn together(items: &[&Item]) -> Vec<Tensor> {
    let Some(first) = items.first() else {
        return Vec::new();
    };
    let inputs = 0..first.tensors.len();
    let all = |input: usize| Tensor::join(items.iter().filter_map(|item| item.tensors.get(input)));
    inputs.filter_map(all).collect()
}

/// The answer's rows, each item's own; what was asked for alone is whole.
///
/// # Errors
/// It has not as many rows as the items.
pub(super) fn apart(items: &[&Item], answer: Tensor) -> Result<Vec<Tensor>, String> {
    match items {
        [_] => Ok(vec![answer]),
        items => {
            let rows: Vec<usize> = items.iter().map(|item| item.rows().unwrap_or(1)).collect();
            answer.split(&rows)
        }
    }
}

/// When the last of the items has no time left; none if one of them has no bound.
pub(super) fn latest(items: &[&Item]) -> Option<Instant> {
    let deadlines: Option<Vec<_>> = items.iter().map(|item| item.deadline).collect();
    deadlines?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, infer::datatype::Datatype};

    fn item(json: &str, shape: &[usize]) -> Item {
        let value = Value::from_json(json.as_bytes()).unwrap();
        Item {
            tensors: vec![Tensor::from_json(Datatype::Int8, shape.to_vec(), &value).unwrap()],
            added: 0,
            deadline: None,
        }
    }

    #[test]
    fn items_of_one_shape_share_a_request() {
        let items = [
            Some(item("[1, 2]", &[1, 2])),
            None,
            Some(item("[1, 2, 3]", &[1, 3])),
            Some(item("[3, 4, 5, 6]", &[2, 2])),
            Some(item("[]", &[0, 2])),
        ];
        // One without rows is on its own: what came back could not be told apart.
        assert_eq!(groups(&items), [vec![0, 3], vec![2], vec![4]]);
        let pair = [items[0].as_ref().unwrap(), items[3].as_ref().unwrap()];
        let all = together(&pair);
        assert_eq!(all[0].shape(), [3, 2]);
        let parts = apart(&pair, all[0].clone()).unwrap();
        assert_eq!(
            parts,
            [pair[0].tensors[0].clone(), pair[1].tensors[0].clone()]
        );
        let wrong = item("[1]", &[1, 1]).tensors.remove(0);
        assert!(apart(&pair, wrong.clone()).is_err());
        assert_eq!(apart(&pair[..1], wrong.clone()).unwrap(), [wrong]);
    }
}
