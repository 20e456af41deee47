//! The likeliest tokens are those of all logits, to the bit, however few of them are computed.

use super::*;

/// Single rows, rows with guesses, and rows of several texts at once, each with margins of its own.
#[test]
fn the_likeliest_tokens_are_those_of_all_logits() {
    let model = gemma();
    let mut bench = Bench::new(Arc::clone(&model));
    let (mut lists, mut listed) = (0, 0);
    for case in read::<Cases>("gemma.json").generate {
        let margins = [0.0, 0.5, 3.0];
        let mut of_all: Vec<_> = margins.map(|_| bench.sequence()).into();
        let mut near: Vec<_> = margins.map(|_| bench.sequence()).into();
        let mut unread = case.tokens.clone();
        for next in case.greedy.chunks(4).take(3) {
            // The first of the rows after the prompt is read, the others are guesses.
            let guessed = unread.len().min(4) - 1;
            let mut step = |sequences: &mut [Sequence], wanted: &dyn Fn(usize) -> Wanted| {
                let rows = sequences.iter_mut().enumerate();
                let mut rows: Vec<_> = rows
                    .map(|(index, sequence)| SequenceRows {
                        sequence,
                        tokens: &unread,
                        adapter: None,
                        logits: wanted(index),
                        guessed,
                    })
                    .collect();
                let Bench { model, cache, pool } = &mut bench;
                let logits = pool
                    .install(|| model.decoder.step(cache, &mut rows))
                    .unwrap();
                for sequence in sequences {
                    cache.advance(sequence, guessed);
                }
                logits
            };
            let all = step(&mut of_all, &|_| Wanted::All);
            let near = step(&mut near, &|index| Wanted::Within(margins[index]));
            assert_eq!(
                (all.rows(), near.rows()),
                (3 * (guessed + 1), 3 * (guessed + 1))
            );
            let mut pairs = |all: &[Scores<'_>], near: &[Scores<'_>]| {
                for (row, (all, near)) in all.iter().zip(near).enumerate() {
                    let (_, best) = all.likeliest().unwrap();
                    let margin = margins[row / (guessed + 1)];
                    let within = |(_, logit): &(u32, f32)| *logit >= best - margin;
                    assert!(near.iter().filter(within).eq(all.iter().filter(within)));
                    if let Scores::Largest(list) = near {
                        lists += 1;
                        listed += list.len();
                    }
                }
            };
            all.read(|all| near.read(|near| pairs(all, near)))
                .unwrap()
                .unwrap();
            unread = next.to_vec();
        }
        for sequence in of_all.into_iter().chain(near) {
            bench.cache.release(sequence);
        }
    }
    println!("{lists} lists of {listed} tokens");
    if has_kernels(&real_models::device()) {
        assert!(lists > 500 && listed < 1000 * lists);
    }
}
