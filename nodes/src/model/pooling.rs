//! From the rows of a text to one vector.

/// How the rows of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all rows.
    Mean,
    /// The first row, which belongs to the model's own mark.
    First,
    /// The largest value of each column.
    Max,
    /// The sum of all rows over the root of their number.
    MeanRoot,
}

impl Pooling {
    /// Pools `rows`, which lie one after the other and are at least one, into `vector`.
    pub(super) fn pool(self, rows: &[f32], vector: &mut [f32]) {
        let width = vector.len();
        let (first, rest) = rows.split_at(width);
        vector.copy_from_slice(first);
        if self == Pooling::First {
            return;
        }
        for row in rest.chunks_exact(width) {
            let pairs = vector.iter_mut().zip(row);
            match self {
                Pooling::Max => pairs.for_each(|(sum, x)| *sum = sum.max(*x)),
                _ => pairs.for_each(|(sum, x)| *sum += x),
            }
        }
        let count = (rows.len() / width) as f32;
        match self {
            Pooling::Mean => vector.iter_mut().for_each(|x| *x /= count),
            Pooling::MeanRoot => vector.iter_mut().for_each(|x| *x /= count.sqrt()),
            Pooling::First | Pooling::Max => {}
        }
    }
}

/// Brings a vector to length 1; one of length 0 stays as it is.
pub(super) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [f32; 6] = [1.0, -2.0, 3.0, 4.0, 2.0, 1.0];

    fn pooled(pooling: Pooling) -> [f32; 2] {
        let mut vector = [9.0; 2];
        pooling.pool(&ROWS, &mut vector);
        vector
    }

    #[test]
    fn rows_are_pooled_column_by_column() {
        assert_eq!(pooled(Pooling::Mean), [2.0, 1.0]);
        assert_eq!(pooled(Pooling::First), [1.0, -2.0]);
        assert_eq!(pooled(Pooling::Max), [3.0, 4.0]);
        let root = 3f32.sqrt();
        assert_eq!(pooled(Pooling::MeanRoot), [6.0 / root, 3.0 / root]);
    }

    #[test]
    fn a_vector_of_zeros_stays() {
        let mut zeros = [0.0; 3];
        normalise(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }
}
