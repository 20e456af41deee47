//! Attention against the formula.

use super::{
    super::testing::{Random, assert_near},
    *,
};
use half::f16;

/// The formula in f64, position by position.
fn reference(
    q: &[f32],
    rows: &[KvRow<'_>],
    (keys, values): (&[f32], &[f32]),
    block_len: usize,
    attention: &CausalAttention,
) -> Vec<f64> {
    let dim = attention.head_dim;
    let mut out = Vec::new();
    for (row, q) in rows.iter().zip(q.chunks(attention.heads * dim)) {
        for (head, q) in q.chunks(dim).enumerate() {
            let kv_head = head / (attention.heads / attention.kv_heads);
            let line = |position: usize| {
                let block = row.blocks[position / block_len] as usize;
                let line = (block * attention.kv_heads + kv_head) * block_len;
                (line + position % block_len) * dim
            };
            let seen = (0..=row.position)
                .filter(|p| attention.window.is_none_or(|w| p + w > row.position));
            let score = |position| -> f64 {
                let key = &keys[line(position)..][..dim];
                let products = q
                    .iter()
                    .zip(key)
                    .map(|(q, k)| f64::from(*q) * f64::from(*k));
                products.sum::<f64>() * f64::from(attention.scale)
            };
            let scores: Vec<(usize, f64)> = seen.map(|p| (p, score(p))).collect();
            let most = scores.iter().fold(f64::MIN, |a, b| a.max(b.1));
            let sum: f64 = scores.iter().map(|(_, s)| (s - most).exp()).sum();
            let weights: Vec<(usize, f64)> = scores
                .iter()
                .map(|(p, s)| (line(*p), (s - most).exp() / sum))
                .collect();
            out.extend((0..dim).map(|d| -> f64 {
                weights
                    .iter()
                    .map(|(at, w)| w * f64::from(values[at + d]))
                    .sum()
            }));
        }
    }
    out
}

/// Sequences of several lengths in scattered blocks; prompts and single rows mixed.
fn check(attention: &CausalAttention, block_len: usize) {
    let mut random = Random(attention.head_dim as u64);
    let lengths = [1, 3, 40, 70, 100];
    let needed = |n: &usize| n.div_ceil(block_len);
    let count: usize = lengths.iter().map(needed).sum();
    let mut free: Vec<u32> = (0..count as u32).collect();
    for i in (1..count).rev() {
        free.swap(i, random.below(i + 1));
    }
    let tables: Vec<Vec<u32>> = lengths
        .iter()
        .map(|n| free.drain(..needed(n)).collect())
        .collect();
    let mut rows = Vec::new();
    for (n, blocks) in lengths.iter().zip(&tables) {
        let first = if *n > 50 { n - 37 } else { n - 1 };
        rows.extend((first..*n).map(|position| KvRow { blocks, position }));
    }
    let cells = count * attention.kv_heads * block_len * attention.head_dim;
    let halves: Vec<Vec<f16>> = (0..2)
        .map(|_| {
            random
                .floats(cells)
                .into_iter()
                .map(f16::from_f32)
                .collect()
        })
        .collect();
    let floats: Vec<Vec<f32>> = halves
        .iter()
        .map(|x| x.iter().map(|x| x.to_f32()).collect())
        .collect();
    let q = random.floats(rows.len() * attention.heads * attention.head_dim);
    let want = reference(&q, &rows, (&floats[0], &floats[1]), block_len, attention);
    for isa in Isa::available() {
        let what = format!("{isa:?} {attention:?} {block_len}");
        let (keys, values) = (&floats[0][..], &floats[1][..]);
        let got = super::attention(
            isa,
            &q,
            &rows,
            Slab {
                keys,
                values,
                block_len,
            },
            attention,
        );
        assert_near(&what, &got, &want, |_| 1e-5);
        let (keys, values) = (&halves[0][..], &halves[1][..]);
        let got = super::attention(
            isa,
            &q,
            &rows,
            Slab {
                keys,
                values,
                block_len,
            },
            attention,
        );
        assert_near(&what, &got, &want, |_| 1e-5);
    }
}

#[test]
fn attention_equals_the_formula() {
    for (heads, kv_heads, head_dim, window, block_len) in [
        (4, 1, 256, Some(33), 16),
        (4, 1, 64, None, 128),
        (8, 8, 32, None, 8),
        (6, 2, 20, Some(1), 7),
        (14, 2, 64, None, 32),
        (3, 3, 5, Some(64), 1),
    ] {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let attention = CausalAttention {
            heads,
            kv_heads,
            head_dim,
            scale,
            window,
        };
        check(&attention, block_len);
        compute::ComputePool::new(3).install(|| check(&attention, block_len));
    }
}

#[test]
fn rows_outside_of_the_cache_do_not_fit() {
    let attention = CausalAttention {
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        scale: 1.0,
        window: None,
    };
    let row = |blocks, position| [KvRow { blocks, position }];
    assert!(attention.fits(&row(&[0, 1], 15), 64, 8));
    assert!(!attention.fits(&row(&[0, 1], 16), 64, 8)); // no third block
    assert!(!attention.fits(&row(&[0, 2], 15), 64, 8)); // not in the slab
    assert!(attention.fits(&row(&[0, 2], 7), 64, 8)); // not used
    assert!(!attention.fits(&row(&[0], 0), 64, 0));
}
