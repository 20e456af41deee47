//! A writer that is killed at any moment leaves the state of its last commit, or of the one that it
//! was in the middle of: nothing acknowledged is lost, and nothing is half there.

use crate::{Random, ids, record};
use nodes::index::{Index, Manifest, Query};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const FOLDER: &str = "ENGINE_TEST_CRASH_FOLDER";
const DIMENSIONS: usize = 16;
const DOCUMENTS: u64 = 400;
const KILLS: u64 = 20;

/// A change: a document's id and, unless it is deleted, its text and vector.
type Change = (String, Option<(String, Vec<f32>)>);

/// What the commit of this number changes. Most commits replace many documents, so that the log is
/// compacted every few of them.
fn changes(commit: u64) -> Vec<Change> {
    let mut random = Random(commit);
    let count = 1 + random.below(300);
    let change = |_| {
        let id = random.below(DOCUMENTS).to_string();
        let text = format!("commit {commit} item {}", random.next());
        let document = (text, random.vector(DIMENSIONS));
        (id, (random.below(5) > 0).then_some(document))
    };
    (0..count).map(change).collect()
}

/// The documents after so many commits.
fn model(commits: u64) -> BTreeMap<String, (String, Vec<f32>)> {
    let mut documents = BTreeMap::new();
    for (id, document) in (1..=commits).flat_map(changes) {
        match document {
            Some(document) => documents.insert(id, document),
            None => documents.remove(&id),
        };
    }
    documents
}

/// The process that is killed: goes on committing after the last commit that it finds.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let index = match Index::exists(folder) {
        true => Index::open(folder).unwrap(),
        false => Index::create(folder, &Manifest::new(Some(DIMENSIONS), None)).unwrap(),
    };
    let mut writer = index.writer().unwrap();
    for commit in committed(&index) + 1.. {
        for (id, document) in changes(commit) {
            match document {
                Some((text, vector)) => writer.upsert(&record(&id, &text, &vector)).unwrap(),
                None => writer.delete(&id),
            }
        }
        writer
            .upsert(&record("commit", &commit.to_string(), &[1.0; DIMENSIONS]))
            .unwrap();
        writer.commit().unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "committed {commit}")
            .and_then(|()| out.flush())
            .unwrap();
    }
}

/// The number of the last commit, as the document `commit` states it.
fn committed(index: &Index) -> u64 {
    let query = Query {
        vector: Some(&[1.0; DIMENSIONS]),
        top_k: 1,
        ..Query::default()
    };
    let found = index.search(&query).unwrap();
    found
        .first()
        .map_or(0, |document| document.text.parse().unwrap())
}

/// Runs a writer, kills it a while after so many commits, and returns the last one that it
/// acknowledged.
fn run_and_kill(folder: &Path, commits: usize, after: Duration) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged = |line: String| line.split_once("committed ")?.1.parse().ok();
    let mut said = lines.map_while(Result::ok).filter_map(acknowledged);
    let before = said.by_ref().take(commits).last();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said before it died is still in the pipe.
    said.last().or(before)
}

fn check(folder: &Path, acknowledged: u64) -> u64 {
    let index = Index::open(folder).unwrap();
    let state = committed(&index);
    assert!(
        state == acknowledged || state == acknowledged + 1,
        "{state} after {acknowledged}"
    );
    let expected = model(state);
    let mut found = index.ids().unwrap();
    found.retain(|id| id != "commit");
    found.sort_unstable();
    assert!(
        found.iter().eq(expected.keys()),
        "not the documents of commit {state}"
    );
    for (id, (text, vector)) in &expected {
        let by_vector = Query {
            vector: Some(vector),
            top_k: 1,
            ..Query::default()
        };
        let found = index.search(&by_vector).unwrap();
        assert_eq!((ids(&found), &*found[0].text), (vec![&**id], &**text));
        assert!(found[0].score > 0.9999);
        let by_text = Query {
            text: Some(text),
            top_k: 1,
            ..Query::default()
        };
        assert_eq!(ids(&index.search(&by_text).unwrap()), [id]);
    }
    state
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("index");
    let mut random = Random(29);
    let mut state = 0;
    let mut within_first = 0;
    for _ in 0..KILLS {
        let commits = random.below(4) as usize;
        let after = Duration::from_micros(random.below(200_000));
        let acknowledged = run_and_kill(&path, commits, after);
        assert!(
            commits == 0 || acknowledged.is_some(),
            "the writer ended by itself"
        );
        within_first += usize::from(acknowledged.is_none());
        if Index::exists(&path) {
            state = check(&path, acknowledged.unwrap_or(state).max(state));
        }
    }
    println!("{state} commits over {KILLS} kills, {within_first} of them before a commit");
    assert!(
        state > KILLS,
        "the writers hardly got to work: {state} commits"
    );
}
