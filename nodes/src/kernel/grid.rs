//! How a product is divided among the threads.

use crate::compute;
use std::ops::Range;

/// The units of a product: blocks of rows times columns of the weight, which are its panels or tiles.
///
/// The columns are shared out evenly, and units are numbered thread by thread, in the way in which
/// [`compute::parallel`] shares them out. A thread takes the first block of rows through all of its columns,
/// then the next: a weight comes from memory once, and then from a cache, and columns come in their order, so
/// that the next may be asked for ahead of its turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    rows: usize,
    /// Rows in a block; the last may have fewer.
    block: usize,
    blocks: usize,
    columns: usize,
    threads: usize,
}

impl Grid {
    /// For the threads of the current pool.
    pub(super) fn new(rows: usize, block: usize, columns: usize) -> Self {
        Self {
            rows,
            block,
            blocks: rows.div_ceil(block),
            columns,
            threads: compute::current_threads(),
        }
    }

    /// How many units there are.
    pub(super) fn units(self) -> usize {
        self.blocks * self.columns
    }

    /// The rows of a unit, and its column.
    #[inline(always)]
    pub(super) fn unit(self, unit: usize) -> (Range<usize>, usize) {
        if self.blocks == 1 {
            return (0..self.rows, unit);
        }
        // The last thread whose first unit is not after this one.
        let thread = ((unit / self.blocks + 1) * self.threads - 1) / self.columns;
        let columns = compute::share(thread, self.threads, self.columns);
        let unit = unit - columns.start * self.blocks;
        let row = unit / columns.len() * self.block;
        let rows = row..self.rows.min(row + self.block);
        (rows, columns.start + unit % columns.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grid(rows: usize, block: usize, columns: usize, threads: usize) -> Grid {
        compute::ComputePool::new(threads).install(|| Grid::new(rows, block, columns))
    }

    #[test]
    fn each_thread_has_its_columns_with_all_rows() {
        let grid = grid(7, 3, 5, 2);
        let units: Vec<_> = (0..grid.units()).map(|unit| grid.unit(unit)).collect();
        let rows = [0..3, 3..6, 6..7];
        let of = |columns: Range<usize>| {
            let with = |rows: &Range<usize>| columns.clone().map(|c| (rows.clone(), c)).collect();
            rows.iter().map(with).collect::<Vec<Vec<_>>>().concat()
        };
        assert_eq!(units, [of(0..2), of(2..5)].concat());
    }

    proptest! {
        #[test]
        fn every_row_meets_every_column_once(
            rows in 1usize..40,
            block in 1usize..10,
            columns in 1usize..30,
            threads in 1usize..6,
        ) {
            let grid = grid(rows, block, columns, threads);
            let mut met = vec![0; rows * columns];
            for unit in 0..grid.units() {
                let (range, column) = grid.unit(unit);
                prop_assert!(range.len() <= block);
                for row in range {
                    met[row * columns + column] += 1;
                }
            }
            prop_assert!(met.iter().all(|count| *count == 1));
        }
    }
}
