//! The helpers of a pool, and how one thread hands them work.
//!
//! ```text
//! owner                                     helper
//! writes the job, opens, counts up ──────►  sees a new round: enters if still open
//! takes units of its share, then of others  takes units of its share, then of others
//! closes; waits until nobody is inside ◄──  leaves; the last one out wakes the owner
//! ```
//!
//! A helper that comes after the owner closed has missed nothing, and nobody has waited for it. The
//! job lies where a helper may look only between entering and leaving, and the owner writes it only
//! while the place is closed and empty.
//!
//! Every thread has a share of the units, one after the other, and takes parts of it in their order: what a
//! kernel asks for ahead of its turn is then what comes next on the same thread. Who is through takes
//! parts of the other shares.

use super::INSIDE;
use std::{
    any::Any,
    cell::UnsafeCell,
    hint::spin_loop,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        },
    },
    thread::{self, JoinHandle, Thread},
};

/// How often a waiting thread looks before it parks: some ten microseconds. More would steal time
/// from others on a busy machine.
const SPINS: usize = 1000;
/// Set in [`Shared::door`] while helpers may enter.
const OPEN: usize = 1;
/// What each helper inside adds to [`Shared::door`].
const INSIDE_ONE: usize = 2;
/// Into how many parts for each thread a job is cut, so that a slow thread holds up little.
const PARTS: usize = 6;

/// The helpers, ended on drop.
#[derive(Debug)]
pub(super) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

/// What the owner and its helpers share.
pub(super) struct Shared {
    /// Counts jobs; helpers wait for it to change.
    round: AtomicUsize,
    /// [`OPEN`], and [`INSIDE_ONE`] for each helper that is inside.
    door: AtomicUsize,
    /// For each thread, the owner first: how many units of its share are taken, or more.
    taken: Vec<Taken>,
    /// See the module's documentation for who may look when.
    job: UnsafeCell<Option<Job>>,
    /// Somebody hands out work.
    owned: AtomicBool,
    stop: AtomicBool,
    /// The helpers that sleep or are about to.
    asleep: Vec<AtomicBool>,
    /// Their handles; written once, before the first job.
    handles: Mutex<Vec<Thread>>,
}

/// A count on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Taken(AtomicUsize);

/// One call of [`Shared::run`].
struct Job {
    work: *const (dyn Fn(Range<usize>) + Sync),
    units: usize,
    /// Units taken at a time.
    part: usize,
    owner: Thread,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: all but `job` is `Sync` by itself. `job` is written by the owner alone, while no helper is
// inside; `door` orders its writes before a helper's entering (release, acquire) and a helper's
// leaving before the next write. `Job::work` points to something that is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

impl Team {
    /// Starts this many helpers; fewer if the system gives no more threads.
    pub(super) fn start(helpers: usize) -> Self {
        let shared = Arc::new(Shared {
            round: AtomicUsize::new(0),
            door: AtomicUsize::new(0),
            taken: (0..=helpers).map(|_| Taken::default()).collect(),
            job: UnsafeCell::new(None),
            owned: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asleep: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
            handles: Mutex::new(Vec::new()),
        });
        let start = |me: usize| {
            let shared = Arc::clone(&shared);
            let name = thread::Builder::new().name(format!("compute-{me}"));
            name.spawn(move || shared.help(me)).ok()
        };
        let helpers: Vec<_> = (0..helpers).map_while(start).collect();
        let handles = helpers.iter().map(|helper| helper.thread().clone());
        *lock(&shared.handles) = handles.collect();
        Self { shared, helpers }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper catches the panics of its work, so joining cannot fail.
            let _ = helper.join();
        }
    }
}

impl Shared {
    /// Threads that compute, the owner among them.
    pub(super) fn threads(&self) -> usize {
        self.asleep.len() + 1
    }

    /// Runs `work` over all units, with whoever comes to help.
    pub(super) fn run(&self, units: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        if self.owned.swap(true, Acquire) {
            return work(0..units); // another thread is at it
        }
        let part = (units / (self.threads() * PARTS)).max(1);
        for taken in &self.taken {
            taken.0.store(0, Relaxed);
        }
        // SAFETY: this thread owns the place (`owned`), and it is closed and empty: it was so in the
        // beginning, and every owner leaves it so. The lifetime of `work` may be forgotten because
        // helpers are gone before this function returns; it does not unwind in between.
        unsafe {
            *self.job.get() = Some(Job {
                work: std::mem::transmute::<
                    *const (dyn Fn(Range<usize>) + Sync + '_),
                    *const (dyn Fn(Range<usize>) + Sync + 'static),
                >(work),
                units,
                part,
                owner: thread::current(),
                panic: Mutex::new(None),
            });
        }
        self.door.store(OPEN, Release);
        self.round.fetch_add(1, SeqCst);
        self.wake(units.div_ceil(part) - 1);
        // SAFETY: written above, and only read from here on.
        let job = unsafe { (*self.job.get()).as_ref() };
        if let Some(job) = job {
            let outside = INSIDE.replace(true);
            self.work(job, 0);
            INSIDE.set(outside);
        }
        self.door.fetch_and(!OPEN, AcqRel);
        self.wait_until_empty();
        // SAFETY: closed and empty again.
        let job = unsafe { (*self.job.get()).take() };
        self.owned.store(false, Release);
        let panic = job.and_then(|job| lock(&job.panic).take());
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Wakes up to `wanted` helpers that sleep.
    fn wake(&self, wanted: usize) {
        let sleeping = |asleep: &AtomicBool| asleep.load(SeqCst) && asleep.swap(false, SeqCst);
        if !self.asleep.iter().any(|asleep| asleep.load(SeqCst)) {
            return;
        }
        let handles = lock(&self.handles);
        let sleepers = handles.iter().zip(&self.asleep);
        for (helper, _) in sleepers.filter(|(_, asleep)| sleeping(asleep)).take(wanted) {
            helper.unpark();
        }
    }

    /// Takes units until none is left, those of its own share first.
    fn work(&self, job: &Job, me: usize) {
        let threads = self.threads();
        for thread in (me..threads).chain(0..me) {
            let share = share(thread, threads, job.units);
            loop {
                let start = share.start + self.taken[thread].0.fetch_add(job.part, Relaxed);
                if start >= share.end {
                    break;
                }
                let units = start..share.end.min(start + job.part);
                // SAFETY: the owner keeps what this points to until nobody is inside.
                let work = AssertUnwindSafe(|| unsafe { (*job.work)(units) });
                if let Err(panic) = catch_unwind(work) {
                    for taken in &self.taken {
                        taken.0.store(job.units, Relaxed); // the rest is of no use
                    }
                    lock(&job.panic).get_or_insert(panic);
                }
            }
        }
    }

    fn wait_until_empty(&self) {
        for _ in 0..SPINS {
            if self.door.load(Acquire) == 0 {
                return;
            }
            spin_loop();
        }
        while self.door.load(Acquire) != 0 {
            thread::park();
        }
    }

    /// The life of a helper.
    fn help(&self, me: usize) {
        INSIDE.set(true);
        let mut seen = 0;
        while let Some(round) = self.next_round(me, seen) {
            seen = round;
            if !self.enter() {
                continue;
            }
            // SAFETY: inside, so the owner does not write.
            let job = unsafe { (*self.job.get()).as_ref() };
            let owner = job.map(|job| {
                self.work(job, me + 1);
                job.owner.clone()
            });
            let last = self.door.fetch_sub(INSIDE_ONE, AcqRel) == INSIDE_ONE;
            if let Some(owner) = owner.filter(|_| last) {
                owner.unpark();
            }
        }
    }

    /// Waits for another round than `seen`: awake for a moment, then asleep. None at the end.
    fn next_round(&self, me: usize, seen: usize) -> Option<usize> {
        for _ in 0..SPINS {
            let round = self.round.load(Acquire);
            if round != seen {
                return Some(round);
            }
            spin_loop();
        }
        loop {
            // First announce, then look: the owner first counts, then looks who sleeps.
            self.asleep[me].store(true, SeqCst);
            let round = self.round.load(SeqCst);
            let stop = self.stop.load(SeqCst);
            if stop || round != seen {
                self.asleep[me].store(false, SeqCst);
                return (!stop).then_some(round);
            }
            thread::park();
        }
    }

    /// Goes inside, if the door is open.
    fn enter(&self) -> bool {
        let inside = |door| (door & OPEN != 0).then_some(door + INSIDE_ONE);
        self.door.fetch_update(AcqRel, Acquire, inside).is_ok()
    }
}

/// The share of one of so many threads in `0..n`, as even as can be.
pub(crate) fn share(thread: usize, threads: usize, n: usize) -> Range<usize> {
    thread * n / threads..(thread + 1) * n / threads
}

/// The content of a mutex; a panic while it was held has left it whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
