//! The queue by example, and random sequences of operations against what must always hold.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const SECOND: Duration = Duration::from_secs(1);

fn limits(size: usize, cost: u64) -> BatchLimits {
    BatchLimits {
        size,
        cost,
        wait: Duration::ZERO,
        patience: Duration::from_millis(200),
    }
}

fn terms(key: u8, cost: u64, deadline: Option<Duration>) -> Terms<u8> {
    Terms {
        key,
        cost,
        deadline,
    }
}

/// The occasion of a replica that can take keys from 0 to 9 at once, and for which those from 20 are
/// not meant; capitals have been abandoned.
fn at(now: Duration, limits: BatchLimits) -> Occasion<'static, u8, char> {
    Occasion {
        now,
        limits,
        idle: true,
        is_resident: &|key| *key < 10,
        is_elsewhere: &|key| *key >= 20,
        is_abandoned: &|item| item.is_uppercase(),
    }
}

fn batch(queue: &mut Queue<u8, char>, now: Duration, limits: BatchLimits) -> String {
    match queue.next(&at(now, limits)) {
        Next::Batch { items, .. } => items.into_iter().collect(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_earliest_deadline_comes_first_and_then_the_earliest_arrival() {
    let mut queue = Queue::new();
    for (item, deadline) in [('a', None), ('b', Some(9)), ('c', Some(5)), ('d', Some(5))] {
        let deadline = deadline.map(|seconds| SECOND * seconds);
        assert_eq!(
            queue.ahead(Duration::ZERO, deadline),
            match item {
                'd' => 1,
                _ => 0,
            }
        );
        queue.push(Duration::ZERO, terms(0, 1, deadline), item);
    }
    assert_eq!(queue.ahead(Duration::ZERO, None), 4);
    assert_eq!(batch(&mut queue, SECOND, limits(3, 100)), "cdb");
    assert_eq!(batch(&mut queue, SECOND, limits(3, 100)), "a");
    assert_eq!(batch(&mut queue, SECOND, limits(3, 100)), "Empty");
}

#[test]
fn what_belongs_elsewhere_waits_for_it_only_so_long() {
    let mut queue = Queue::new();
    let start = SECOND;
    queue.push(start, terms(20, 1, None), 'a');
    queue.push(start, terms(21, 1, Some(start + SECOND / 5)), 'b');
    let until = |milliseconds| {
        format!(
            "Wait {{ until: {:?} }}",
            Duration::from_millis(milliseconds)
        )
    };
    // A quarter of the fifth of a second that `b` has.
    assert_eq!(batch(&mut queue, start, limits(8, 100)), until(1050));
    queue.push(start, terms(10, 1, None), 'c');
    assert_eq!(
        batch(&mut queue, start, limits(8, 100)),
        "c",
        "it is cold, and waits for nobody"
    );
    assert_eq!(batch(&mut queue, start + SECOND / 10, limits(8, 100)), "b");
    assert_eq!(
        batch(&mut queue, start + SECOND / 10, limits(8, 100)),
        until(1200)
    );
    assert_eq!(batch(&mut queue, start + SECOND / 5, limits(8, 100)), "a");
}

#[test]
fn cost_bounds_a_batch_and_an_oversize_item_runs_alone() {
    let mut queue = Queue::new();
    for (item, cost) in [('a', 4), ('b', 4), ('c', 50), ('d', 1)] {
        queue.push(Duration::ZERO, terms(0, cost, None), item);
    }
    assert_eq!(batch(&mut queue, SECOND, limits(8, 10)), "ab");
    assert_eq!(batch(&mut queue, SECOND, limits(8, 10)), "c");
    assert_eq!(batch(&mut queue, SECOND, limits(8, 10)), "d");
}

#[test]
fn a_batch_waits_for_more_only_while_nothing_runs_and_no_longer_than_it_may() {
    let waiting = BatchLimits {
        wait: SECOND * 2,
        ..limits(2, 100)
    };
    let mut queue = Queue::new();
    queue.push(SECOND, terms(0, 1, None), 'a');
    let next = queue.next(&at(SECOND, waiting));
    assert_eq!(next, Next::Wait { until: SECOND * 3 });
    let busy = Occasion {
        idle: false,
        ..at(SECOND * 2, waiting)
    };
    let expected = Next::Batch {
        items: vec!['a'],
        waited: SECOND,
    };
    assert_eq!(queue.next(&busy), expected);
    queue.push(SECOND * 3, terms(0, 1, None), 'b');
    queue.push(SECOND * 3, terms(0, 1, None), 'c');
    assert_eq!(batch(&mut queue, SECOND * 3, waiting), "bc");
    // It is due in a second, and waits for half of it.
    queue.push(SECOND * 4, terms(0, 1, Some(SECOND * 5)), 'd');
    let next = queue.next(&at(SECOND * 4, waiting));
    assert_eq!(
        next,
        Next::Wait {
            until: SECOND * 9 / 2
        }
    );
}

#[test]
fn keys_are_not_mixed_and_keep_their_order() {
    let mut queue = Queue::new();
    for (item, key) in [('a', 1), ('b', 2), ('c', 1), ('d', 2), ('e', 1)] {
        queue.push(Duration::ZERO, terms(key, 1, None), item);
    }
    assert_eq!(batch(&mut queue, SECOND, limits(2, 100)), "ac");
    assert_eq!(batch(&mut queue, SECOND, limits(2, 100)), "bd");
    assert_eq!(batch(&mut queue, SECOND, limits(2, 100)), "e");
}

#[test]
fn what_is_resident_goes_first_for_a_while() {
    let mut queue = Queue::new();
    let soon = Duration::from_millis(150);
    queue.push(Duration::ZERO, terms(10, 1, None), 'a');
    queue.push(Duration::ZERO, terms(1, 1, None), 'b');
    queue.push(soon, terms(1, 1, None), 'c');
    assert_eq!(batch(&mut queue, soon, limits(1, 100)), "b");
    let later = Duration::from_millis(200);
    assert_eq!(batch(&mut queue, later, limits(1, 100)), "a");
    // Alone, it need not wait for anybody.
    queue.remove(|item| *item == 'c');
    queue.push(later, terms(10, 1, None), 'd');
    assert_eq!(batch(&mut queue, later, limits(1, 100)), "d");
}

#[test]
fn late_hopeless_and_unwanted_items_leave() {
    let mut queue = Queue::new();
    for (item, deadline) in [('a', Some(1)), ('b', Some(2)), ('c', None), ('D', Some(9))] {
        let deadline = deadline.map(|seconds| SECOND * seconds);
        queue.push(Duration::ZERO, terms(0, 1, deadline), item);
    }
    assert_eq!(queue.take_late(SECOND), ['a']);
    assert_eq!(queue.take_hopeless(SECOND * 3), ['b']);
    assert_eq!(batch(&mut queue, SECOND, limits(8, 100)), "c");
    assert_eq!(queue.len(), 0, "the abandoned one is gone too");
    queue.push(SECOND, terms(0, 1, Some(SECOND * 3)), 'e');
    assert!(queue.take_hopeless(SECOND * 4).is_empty(), "none but these");
}

#[test]
fn an_item_without_a_deadline_is_passed_over_for_a_minute_at_most() {
    let mut queue = Queue::new();
    queue.push(Duration::ZERO, terms(0, 1, None), 'z');
    for second in 0..120 {
        let now = SECOND * second;
        // As many come as go, each due within ten seconds.
        queue.push(now, terms(0, 1, Some(now + SECOND * 10)), 'a');
        if batch(&mut queue, now, limits(1, 100)) == "z" {
            assert!(second <= 60, "after {second} s");
            return;
        }
    }
    panic!("it starved");
}

/// What may be done to a queue.
#[derive(Debug, Clone)]
enum Step {
    Push {
        key: u8,
        cost: u64,
        deadline: Option<u64>,
    },
    Pass {
        milliseconds: u64,
    },
    Leave {
        which: usize,
    },
    Late,
    Hopeless {
        within: u64,
    },
    Next {
        resident: u8,
        idle: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u8, 1..30_u64, prop::option::of(1..3000_u64))
            .prop_map(|(key, cost, deadline)| Step::Push { key, cost, deadline }),
        3 => (0..300_u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
        1 => any::<usize>().prop_map(|which| Step::Leave { which }),
        1 => Just(Step::Late),
        1 => (0..1000_u64).prop_map(|within| Step::Hopeless { within }),
        4 => (0..16_u8, any::<bool>()).prop_map(|(resident, idle)| Step::Next { resident, idle }),
    ]
}

/// An item as the model below knows it.
#[derive(Debug, Clone)]
struct Known {
    id: usize,
    terms: Terms<u8>,
    since: Duration,
}

impl Known {
    fn place(&self) -> (Duration, usize) {
        (due(self.since, self.terms.deadline), self.id)
    }

    fn is_patient(&self, now: Duration, limits: BatchLimits) -> bool {
        let slack = self.terms.deadline.map(|deadline| deadline - self.since);
        let quarter = slack.map_or(limits.patience, |slack| limits.patience.min(slack / 4));
        now < self.since + quarter
    }
}

/// A queue beside a plain list of what is in it.
struct Model {
    queue: Queue<u8, usize>,
    now: Duration,
    waiting: Vec<Known>,
    left: BTreeSet<usize>,
    pushed: usize,
    limits: BatchLimits,
}

impl Model {
    fn new(limits: BatchLimits) -> Self {
        Self {
            queue: Queue::new(),
            now: Duration::ZERO,
            waiting: Vec::new(),
            left: BTreeSet::new(),
            pushed: 0,
            limits,
        }
    }

    fn apply(&mut self, step: &Step) {
        let milliseconds = Duration::from_millis;
        match *step {
            Step::Push {
                key,
                cost,
                deadline,
            } => {
                let deadline = deadline.map(|after| self.now + milliseconds(after));
                let (terms, since) = (terms(key, cost, deadline), self.now);
                let id = self.pushed;
                self.pushed += 1;
                let place = (due(since, deadline), id);
                let ahead = self.waiting.iter().filter(|known| known.place() < place);
                assert_eq!(self.queue.ahead(self.now, deadline), ahead.count());
                self.waiting.push(Known { id, terms, since });
                self.waiting.sort_by_key(Known::place);
                self.queue.push(self.now, terms, id);
            }
            Step::Pass {
                milliseconds: passed,
            } => self.now += milliseconds(passed),
            Step::Leave { which } if self.pushed > 0 => {
                self.left.insert(which % self.pushed);
            }
            Step::Leave { .. } => {}
            Step::Late => {
                let late = self.queue.take_late(self.now);
                self.expect_until(self.now, &late);
            }
            Step::Hopeless { within } => {
                let end = self.now + milliseconds(within);
                let all = self.waiting.iter().all(|known| is_over(known, end));
                let hopeless = self.queue.take_hopeless(end);
                match all {
                    true => assert!(hopeless.is_empty()),
                    false => self.expect_until(end, &hopeless),
                }
            }
            Step::Next { resident, idle } => {
                self.next(resident, idle);
            }
        }
        assert_eq!(self.queue.len(), self.waiting.len());
    }

    /// Exactly the items over at `end` were taken, in their order.
    fn expect_until(&mut self, end: Duration, taken: &[usize]) {
        let over = self.waiting.iter().filter(|known| is_over(known, end));
        assert_eq!(taken, over.map(|known| known.id).collect::<Vec<_>>());
        self.waiting.retain(|known| !is_over(known, end));
    }

    /// Whether a batch was formed.
    fn next(&mut self, resident: u8, idle: bool) -> bool {
        let is_resident = |key: &u8| resident & (1 << key) != 0;
        let left = self.left.clone();
        let next = self.queue.next(&Occasion {
            now: self.now,
            limits: self.limits,
            idle,
            is_resident: &is_resident,
            is_elsewhere: &|_| false,
            is_abandoned: &|id| left.contains(id),
        });
        let (now, limits) = (self.now, self.limits);
        let present = |known: &&Known| !left.contains(&known.id);
        let may_lead =
            |known: &Known| is_resident(&known.terms.key) || !known.is_patient(now, limits);
        let first = self
            .waiting
            .iter()
            .filter(present)
            .find(|known| may_lead(known));
        let first = first.or_else(|| self.waiting.iter().find(present)).cloned();
        match next {
            Next::Empty => assert!(first.is_none()),
            Next::Wait { until } => {
                assert!(idle && until > now);
                let key = first.unwrap().terms.key;
                let all: Vec<_> = self.waiting.iter().filter(present).collect();
                assert!(all.iter().all(|known| known.terms.key == key));
                assert!(all.iter().all(|known| until <= known.since + limits.wait));
                let cost: u64 = all.iter().map(|known| known.terms.cost).sum();
                assert!(all.len() < limits.size && cost < limits.cost);
            }
            Next::Batch { items, .. } => {
                let key = first.unwrap().terms.key;
                let of_key = |known: &&Known| known.terms.key == key;
                let expected = self.waiting.iter().filter(present).filter(of_key);
                let expected: Vec<_> = expected.take(items.len()).cloned().collect();
                let ids: Vec<_> = expected.iter().map(|known| known.id).collect();
                assert_eq!(items, ids, "the first of their key, in order");
                assert!(!items.is_empty() && items.len() <= limits.size);
                let cost: u64 = expected.iter().map(|known| known.terms.cost).sum();
                assert!(cost <= limits.cost || items.len() == 1);
                self.waiting.retain(|known| !ids.contains(&known.id));
                self.forget_left();
                return true;
            }
        }
        self.forget_left();
        false
    }

    /// Those who left may be dropped whenever they are met; which of them is no matter.
    fn forget_left(&mut self) {
        let left = self.left.clone();
        self.queue.remove(|id| left.contains(id));
        self.waiting.retain(|known| !left.contains(&known.id));
    }
}

fn is_over(known: &Known, end: Duration) -> bool {
    known.terms.deadline.is_some_and(|deadline| deadline <= end)
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_mixed_or_too_large(
        steps in prop::collection::vec(step(), 0..200),
        size in 1..5_usize,
        cost in 1..40_u64,
        wait in 0..20_u64,
    ) {
        let limits = BatchLimits {
            wait: Duration::from_millis(wait),
            ..limits(size, cost)
        };
        let mut model = Model::new(limits);
        for step in &steps {
            model.apply(step);
        }
        // What is left comes out, though nothing is resident.
        model.now += HORIZON;
        while model.next(0, true) {}
        prop_assert_eq!(model.queue.len(), 0);
        prop_assert!(model.waiting.is_empty(), "lost: {:?}", model.waiting);
    }
}
