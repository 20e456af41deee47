//! Under load nothing is lost and nothing is answered twice.

use crate::kit::{PATIENCE, client, file, generation, save, step, until};
use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tests::{Engine, write_graph};
use tokio::time::{Instant, sleep, timeout};

/// How long it takes from the beginning of a write to the first answer of what was written, and how
/// often was asked.
async fn first_answer(engine: &Engine, path: &Path, number: usize) -> (Duration, usize) {
    let begun = Instant::now();
    save(path, &file(number));
    let mut asked = 1;
    let asking = async {
        while step(engine).await != number.to_string() {
            asked += 1;
            sleep(Duration::from_millis(2)).await;
        }
    };
    let found = timeout(PATIENCE, asking).await;
    assert!(found.is_ok(), "{}", engine.log());
    (begun.elapsed(), asked)
}

/// The nearest rank of a percentile, in milliseconds.
fn percentile(times: impl Iterator<Item = Duration>, share: f64) -> f64 {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let rank = (share * times.len() as f64).ceil() as usize;
    let time = times.get(rank.max(1) - 1).copied().unwrap_or_default();
    time.as_secs_f64() * 1e3
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_nothing_and_repeat_nothing() {
    let reloads = std::env::var("ENGINE_RELOADS").map_or(12, |n| n.parse().unwrap());
    let (_folder, path) = write_graph(&file(0));
    let engine = Arc::new(Engine::start(&path));
    let stop = Arc::new(AtomicBool::new(false));
    let start = |number| tokio::spawn(client(Arc::clone(&engine), number, Arc::clone(&stop)));
    let clients: Vec<_> = (0..4).map(start).collect();
    // Once all is warm, a second of quiet to compare with.
    sleep(Duration::from_millis(500)).await;
    let warm = Instant::now();
    sleep(Duration::from_secs(1)).await;
    let (begun, mut published) = (Instant::now(), 1);
    // The step is asked for once more at the end.
    let (mut firsts, mut asked) = (Vec::new(), 1);
    for number in 1..=reloads {
        if number % 5 == 0 {
            save(&path, "graph echo {");
            until(&engine, "/status", |status| {
                status["last_reload"]["ok"] == false
            })
            .await;
        }
        let (first, asks) = first_answer(&engine, &path, number).await;
        firsts.push(first);
        asked += asks;
        published += 1;
        generation(&engine, published).await;
    }
    stop.store(true, Relaxed);
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    let ids: HashSet<_> = all.iter().map(|one| &one.id).collect();
    let answered = all.len();
    assert_eq!(ids.len(), answered);
    let p99 = |quiet: bool| {
        let warm = all.iter().filter(|one| one.asked >= warm);
        let phase = warm.filter(|one| (one.asked < begun) == quiet);
        percentile(phase.map(|one| one.took), 0.99)
    };
    println!(
        "{reloads} reloads, {answered} requests; first new answer after p50 {:.0} ms, p99 {:.0} ms; \
         p99 of all answers {:.2} ms, quiet {:.2} ms: {:.2} times",
        percentile(firsts.iter().copied(), 0.5),
        percentile(firsts.iter().copied(), 0.99),
        p99(false),
        p99(true),
        p99(false) / p99(true)
    );
    assert!(answered > reloads, "{answered} requests are no load");
    assert_eq!(step(&engine).await, reloads.to_string());
    let metrics = engine
        .send(engine.client().get(engine.admin("/metrics")))
        .await;
    // Those that asked for the step are counted too.
    let expected = format!(
        "engine_node_requests_total{{graph=\"echo\",node=\"parts\"}} {}",
        answered + asked
    );
    assert!(
        metrics.text.contains(&expected),
        "{expected}\n{}",
        metrics.text
    );
    let failed = metrics
        .text
        .lines()
        .find(|line| line.starts_with("engine_requests_total") && !line.contains("code=\"200\""));
    assert_eq!(failed, None);
}
