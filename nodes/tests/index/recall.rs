//! Above the size for exact comparison, the scan over bytes finds what an exact one would.

use crate::{Random, ids, record};
use nodes::index::{EXACT_ROWS, Index, Manifest, Query};
use tempfile::TempDir;

const DIMENSIONS: usize = 64;

/// Vectors in clusters: neighbours are close to each other, as those of real texts are.
fn clustered(random: &mut Random, count: usize) -> Vec<Vec<f32>> {
    let centres: Vec<_> = (0..200).map(|_| random.vector(DIMENSIONS)).collect();
    let near = |random: &mut Random| {
        let centre = &centres[random.below(200) as usize];
        centre
            .iter()
            .map(|value| value + 0.3 * random.normal())
            .collect()
    };
    (0..count).map(|_| near(random)).collect()
}

#[test]
fn bytes_with_a_second_look_find_the_nearest() {
    let mut random = Random(11);
    let vectors = clustered(&mut random, 20_000);
    let folder = TempDir::new().unwrap();
    let exact = Index::create(folder.path(), &Manifest::new(Some(DIMENSIONS), None)).unwrap();
    let mut writer = exact.writer().unwrap();
    for (number, vector) in vectors.iter().enumerate() {
        writer
            .upsert(&record(&number.to_string(), "", vector))
            .unwrap();
        // So that values turn into bytes in the middle, and later chunks are added to them.
        if number == 5_000 || number == 15_000 {
            writer.commit().unwrap();
        }
    }
    writer.finish().unwrap();
    assert!(vectors.len() < EXACT_ROWS);
    let approximate = Index::open_exact_to(folder.path(), 10_000).unwrap();

    let queries = clustered(&mut Random(12), 50)
        .into_iter()
        .chain(vectors[..50].iter().cloned());
    let (mut found, mut wanted) = (0, 0);
    for query in queries {
        for top_k in [1, 10, 100] {
            let query = Query {
                vector: Some(&query),
                top_k,
                ..Query::default()
            };
            let truth = exact.search(&query).unwrap();
            let answer = approximate.search(&query).unwrap();
            assert_eq!(answer.len(), top_k);
            let truth = ids(&truth);
            found += ids(&answer).iter().filter(|id| truth.contains(id)).count();
            wanted += top_k;
        }
    }
    let recall = found as f64 / wanted as f64;
    println!("recall {recall}");
    assert!(recall >= 0.99, "{recall}");
}

#[test]
fn growing_past_the_size_changes_nothing_but_the_form() {
    let mut random = Random(13);
    let vectors = clustered(&mut random, 3_000);
    let folder = TempDir::new().unwrap();
    drop(Index::create(folder.path(), &Manifest::new(Some(DIMENSIONS), None)).unwrap());
    let index = Index::open_exact_to(folder.path(), 1_500).unwrap();
    let mut writer = index.writer().unwrap();
    for (number, vector) in vectors.iter().enumerate() {
        writer
            .upsert(&record(&number.to_string(), "", vector))
            .unwrap();
        if number % 700 == 0 {
            writer.commit().unwrap();
        }
    }
    writer.commit().unwrap();
    for (number, vector) in vectors.iter().enumerate() {
        let query = Query {
            vector: Some(vector),
            top_k: 1,
            ..Query::default()
        };
        let found = index.search(&query).unwrap();
        assert_eq!(ids(&found), [number.to_string()]);
        assert!(
            (found[0].score - 1.0).abs() < 1e-5,
            "scores are exact, not those of bytes"
        );
    }
}
