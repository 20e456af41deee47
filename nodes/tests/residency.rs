//! Which adapters are in memory: a scripted loader, and time that only passes when a test says so.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use nodes::{
    NodeError,
    residency::{Bounds, Listed, Loaded, Loader, Policy, Residency, State},
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};
use tokio::time::{advance, sleep};

/// Waits for what the loader does to be allowed.
type Gate = mpsc::Receiver<()>;

/// What lies under the names.
#[derive(Default)]
struct Files {
    /// Bytes, and a text that is both stamp and generation; an error instead if it begins with `!`.
    files: BTreeMap<String, (u64, String)>,
    /// Every load, in the order in which they began.
    loads: Vec<String>,
    under_way: Vec<String>,
    gates: BTreeMap<String, Gate>,
}

#[derive(Clone, Default)]
struct Script(Arc<Mutex<Files>>);

impl Script {
    /// Files `a` to `h` of ten bytes.
    fn new() -> Self {
        let script = Self::default();
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            script.put(name, 10, "1");
        }
        script
    }

    fn put(&self, name: &str, bytes: u64, text: &str) {
        let mut files = self.0.lock().unwrap();
        files.files.insert(name.into(), (bytes, text.into()));
    }

    fn remove(&self, name: &str) {
        self.0.lock().unwrap().files.remove(name);
    }

    /// Holds loads of a name up until something is sent.
    fn gate(&self, name: &str) -> mpsc::Sender<()> {
        let (open, gate) = mpsc::channel();
        self.0.lock().unwrap().gates.insert(name.into(), gate);
        open
    }

    fn loads(&self) -> Vec<String> {
        self.0.lock().unwrap().loads.clone()
    }

    fn under_way(&self) -> usize {
        self.0.lock().unwrap().under_way.len()
    }

    fn find(&self, name: &str) -> Result<(u64, String), NodeError> {
        let found = self.0.lock().unwrap().files.get(name).cloned();
        found.ok_or_else(|| NodeError::NotFound {
            what: "adapter",
            name: name.to_owned(),
        })
    }
}

impl Loader<String> for Script {
    fn names(&self) -> Result<Vec<String>, NodeError> {
        Ok(self.0.lock().unwrap().files.keys().cloned().collect())
    }

    fn stamp(&self, name: &str) -> Result<String, NodeError> {
        Ok(self.find(name)?.1)
    }

    fn load(&self, name: &str) -> Result<Loaded<String>, NodeError> {
        let gate = {
            let mut files = self.0.lock().unwrap();
            assert!(
                !files.under_way.contains(&name.to_owned()),
                "{name} is loaded twice at once"
            );
            files.under_way.push(name.to_owned());
            files.loads.push(name.to_owned());
            files.gates.remove(name)
        };
        if let Some(gate) = gate {
            gate.recv().unwrap();
        }
        self.0
            .lock()
            .unwrap()
            .under_way
            .retain(|other| other != name);
        let (bytes, text) = self.find(name)?;
        if text.starts_with('!') {
            return Err(NodeError::failed(text));
        }
        Ok(Loaded {
            value: format!("{name} {text}"),
            bytes,
            generation: text.trim_end_matches('\'').to_owned(),
            stamp: text,
        })
    }
}

const POLICY: Policy = Policy {
    bounds: Bounds {
        max_loaded: 3,
        max_bytes: 100,
        min_residency: Duration::from_secs(1),
    },
    refusal_ttl: Duration::from_secs(5),
    check_interval: Duration::from_secs(1),
};

fn residency(script: &Script) -> Residency<String> {
    Residency::new(script.clone(), POLICY)
}

/// Waits until the keeper has done what it was told so far.
async fn settle(residency: &Residency<String>) {
    assert!(!residency.unload("nothing").await);
}

/// Uses each for a moment.
async fn visit(residency: &Residency<String>, names: &str) {
    for name in names.split_whitespace() {
        drop(residency.get(name).await.unwrap());
        settle(residency).await;
    }
}

/// The names of what is held.
async fn held(residency: &Residency<String>) -> String {
    settle(residency).await;
    let lines = residency.list().unwrap();
    let loaded = lines
        .iter()
        .filter(|line| matches!(line.state, State::Loaded { .. }));
    let names: Vec<&str> = loaded.map(|line| &*line.name).collect();
    names.join(" ")
}

fn line(residency: &Residency<String>, name: &str) -> Listed {
    let lines = residency.list().unwrap();
    lines.into_iter().find(|line| &*line.name == name).unwrap()
}

/// Waits for other tasks and threads. No paused time passes: it would not while a load is held up.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if what() {
            return;
        }
        tokio::task::yield_now().await;
        std::thread::sleep(Duration::from_micros(500));
    }
    panic!("it never happened");
}

#[tokio::test(start_paused = true)]
async fn the_one_that_was_unused_for_the_longest_time_goes() {
    let script = Script::new();
    let residency = residency(&script);
    visit(&residency, "a b c").await;
    advance(Duration::from_secs(2)).await;
    visit(&residency, "a d").await;
    assert_eq!(held(&residency).await, "a c d");
    let snapshot = residency.snapshot();
    assert_eq!((snapshot.hits, snapshot.misses), (1, 4));
    assert_eq!((snapshot.loads, snapshot.evictions), (4, 1));
    assert_eq!(
        (snapshot.loaded, snapshot.bytes, snapshot.leases),
        (3, 30, 0)
    );
    script.put("e", 95, "1");
    advance(Duration::from_secs(2)).await;
    visit(&residency, "e").await;
    assert_eq!(held(&residency).await, "e");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_larger_than_all_room_is_an_error() {
    let script = Script::new();
    script.put("a", 101, "1");
    let residency = residency(&script);
    let error = residency.get("a").await.unwrap_err().to_string();
    assert_eq!(error, "adapter \"a\" takes 101B and max-bytes is 100B");
}

#[tokio::test(start_paused = true)]
async fn who_asks_at_the_same_time_waits_for_the_same_load() {
    let script = Script::new();
    let open = script.gate("a");
    let residency = residency(&script);
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let residency = residency.clone();
            tokio::spawn(async move { residency.get("a").await.unwrap() })
        })
        .collect();
    until(|| script.under_way() == 1).await;
    open.send(()).unwrap();
    let first = residency.get("a").await.unwrap();
    for asked in asking {
        assert!(Arc::ptr_eq(&asked.await.unwrap(), &first));
    }
    assert_eq!(script.loads(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn several_are_loaded_at_once() {
    let script = Script::new();
    let gates = ["a", "b", "c"].map(|name| script.gate(name));
    let residency = residency(&script);
    let all = ["a", "b", "c"].map(|name| residency.prefetch(name));
    until(|| script.under_way() == 3).await;
    assert_eq!(residency.snapshot().loading, 3);
    gates.iter().for_each(|gate| gate.send(()).unwrap());
    visit(&residency, "a b c").await;
    assert_eq!(script.loads().len(), 3);
    drop(all);
}

#[tokio::test(start_paused = true)]
async fn unknown_and_broken_names_are_refused_for_a_while_without_looking() {
    let script = Script::new();
    script.put("bad", 1, "!the file is cut");
    let residency = residency(&script);
    for _ in 0..3 {
        let error = residency.get("none").await.unwrap_err();
        assert!(
            matches!(error, NodeError::NotFound { what: "adapter", ref name } if name == "none")
        );
        let error = residency.get("bad").await.unwrap_err();
        assert_eq!(error.to_string(), "!the file is cut");
    }
    assert_eq!(script.loads(), ["none", "bad"]);
    let reason = "!the file is cut".to_owned();
    assert_eq!(line(&residency, "bad").state, State::Refused { reason });
    // An operator's order looks at once.
    script.put("bad", 1, "good");
    assert_eq!(*residency.load("bad").await.unwrap(), "bad good");
    script.put("none", 1, "here");
    assert!(residency.get("none").await.is_err());
    advance(Duration::from_secs(6)).await;
    assert_eq!(*residency.get("none").await.unwrap(), "none here");
    assert_eq!(residency.snapshot().failures, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_name_never_reaches_the_loader() {
    let script = Script::new();
    let residency = residency(&script);
    for name in ["../a", "a/b", "", "a\0", ".a", "\u{430}"] {
        let error = residency.get(name).await.unwrap_err();
        assert!(matches!(error, NodeError::Invalid { .. }), "{name:?}");
        drop(residency.prefetch(name));
        assert!(residency.load(name).await.is_err());
    }
    assert!(script.loads().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_load_goes_on_when_who_waits_for_it_is_gone() {
    let script = Script::new();
    let open = script.gate("a");
    let residency = residency(&script);
    let asking = tokio::spawn({
        let residency = residency.clone();
        async move { residency.get("a").await }
    });
    until(|| script.under_way() == 1).await;
    asking.abort();
    assert!(asking.await.is_err());
    open.send(()).unwrap();
    until(|| residency.snapshot().loaded == 1).await;
    visit(&residency, "a").await;
    assert_eq!(script.loads(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_fails_its_name_alone() {
    struct Panics;
    impl Loader<String> for Panics {
        fn names(&self) -> Result<Vec<String>, NodeError> {
            Ok(Vec::new())
        }
        fn stamp(&self, _: &str) -> Result<String, NodeError> {
            Ok(String::new())
        }
        fn load(&self, _: &str) -> Result<Loaded<String>, NodeError> {
            panic!("as the test wants it")
        }
    }
    let residency = Residency::new(Panics, POLICY);
    let error = residency.get("a").await.unwrap_err().to_string();
    assert_eq!(error, "loading adapter \"a\" panicked");
    assert!(residency.get("b").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_before_the_new_one_is_there() {
    let script = Script::new();
    let residency = residency(&script);
    visit(&residency, "a b c").await;
    advance(Duration::from_secs(2)).await;
    let open = script.gate("d");
    let asking = residency.prefetch("d");
    until(|| script.under_way() == 1).await;
    assert_eq!(held(&residency).await, "a b c");
    open.send(()).unwrap();
    until(|| residency.snapshot().evictions == 1).await;
    assert_eq!(held(&residency).await, "b c d");
    drop(asking);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_stays_and_counts_until_the_last_lease_is_gone() {
    let script = Script::new();
    let residency = residency(&script);
    let a = residency.get("a").await.unwrap();
    visit(&residency, "b c").await;
    advance(Duration::from_secs(2)).await;
    visit(&residency, "d").await;
    assert_eq!(held(&residency).await, "a c d");
    assert_eq!(line(&residency, "a").leases, 1);

    assert!(residency.unload("a").await);
    assert_eq!(*a, "a 1");
    assert_eq!(line(&residency, "a").state, State::Lingering);
    let snapshot = residency.snapshot();
    assert_eq!(
        (snapshot.loaded, snapshot.lingering, snapshot.bytes),
        (2, 1, 30)
    );
    drop(a);
    let snapshot = residency.snapshot();
    assert_eq!(
        (snapshot.lingering, snapshot.bytes, snapshot.leases),
        (0, 20, 0)
    );
    // What an operator let go is loaded anew.
    visit(&residency, "a").await;
    assert_eq!(script.loads(), ["a", "b", "c", "d", "a"]);
}

#[tokio::test(start_paused = true)]
async fn more_than_there_is_room_for_is_held_as_long_as_it_is_in_use() {
    let script = Script::new();
    let residency = residency(&script);
    let mut leases = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        leases.push(residency.get(name).await.unwrap());
    }
    assert_eq!(held(&residency).await, "a b c d e");
    leases.clear();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(held(&residency).await, "c d e");
}

#[tokio::test(start_paused = true)]
async fn the_young_are_not_displaced() {
    let script = Script::new();
    let residency = residency(&script);
    visit(&residency, "a b c").await;
    let d = residency.get("d").await.unwrap();
    assert_eq!(*d, "d 1");
    assert_eq!(held(&residency).await, "a b c");
    // As long as somebody uses it, it need not be loaded again.
    let again = residency.get("d").await.unwrap();
    assert!(Arc::ptr_eq(&d, &again));
    drop((d, again));
    assert_eq!(residency.snapshot().lingering, 0);
    assert_eq!(script.loads(), ["a", "b", "c", "d"]);
    advance(Duration::from_secs(2)).await;
    visit(&residency, "d").await;
    assert_eq!(held(&residency).await, "b c d");
}

#[tokio::test(start_paused = true)]
async fn what_is_pinned_stays() {
    let script = Script::new();
    let residency = residency(&script);
    residency.pin("a").await.unwrap();
    residency.pin("b").await.unwrap();
    visit(&residency, "c").await;
    advance(Duration::from_secs(2)).await;
    visit(&residency, "d").await;
    assert_eq!(held(&residency).await, "a b d");
    assert!(line(&residency, "a").pinned);
    residency.pin("c").await.unwrap();
    assert_eq!(held(&residency).await, "a b c");
    let error = residency.pin("d").await.unwrap_err().to_string();
    assert!(
        error.contains("\"d\" cannot be pinned: 4 pinned adapters"),
        "{error}"
    );
    assert!(residency.unpin("a").await && !residency.unpin("a").await);
    advance(Duration::from_secs(2)).await;
    visit(&residency, "e").await;
    assert_eq!(held(&residency).await, "b c e");
    assert!(residency.pin("none").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_does_not_fit_leaves_nothing_behind() {
    let script = Script::new();
    script.put("a", 60, "1");
    script.put("b", 50, "1");
    let residency = residency(&script);
    residency.pin("a").await.unwrap();
    let b = residency.get("b").await.unwrap();
    assert!(residency.pin("b").await.is_err());
    settle(&residency).await;
    assert_eq!(residency.snapshot().leases, 1);
    drop(b);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(held(&residency).await, "a");
    let snapshot = residency.snapshot();
    assert_eq!((snapshot.leases, snapshot.bytes), (0, 60));
}

#[tokio::test(start_paused = true)]
async fn files_that_change_are_loaded_anew_and_requests_keep_what_they_have() {
    let script = Script::new();
    let residency = residency(&script);
    residency.pin("a").await.unwrap();
    let old = residency.get("a").await.unwrap();
    script.put("a", 20, "2");
    advance(Duration::from_secs(2)).await;
    visit(&residency, "a").await;
    until(|| residency.snapshot().replacements == 1).await;
    assert_eq!(*residency.get("a").await.unwrap(), "a 2");
    assert_eq!(*old, "a 1");
    assert!(line(&residency, "a").pinned);
    let snapshot = residency.snapshot();
    assert_eq!(
        (snapshot.loaded, snapshot.lingering, snapshot.bytes),
        (1, 1, 30)
    );
    drop(old);
    assert_eq!(residency.snapshot().bytes, 20);
}

#[tokio::test(start_paused = true)]
async fn files_that_are_only_touched_or_half_written_change_nothing() {
    let script = Script::new();
    let residency = residency(&script);
    let old = residency.get("a").await.unwrap();
    for text in ["1'", "!half written"] {
        script.put("a", 10, text);
        advance(Duration::from_secs(2)).await;
        let loads = script.loads().len();
        visit(&residency, "a").await;
        until(|| script.loads().len() == loads + 1).await;
        advance(Duration::from_millis(10)).await;
        assert!(
            Arc::ptr_eq(&residency.get("a").await.unwrap(), &old),
            "{text}"
        );
    }
    assert_eq!(residency.snapshot().replacements, 0);
    // Gone is gone.
    script.remove("a");
    advance(Duration::from_secs(2)).await;
    visit(&residency, "a").await;
    until(|| residency.snapshot().loaded == 0).await;
    let error = residency.get("a").await.unwrap_err();
    assert!(matches!(error, NodeError::NotFound { .. }));
    assert_eq!(*old, "a 1");
}

#[tokio::test(start_paused = true)]
async fn what_is_loaded_ahead_is_there_when_it_is_asked_for() {
    let script = Script::new();
    let residency = residency(&script);
    let ahead = residency.prefetch("a");
    until(|| residency.snapshot().leases == 1).await;
    assert_eq!(*residency.get("a").await.unwrap(), "a 1");
    let snapshot = residency.snapshot();
    assert_eq!((snapshot.hits, snapshot.misses, snapshot.loads), (1, 0, 1));
    drop(ahead);
    until(|| residency.snapshot().leases == 0).await;
    drop(residency.prefetch("none"));
}

#[tokio::test]
async fn threads_may_ask_too() {
    let script = Script::new();
    let residency = residency(&script);
    let asking = {
        let residency = residency.clone();
        std::thread::spawn(move || residency.get_blocking("a"))
    };
    let value = tokio::task::spawn_blocking(|| asking.join())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*value.unwrap(), "a 1");
}

#[tokio::test(start_paused = true)]
async fn the_list_says_what_there_is() {
    let script = Script::default();
    for name in ["a", "b", "..", ".hidden"] {
        script.put(name, 10, "1");
    }
    let residency = residency(&script);
    visit(&residency, "b b").await;
    let lines = residency.list().unwrap();
    let names: Vec<&str> = lines.iter().map(|line| &*line.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(lines[0].state, State::Available);
    let generation = "1".to_owned();
    assert_eq!(lines[1].state, State::Loaded { generation });
    assert_eq!((lines[1].hits, lines[1].bytes, lines[1].leases), (1, 10, 0));
}

/// What is done in a random life.
#[derive(Debug, Clone)]
enum Step {
    Get(usize),
    Release(usize),
    Prefetch(usize),
    Unload(usize),
    Pin(usize),
    Unpin(usize),
    Change(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..8usize;
    let step = prop_oneof![
        4 => name.clone().prop_map(Step::Get),
        3 => (0..8usize).prop_map(Step::Release),
        1 => name.clone().prop_map(Step::Prefetch),
        1 => name.clone().prop_map(Step::Unload),
        1 => name.clone().prop_map(Step::Pin),
        1 => name.clone().prop_map(Step::Unpin),
        1 => name.prop_map(Step::Change),
        2 => (0..3000u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

/// Within the bounds, or all that is held is in use or pinned; and every byte in use is counted.
async fn check(
    residency: &Residency<String>,
    leases: &[Arc<String>],
    sizes: &BTreeMap<String, u64>,
) {
    settle(residency).await;
    let snapshot = residency.snapshot();
    let (lines, bounds) = (residency.list().unwrap(), POLICY.bounds);
    let loaded: Vec<&Listed> = lines
        .iter()
        .filter(|line| matches!(line.state, State::Loaded { .. }))
        .collect();
    let fits = loaded.len() <= bounds.max_loaded
        && loaded.iter().map(|line| line.bytes).sum::<u64>() <= bounds.max_bytes;
    let is_busy = |line: &&Listed| line.leases > 0 || line.pinned;
    assert!(fits || loaded.iter().all(is_busy), "{lines:?}");
    assert_eq!(snapshot.leases, leases.len() as u64, "{lines:?}");
    let mut used: Vec<&Arc<String>> = leases.iter().collect();
    used.sort_by_key(|lease| Arc::as_ptr(lease));
    used.dedup_by_key(|lease| Arc::as_ptr(lease));
    let used: u64 = used.iter().map(|lease| sizes[&lease[..1]]).sum();
    assert!(
        snapshot.bytes >= used,
        "{} bytes counted, {used} in use",
        snapshot.bytes
    );
}

async fn live(steps: Vec<Step>) {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let script = Script::new();
    let mut sizes = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let bytes = 10 + 9 * index as u64;
        script.put(name, bytes, "1");
        sizes.insert((*name).to_owned(), bytes);
    }
    let residency = residency(&script);
    let (mut leases, mut version) = (Vec::new(), 1);
    for step in steps {
        match step {
            Step::Get(index) => leases.push(residency.get(names[index]).await.unwrap()),
            Step::Release(index) if index < leases.len() => drop(leases.swap_remove(index)),
            Step::Release(_) => {}
            Step::Prefetch(index) => {
                let ahead = residency.prefetch(names[index]);
                sleep(Duration::from_millis(1)).await;
                drop(ahead);
            }
            Step::Unload(index) => drop(residency.unload(names[index]).await),
            Step::Pin(index) => drop(residency.pin(names[index]).await),
            Step::Unpin(index) => drop(residency.unpin(names[index]).await),
            Step::Change(index) => {
                version += 1;
                script.put(names[index], sizes[names[index]], &version.to_string());
            }
            Step::Pass(millis) => advance(Duration::from_millis(millis)).await,
        }
        // What runs on its own comes to its end: loads, looks at files, the last trim.
        sleep(Duration::from_millis(60)).await;
        check(&residency, &leases, &sizes).await;
    }
    leases.clear();
    for name in names {
        residency.unpin(name).await;
    }
    sleep(Duration::from_millis(60)).await;
    let snapshot = residency.snapshot();
    assert!(
        snapshot.loaded <= 3 && snapshot.bytes <= 100,
        "{snapshot:?}"
    );
    assert_eq!(
        (snapshot.lingering, snapshot.leases, snapshot.loading),
        (0, 0, 0)
    );
}

proptest! {
    #[test]
    fn bounds_hold_through_any_life(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(live(steps));
    }
}
