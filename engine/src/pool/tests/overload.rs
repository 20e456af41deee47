//! Five times what a node can do, in virtual time.

use super::*;

/// How an item ended, in virtual milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ended {
    Answered(u128),
    Refused(u128),
}

/// Sends 1600 items a second to a node that does 320, and gives how each ended and how many waited
/// at most.
async fn overloaded(spec: &PoolSpec, deadline: Duration) -> (Vec<Ended>, usize) {
    let pool = started(spec, |_| {
        Ok(Arc::new(Scripted {
            running: Running::OneBatch,
            takes: Duration::from_millis(100),
            gate: None,
            batches: Arc::default(),
            script: echo,
        }) as Arc<dyn Node>)
    })
    .await;
    let (mut asked, mut most) = (Vec::new(), 0);
    for _ in 0..SECONDS * 100 {
        for n in 0..16 {
            let pool = pool.clone();
            asked.push(tokio::spawn(async move {
                let begun = Instant::now();
                let mut input = item(n);
                input.context.deadline = Some(begun + deadline);
                let answer = pool.answer(input).await;
                let took = begun.elapsed().as_millis();
                match answer {
                    Ok(_) => Ended::Answered(took),
                    Err(_) => Ended::Refused(took),
                }
            }));
        }
        sleep(Duration::from_millis(10)).await;
        most = most.max(pool.status().queued);
    }
    let ended = futures::future::join_all(asked).await;
    (ended.into_iter().map(Result::unwrap).collect(), most)
}

const SECONDS: usize = 10;

#[tokio::test(start_paused = true)]
async fn what_is_let_in_is_done_by_its_deadline_and_the_node_stays_busy() {
    let spec = batched(spec(10_000, None), 32, None, Duration::ZERO);
    let deadline = Duration::from_millis(500);
    let (ended, most) = overloaded(&spec, deadline).await;
    let answered = |ended: &&Ended| matches!(ended, Ended::Answered(ms) if *ms <= 500);
    let at_once = |ended: &&Ended| **ended == Ended::Refused(0);
    let answered = ended.iter().filter(answered).count();
    let admitted = ended.len() - ended.iter().filter(at_once).count();
    let possible = 320 * SECONDS;
    assert!(answered * 10 >= possible * 9, "{answered} of {possible}");
    assert!(
        answered * 100 >= admitted * 99,
        "{answered} of {admitted} in time"
    );
    assert!(most <= 32 * 5, "{most} waited");
}

#[tokio::test(start_paused = true)]
async fn a_short_queue_bounds_the_wait_by_itself() {
    let spec = batched(spec(64, None), 32, None, Duration::ZERO);
    let (ended, most) = overloaded(&spec, Duration::from_secs(60)).await;
    let times = ended.iter().filter_map(|ended| match ended {
        Ended::Answered(ms) => Some(*ms),
        Ended::Refused(ms) => {
            assert_eq!(*ms, 0, "refused at once");
            None
        }
    });
    let times: Vec<_> = times.collect();
    let possible = 320 * SECONDS;
    assert!(
        times.len() * 10 >= possible * 9,
        "{} of {possible}",
        times.len()
    );
    assert!(
        times.iter().all(|ms| *ms <= 320),
        "two batches wait before it"
    );
    assert!(most <= 64, "{most} waited");
}
