//! The threads that a model computes on.
//!
//! Each replica has a [`ComputePool`] of its own, as large as `resources cpu=` says, and its forward
//! runs inside of [`ComputePool::install`]. The kernels divide their work with [`parallel`]. Between
//! the many small steps of a forward the threads wait awake for some ten microseconds, because
//! sleeping and waking would cost more than a step; then they park, so an idle replica uses no CPU.
//! A thread that another program keeps from running delays nobody: whoever runs takes the work.
//!
//! This is not a general scheduler: no tasks, no queues, and no waiting for input or output.

mod team;

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    sync::{Arc, OnceLock},
};
use team::{Shared, Team};

pub(crate) use team::share;

thread_local! {
    /// The pool behind [`parallel`] on this thread.
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
    /// Whether this thread is inside of a parallel call already.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The compute threads of one replica. Dropping it ends them.
#[derive(Debug)]
pub struct ComputePool {
    team: Team,
}

impl ComputePool {
    /// A pool that computes on this many threads, at least one. The caller's is one of them, so one
    /// less is started.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            team: Team::start(threads.max(1) - 1),
        }
    }

    /// How many threads compute.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.team.shared().threads()
    }

    /// Runs `work` on this thread, with this pool behind every [`parallel`] in it.
    pub fn install<T>(&self, work: impl FnOnce() -> T) -> T {
        let shared = Some(Arc::clone(self.team.shared()));
        let _before = Restore(CURRENT.replace(shared));
        work()
    }
}

/// Puts the pool before back, after a panic too.
struct Restore(Option<Arc<Shared>>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// How many threads [`parallel`] would use here: those of the current pool, or 1.
#[must_use]
pub fn current_threads() -> usize {
    if INSIDE.get() {
        return 1;
    }
    CURRENT.with_borrow(|pool| pool.as_ref().map_or(1, |pool| pool.threads()))
}

/// Runs `work` over parts of `0..n` on the threads of the current pool, and returns when all are
/// done.
///
/// Each thread has a share of them, and takes parts of it in their order; who is through takes of others.
/// Without a pool, inside of another call, or while another thread uses the pool, all of it runs on
/// this thread. A panic in a part reaches the caller; parts that nobody had begun are skipped then.
pub fn parallel(n: usize, work: impl Fn(Range<usize>) + Sync) {
    if n == 0 {
        return;
    }
    let pool = if n == 1 || INSIDE.get() {
        None
    } else {
        CURRENT.with_borrow(Clone::clone)
    };
    match pool {
        Some(pool) if pool.threads() > 1 => pool.run(n, &work),
        _ => work(0..n),
    }
}

/// What [`parallel`] may run, to be [run](run_all) together with others.
#[must_use]
pub(crate) struct Work<'a> {
    units: usize,
    run: Box<dyn Fn(Range<usize>) + Sync + 'a>,
}

impl<'a> Work<'a> {
    /// `run` over `0..units`.
    pub(crate) fn new(units: usize, run: impl Fn(Range<usize>) + Sync + 'a) -> Self {
        Self {
            units,
            run: Box::new(run),
        }
    }
}

/// Runs all, one after the other, as one: threads meet once, and not after each.
pub(crate) fn run_all(works: &[Work<'_>]) {
    parallel(works.iter().map(|work| work.units).sum(), |units| {
        let mut first = 0;
        for work in works {
            let end = first + work.units;
            let of_work = units.start.clamp(first, end)..units.end.clamp(first, end);
            if !of_work.is_empty() {
                (work.run)(of_work.start - first..of_work.end - first);
            }
            first = end;
        }
    });
}

/// What `work` gives for each of `0..n`, in their order, computed as [`parallel`] does.
pub fn map<T: Send + Sync>(n: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let results: Vec<OnceLock<T>> = (0..n).map(|_| OnceLock::new()).collect();
    parallel(n, |range| {
        for (index, result) in range.clone().zip(&results[range]) {
            result.get_or_init(|| work(index));
        }
    });
    // None is missing: what was not computed has panicked.
    results
        .into_iter()
        .filter_map(OnceLock::into_inner)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::HashSet,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            Barrier, Mutex,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        thread,
    };

    /// Every index is visited once, whatever the number of threads and of indices.
    #[test]
    fn covers_each_index_once() {
        for threads in 1..5 {
            let pool = ComputePool::new(threads);
            for n in [0, 1, 2, 3, 7, 64, 1000] {
                let seen: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                pool.install(|| {
                    parallel(n, |range| {
                        for i in range {
                            seen[i].fetch_add(1, SeqCst);
                        }
                    });
                });
                assert!(seen.iter().all(|count| count.load(SeqCst) == 1));
            }
        }
    }

    #[test]
    fn results_come_in_order() {
        let pool = ComputePool::new(3);
        for n in [0, 1, 2, 50] {
            let squares = pool.install(|| map(n, |i| i * i));
            assert_eq!(squares, (0..n).map(|i| i * i).collect::<Vec<_>>());
        }
    }

    #[test]
    fn all_units_of_all_works_run_once() {
        let seen: [[AtomicUsize; 7]; 4] = Default::default();
        let sizes = [3, 0, 7, 1];
        let works: Vec<Work<'_>> = (sizes.iter().zip(&seen))
            .map(|(units, seen)| {
                Work::new(*units, |range: Range<usize>| {
                    range.for_each(|unit| {
                        seen[unit].fetch_add(1, SeqCst);
                    });
                })
            })
            .collect();
        ComputePool::new(3).install(|| run_all(&works));
        for (seen, units) in seen.iter().zip(sizes) {
            let times: Vec<usize> = seen.iter().map(|count| count.load(SeqCst)).collect();
            let want: Vec<usize> = (0..7).map(|unit| usize::from(unit < units)).collect();
            assert_eq!(times, want);
        }
    }

    #[test]
    fn parts_run_at_the_same_time_on_different_threads() {
        let pool = ComputePool::new(3);
        let (barrier, ids) = (Barrier::new(3), Mutex::new(HashSet::new()));
        pool.install(|| {
            parallel(3, |_| {
                barrier.wait(); // passes only when three threads are here
                ids.lock().unwrap().insert(thread::current().id());
            });
        });
        assert_eq!(ids.lock().unwrap().len(), 3);
    }

    #[test]
    fn each_thread_begins_with_its_own_share() {
        let (pool, barrier) = (ComputePool::new(2), Barrier::new(2));
        let begun = Mutex::new(HashSet::new());
        pool.install(|| {
            parallel(24, |range| {
                if [0, 12].contains(&range.start) {
                    barrier.wait(); // passes only when both threads are here
                    begun.lock().unwrap().insert(thread::current().id());
                }
            });
        });
        assert_eq!(begun.lock().unwrap().len(), 2);
    }

    #[test]
    fn shares_are_even_and_cover_everything() {
        for (threads, n) in [(1, 5), (2, 5), (3, 2), (4, 0), (7, 100)] {
            let shares: Vec<_> = (0..threads).map(|i| share(i, threads, n)).collect();
            let all: Vec<usize> = shares.iter().cloned().flatten().collect();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
            assert!(
                shares
                    .iter()
                    .all(|share| share.len().abs_diff(n / threads) <= 1)
            );
        }
    }

    #[test]
    fn runs_here_without_a_pool_and_inside_of_a_part() {
        let here = thread::current().id();
        parallel(8, |range| {
            assert_eq!((thread::current().id(), range), (here, 0..8));
        });
        let pool = ComputePool::new(2);
        pool.install(|| {
            assert_eq!(current_threads(), 2);
            parallel(4, |_| {
                let part = thread::current().id();
                assert_eq!(current_threads(), 1);
                parallel(5, |range| {
                    assert_eq!((thread::current().id(), range), (part, 0..5));
                });
            });
        });
        assert_eq!(current_threads(), 1);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = ComputePool::new(4);
        for guilty in [0, 5, 99] {
            let run = || {
                parallel(100, |range| {
                    assert!(!range.contains(&guilty), "part {guilty}")
                });
            };
            let caught = catch_unwind(AssertUnwindSafe(|| pool.install(run)));
            let message = caught.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(*message, format!("part {guilty}"));
            let sum = AtomicUsize::new(0);
            pool.install(|| {
                parallel(100, |range| {
                    sum.fetch_add(range.sum(), SeqCst);
                });
            });
            assert_eq!(sum.load(SeqCst), 4950);
        }
    }

    /// Threads that park and threads that still spin take up work alike, many times over.
    #[test]
    fn wakes_up_after_every_length_of_rest() {
        let pool = ComputePool::new(3);
        for round in 0..2000u64 {
            if round % 100 == 0 {
                thread::sleep(std::time::Duration::from_millis(2));
            }
            let sum = AtomicUsize::new(0);
            pool.install(|| {
                parallel(round as usize % 9, |range| {
                    sum.fetch_add(range.len(), SeqCst);
                });
            });
            assert_eq!(sum.load(SeqCst), round as usize % 9);
        }
    }

    #[test]
    fn two_callers_at_once_both_finish() {
        let pool = ComputePool::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let sum = AtomicUsize::new(0);
                        pool.install(|| {
                            parallel(50, |range| {
                                sum.fetch_add(range.len(), SeqCst);
                            });
                        });
                        assert_eq!(sum.load(SeqCst), 50);
                    }
                });
            }
        });
    }

    /// CPU time of this process, from the kernel's clock ticks.
    #[cfg(target_os = "linux")]
    fn helper_ticks(pool: &str) -> u64 {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok())
            .filter(|stat| stat.contains(pool))
            .map(|stat| {
                let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
                fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
            })
            .sum()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_idle_pool_uses_no_cpu() {
        let pool = ComputePool::new(6);
        pool.install(|| parallel(100, |_| thread::yield_now()));
        thread::sleep(std::time::Duration::from_millis(50));
        let before = helper_ticks("compute-4");
        thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(helper_ticks("compute-4"), before);
    }
}
