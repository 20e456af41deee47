use super::*;
use crate::metrics::Metrics;
use tokio::time::{advance, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn room(slots: usize, queued: usize) -> Room {
    Room {
        slots,
        queued,
        ..Room::default()
    }
}

fn gate(room: Room) -> Arc<Gate> {
    let gate = Gate::new(Arc::new(Metrics::new().node("graph", "node")));
    gate.set(room);
    gate
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn places_are_counted_and_handed_on_in_the_order_of_deadlines() {
    let gate = gate(room(1, 4));
    let begun = Instant::now();
    let enter = |seconds| {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move { gate.enter(Some(begun + SECOND * seconds)).await })
    };
    let (first, second) = (enter(9).await.unwrap(), enter(9).await.unwrap());
    let (late, soon, gone) = (enter(8), enter(5), enter(2));
    settle().await;
    assert_eq!(gate.waiting(), 3);
    assert_eq!(gate.metrics.queued.get(), 3);
    // One holds a place, one is about to come, three wait: that is all.
    let refused = gate.enter(None).await.unwrap_err();
    assert!(matches!(refused, NodeError::Full { .. }));
    gone.abort();
    settle().await;
    assert_eq!(gate.waiting(), 2);
    drop(first);
    let soon = soon.await.unwrap().unwrap();
    assert!(!late.is_finished());
    drop((second, soon));
    assert!(late.await.unwrap().is_ok());
    settle().await;
    assert_eq!(gate.line().inside, 0);
    assert_eq!((gate.waiting(), gate.metrics.queued.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_done_in_time_does_not_wait() {
    let gate = gate(Room {
        service: Some(SECOND),
        ..room(1, 100)
    });
    let inside = [gate.enter(None).await, gate.enter(None).await];
    assert!(inside.iter().all(Result::is_ok));
    // One is half done and one waits before it.
    let soon = Some(Instant::now() + SECOND * 2);
    let refused = gate.enter(soon).await.unwrap_err();
    assert!(matches!(refused, NodeError::Full { .. }), "{refused}");
    let later = Some(Instant::now() + SECOND * 3);
    let patient = timeout(SECOND, gate.enter(later)).await;
    assert!(patient.is_err(), "it waits");
    assert_eq!(gate.metrics.shed_late.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_longer_way_to_the_node_needs_more_places() {
    let gate = gate(Room {
        service: Some(SECOND),
        ..room(2, 100)
    });
    assert_eq!(gate.line().places(), 4);
    for _ in 0..50 {
        let place = gate.enter(None).await.unwrap();
        advance(SECOND * 3).await;
        place.arrive();
    }
    // Three rounds are on their way, and timers are late by a little.
    assert_eq!(gate.line().places(), 11);
    gate.set(room(2, 5));
    assert_eq!(gate.line().places(), 4);
}

#[tokio::test(start_paused = true)]
async fn more_room_lets_more_in_and_a_deadline_ends_the_wait() {
    let gate = gate(room(1, 100));
    let _inside = [gate.enter(None).await, gate.enter(None).await];
    let waits = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.enter(None).await }
    });
    let late = gate.enter(Some(Instant::now() + SECOND)).await.unwrap_err();
    assert!(matches!(late, NodeError::Timeout { after } if after == SECOND));
    assert!(!waits.is_finished());
    gate.set(room(2, 100));
    assert!(waits.await.unwrap().is_ok());
    // A node that cannot answer says so itself.
    gate.set(Room {
        open: true,
        ..room(1, 0)
    });
    for _ in 0..5 {
        assert!(gate.enter(None).await.is_ok());
    }
}

#[tokio::test]
async fn a_hundred_thousand_that_leave_leave_no_place_behind() {
    let gate = gate(room(4, 1000));
    for round in 0..1000_u64 {
        let asked: Vec<_> = (0..100)
            .map(|_| {
                let gate = Arc::clone(&gate);
                tokio::spawn(async move { gate.enter(None).await })
            })
            .collect();
        if round % 3 != 0 {
            tokio::task::yield_now().await;
        }
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        for asked in asked {
            drop(asked.await);
        }
    }
    assert_eq!(gate.line().inside, 0);
    assert_eq!((gate.waiting(), gate.metrics.queued.get()), (0, 0));
}
