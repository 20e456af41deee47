//! Damaged and hostile files: an error that says what is wrong, or the right answer; never a panic.

use crate::{Random, ids, new_index, record};
use nodes::index::{Index, IndexError, Query};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const DIMENSIONS: usize = 4;
const ATTEMPTS: usize = 25;

/// An index of 50 documents in two segments, one of them with a deleted document.
fn sound() -> TempDir {
    let (folder, index) = new_index(DIMENSIONS);
    let mut random = Random(2);
    let mut writer = index.writer().unwrap();
    for number in 0..50 {
        let text = format!("document number {number}");
        writer
            .upsert(&record(
                &number.to_string(),
                &text,
                &random.vector(DIMENSIONS),
            ))
            .unwrap();
        if number == 25 {
            writer.commit().unwrap();
        }
    }
    writer.delete("3");
    writer.finish().unwrap();
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for path in files(from) {
        let target = to.path().join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, target).unwrap();
    }
    to
}

/// Opens and searches: what is found first, and how many documents there are.
fn look(folder: &Path) -> Result<(Index, String, u64), IndexError> {
    let index = Index::open(folder)?;
    let vector = Random(2).vector(DIMENSIONS);
    let query = Query {
        vector: Some(&vector),
        text: Some("number 0"),
        top_k: 3,
        filter: None,
    };
    let found = index.search(&query)?;
    let first = found
        .first()
        .map_or(String::new(), |first| first.id.to_string());
    let documents = index.facts()?.documents;
    Ok((index, first, documents))
}

/// Opens, searches, and writes; the answers are right wherever there are any.
fn use_it(folder: &Path) -> Result<(), IndexError> {
    let (index, first, documents) = look(folder)?;
    assert_eq!((&*first, documents), ("0", 49));
    let mut writer = index.writer()?;
    writer.upsert(&record("new", "entirely fresh", &[9.0, -9.0, 9.0, -9.0]))?;
    writer.commit()?;
    let query = Query {
        text: Some("fresh"),
        top_k: 3,
        ..Query::default()
    };
    assert_eq!(ids(&index.search(&query)?), ["new"]);
    Ok(())
}

fn error(folder: &Path) -> String {
    let error = use_it(folder).unwrap_err().to_string();
    error.replace(&folder.display().to_string(), "FOLDER")
}

#[test]
fn the_sound_index_works() {
    let folder = sound();
    use_it(copy(folder.path()).path()).unwrap();
}

#[test]
fn a_flipped_bit_or_a_missing_end_is_noticed() {
    let folder = sound();
    let mut random = Random(7);
    let (mut noticed, mut harmless) = (0, 0);
    for path in files(folder.path()) {
        let name = path.strip_prefix(folder.path()).unwrap();
        // The text index's list of segments has no checksum: damage to it may go unnoticed if it
        // still reads as one, but must not panic.
        let unguarded = name.ends_with("meta.json");
        let bytes = fs::read(&path).unwrap();
        for attempt in 0..ATTEMPTS {
            let mut bytes = bytes.clone();
            match attempt {
                0..10 => bytes.truncate(attempt),
                10..16 => bytes.truncate(random.below(bytes.len() as u64 + 1) as usize),
                _ if bytes.is_empty() => continue,
                _ => {
                    let place = random.below(bytes.len() as u64) as usize;
                    bytes[place] ^= 1 << random.below(8);
                }
            }
            let damaged = copy(folder.path());
            fs::write(damaged.path().join(name), bytes).unwrap();
            let result = match attempt {
                20 if !unguarded => use_it(damaged.path()),
                _ => look(damaged.path()).map(|(_, first, documents)| {
                    assert!(
                        unguarded || (&*first, documents) == ("0", 49),
                        "{}",
                        name.display()
                    );
                }),
            };
            match result {
                Ok(()) => harmless += 1,
                Err(_) => noticed += 1,
            }
        }
        let damaged = copy(folder.path());
        fs::remove_file(damaged.path().join(name)).unwrap();
        let _ = use_it(damaged.path());
    }
    println!("{noticed} noticed, {harmless} harmless");
    assert!(noticed > harmless);
}

#[test]
fn any_byte_of_the_log_counts() {
    let folder = sound();
    let path = folder.path().join("vectors-1.log");
    let sound = fs::read(&path).unwrap();
    for place in (0..sound.len()).step_by(5) {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        assert!(
            matches!(
                Index::open(folder.path()).map(|_| ()),
                Err(IndexError::Damaged { .. })
            ),
            "{place}"
        );
    }
}

#[test]
fn what_is_wrong_with_the_log_is_said() {
    let folder = sound();
    let path = folder.path().join("vectors-1.log");
    let sound = fs::read(&path).unwrap();
    let with = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        error(folder.path())
    };
    let mut flipped = sound.clone();
    flipped[16 + 28 * 2 + 9] ^= 1;
    assert_eq!(
        with(&flipped),
        "index FOLDER is damaged: vectors-1.log: the checksum of record 2 is wrong; build it again"
    );
    assert_eq!(
        with(&sound[..sound.len() - 1]),
        "index FOLDER is damaged: vectors-1.log: it has 1415 bytes of 1416; build it again"
    );
    assert_eq!(
        with(b"engvec01"),
        "index FOLDER is damaged: vectors-1.log: its header is not that of these vectors; build it again"
    );
    // What lies behind the committed length was never acknowledged, and is cut off.
    let mut longer = sound.clone();
    longer.extend([7; 100]);
    fs::write(&path, longer).unwrap();
    use_it(folder.path()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 1416 + 28);
}

#[test]
fn hostile_manifests_are_refused() {
    let folder = sound();
    let path = folder.path().join("manifest.json");
    let with = |manifest: &str| {
        fs::write(&path, manifest).unwrap();
        error(folder.path())
    };
    let start = "index FOLDER is damaged: manifest.json:";
    let huge = r#"{"format":1,"dimensions":1099511627776,"distance":"cosine","model":null}"#;
    assert_eq!(
        with(huge),
        format!(
            "{start} its vectors have 1099511627776 numbers; an index takes 1 to 32768; build it again"
        )
    );
    assert!(with(&huge.replace("1099511627776", "0")).starts_with(start));
    assert!(with(&huge.replace("1099511627776", "-4")).starts_with(start));
    assert!(
        with(&huge.replace("1099511627776", "5"))
            .contains("its header is not that of these vectors")
    );
    assert_eq!(
        with(r#"{"format":2,"whatever":[]}"#),
        "the index has format 2; this version of engine reads 1"
    );
    assert!(with("").starts_with(start));
    assert!(with(&"[".repeat(50_000)).starts_with(start));
    assert!(with(&format!("{{\"format\":1{}", " ".repeat(1 << 20))).starts_with(start));
    let euclidean = r#"{"format":1,"dimensions":4,"distance":"euclidean","model":null}"#;
    assert!(with(euclidean).starts_with(start));
}

#[test]
fn an_unfinished_creation_is_begun_again() {
    let folder = sound();
    fs::remove_file(folder.path().join("manifest.json")).unwrap();
    let manifest = nodes::index::Manifest::new(Some(2), None);
    let index = Index::create(folder.path(), &manifest).unwrap();
    assert_eq!(index.facts().unwrap().documents, 0);
    File::open(folder.path().join("manifest.json")).unwrap();
}
