//! What a search costs: milliseconds a query over 10,000 and 100,000 documents, one thread.
//!
//! `cargo bench -p nodes --bench index` prints a table; with `-- 10000`, for that many documents.

use nodes::{
    Value,
    index::{Filter, Index, Manifest, Query, Record},
};
use std::{error::Error, time::Duration};
use tokio::time::Instant;

const DIMENSIONS: usize = 384;
const QUERIES: usize = 60;
const WORDS: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let sizes: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let sizes = if sizes.is_empty() {
        vec![10_000, 100_000]
    } else {
        sizes
    };
    for documents in sizes {
        measure(documents)?;
    }
    Ok(())
}

fn measure(documents: usize) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut random = Random(1);
    let centres: Vec<Vec<f32>> = (0..1000).map(|_| random.vector()).collect();
    let started = Instant::now();
    let index = Index::create(folder.path(), &Manifest::new(Some(DIMENSIONS), None))?;
    let mut writer = index.writer()?;
    for number in 0..documents {
        writer.upsert(&random.record(number, &centres))?;
    }
    writer.finish()?;
    let built = started.elapsed();
    drop(index);
    let started = Instant::now();
    let exact = Index::open_exact_to(folder.path(), usize::MAX)?;
    let opened = started.elapsed();
    let bytes = Index::open_exact_to(folder.path(), 0)?;
    println!(
        "{documents} documents of {DIMENSIONS} numbers: built in {built:.1?}, opened in {opened:.1?}, {} MiB",
        exact.facts()?.bytes >> 20
    );

    let vectors: Vec<Vec<f32>> = (0..QUERIES).map(|_| random.near(&centres)).collect();
    let texts: Vec<String> = (0..QUERIES).map(|_| random.text(3)).collect();
    let few = filter("part", Value::Integer(7))?;
    let fifth = filter("fifth", Value::Boolean(true))?;
    let half = filter("half", Value::Boolean(true))?;
    let cases: [(&str, &Index, bool, bool, Option<&Filter>); 10] = [
        ("vector, exact", &exact, true, false, None),
        ("vector, bytes", &bytes, true, false, None),
        ("vector, exact, 1 in 1000", &exact, true, false, Some(&few)),
        ("vector, exact, 1 in 2", &exact, true, false, Some(&half)),
        ("vector, bytes, 1 in 2", &bytes, true, false, Some(&half)),
        ("vector, exact, 1 in 5", &exact, true, false, Some(&fifth)),
        ("words", &exact, false, true, None),
        ("words, 1 in 2", &exact, false, true, Some(&half)),
        ("both, exact", &exact, true, true, None),
        ("both, bytes", &bytes, true, true, None),
    ];
    for (name, index, vector, text, filter) in cases {
        let mut times = Vec::with_capacity(QUERIES);
        for (one, other) in vectors.iter().zip(&texts) {
            let query = Query {
                vector: vector.then_some(&one[..]),
                text: text.then_some(&other[..]),
                top_k: 10,
                filter,
            };
            let started = Instant::now();
            std::hint::black_box(index.search(&query)?);
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, slow) = (ms(times[QUERIES / 2]), ms(times[QUERIES * 9 / 10]));
        println!("  {name:26} p50 {median:8.3} ms   p90 {slow:8.3} ms");
    }
    println!(
        "  recall at 10, bytes        {:.4}",
        recall(&exact, &bytes, &vectors)?
    );
    Ok(())
}

fn recall(exact: &Index, bytes: &Index, vectors: &[Vec<f32>]) -> Result<f64, Box<dyn Error>> {
    let mut found = 0;
    for vector in vectors {
        let query = Query {
            vector: Some(vector),
            top_k: 10,
            ..Query::default()
        };
        let truth = exact.search(&query)?;
        let answer = bytes.search(&query)?;
        let there = |id: &str| truth.iter().any(|document| &*document.id == id);
        found += answer.iter().filter(|document| there(&document.id)).count();
    }
    Ok(found as f64 / (10 * vectors.len()) as f64)
}

fn filter(name: &str, value: Value) -> Result<Filter, nodes::NodeError> {
    Filter::from_map(&[(name.into(), value)].into_iter().collect())
}

/// Random numbers that are the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSIONS)
            .map(|_| self.uniform() + self.uniform() - 1.0)
            .collect()
    }

    fn near(&mut self, centres: &[Vec<f32>]) -> Vec<f32> {
        let centre = &centres[self.next() as usize % centres.len()];
        let noise = self.vector();
        centre
            .iter()
            .zip(noise)
            .map(|(value, noise)| value + 0.5 * noise)
            .collect()
    }

    /// Words of which few are frequent and many rare.
    fn text(&mut self, words: usize) -> String {
        let word = |random: &mut Self| {
            let rank = (WORDS as f32).powf(random.uniform()) as u64;
            format!("w{rank} ")
        };
        (0..words).map(|_| word(self)).collect()
    }

    fn record(&mut self, number: usize, centres: &[Vec<f32>]) -> Record {
        let metadata = [
            ("part", Value::Integer((number % 1000) as i64)),
            ("fifth", Value::Boolean(number.is_multiple_of(5))),
            ("half", Value::Boolean(number.is_multiple_of(2))),
        ];
        Record {
            id: number.to_string().into(),
            text: self.text(60).into(),
            metadata: metadata
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
            vector: Some(self.near(centres)),
        }
    }
}
