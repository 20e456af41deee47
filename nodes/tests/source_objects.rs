//! Models from object stores: a server on loopback plays one. The real protocol is spoken to a real
//! server in the end-to-end tests; what no real server does on demand is here.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "source/bucket.rs"]
mod bucket;
#[path = "source/kit.rs"]
mod kit;

use axum::http::StatusCode;
use bucket::{Bucket, SECRET};
use kit::{Noted, fetch, gguf, pinned, read, refusal, sha256, source, weights};
use nodes::source::{Fetcher, Silent};
use schema::Lock;
use std::{fs, path::Path, sync::Arc};

const SIZE: usize = 300_000;
const MODEL: &str = "s3://models/mini/";
const WEIGHTS: &str = "mini/model.safetensors";

async fn encoder() -> Bucket {
    Bucket::start(&[
        ("mini/", b""),
        (WEIGHTS, &weights(SIZE)),
        ("mini/config.json", b"{}"),
        ("mini/1_Pooling/config.json", b"{\"mean\":true}"),
        ("mini/README.md", b"read me"),
        ("mini/pytorch_model.bin", b"pickle"),
        ("minimal/other.json", b"not below the prefix"),
    ])
    .await
}

#[tokio::test]
async fn a_prefix_is_a_folder_that_is_fetched_once() {
    let (bucket, folder) = (encoder().await, tempfile::tempdir().unwrap());
    let noted = Noted::default();
    let fetcher = Fetcher::new(bucket.settings(&folder), Arc::new(noted.clone()));
    let files = fetcher.fetch([&source(MODEL)]).await.unwrap();
    assert_eq!(read(&files.path.join("model.safetensors")), weights(SIZE));
    assert_eq!(
        read(&files.path.join("1_Pooling/config.json")),
        b"{\"mean\":true}"
    );
    for absent in ["pytorch_model.bin", "README.md", "other.json"] {
        assert!(!files.path.join(absent).exists(), "{absent}");
    }
    let size = weights(SIZE).len();
    let line = format!("finish {MODEL}model.safetensors at {size}");
    assert!(noted.lines().contains(&line), "{:?}", noted.lines());
    assert!(!folder.path().join("engine/work").join("out").exists());

    // The second start asks what there is, and no more.
    bucket.inner().seen.clear();
    let again = fetch(bucket.settings(&folder), source("s3://models/mini")).await;
    assert_eq!(again.unwrap().path, files.path);
    let seen = bucket.inner().seen.clone();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].1, "?mini/");

    // What changed is fetched, and nothing else; the old content stays for who runs on it.
    bucket.put("mini/config.json", b"[]");
    let changed = fetch(bucket.settings(&folder), source(MODEL))
        .await
        .unwrap();
    assert_ne!(changed.path, files.path);
    assert_eq!(read(&changed.path.join("config.json")), b"[]");
    assert_eq!(read(&changed.path.join("model.safetensors")), weights(SIZE));
    assert_eq!(read(&files.path.join("config.json")), b"{}");
    assert_eq!(bucket.downloads(WEIGHTS).len(), 0);
    assert_eq!(bucket.downloads("mini/config.json").len(), 1);

    // Offline nobody is asked, and a store that does not answer is not waited for in vain.
    bucket.inner().seen.clear();
    let mut offline = bucket.settings(&folder);
    offline.offline = true;
    let cached = fetch(offline, source(MODEL)).await.unwrap();
    assert_eq!(cached.path, changed.path);
    assert_eq!(bucket.inner().seen.len(), 0);
    bucket.inner().allowance = 0;
    let cached = fetch(bucket.settings(&folder), source(MODEL))
        .await
        .unwrap();
    assert_eq!(cached.path, changed.path);
}

#[tokio::test]
async fn one_object_is_a_file_and_a_lone_gguf_of_a_prefix_stands_for_it() {
    let bucket = Bucket::start(&[("a b/q4.gguf", &gguf(1000)), ("a b/x.md", b"x")]).await;
    let folder = tempfile::tempdir().unwrap();
    for uri in ["s3://models/a b/q4.gguf", "s3://models/a b/", "s3://models"] {
        let files = fetch(bucket.settings(&folder), source(uri)).await.unwrap();
        assert_eq!(files.path.file_name().unwrap(), "q4.gguf", "{uri}");
        assert_eq!(read(&files.path), gguf(1000), "{uri}");
    }
}

#[tokio::test]
async fn google_and_azure_are_read_the_same_way() {
    let (bucket, folder) = (encoder().await, tempfile::tempdir().unwrap());
    for scheme in ["gs", "az"] {
        let uri = format!("{scheme}://models/mini/");
        let files = fetch(bucket.settings(&folder), source(&uri)).await.unwrap();
        assert_eq!(read(&files.path.join("model.safetensors")), weights(SIZE));
        bucket.inner().seen.clear();
        fetch(bucket.settings(&folder), source(&uri)).await.unwrap();
        assert_eq!(bucket.inner().seen.len(), 1, "{scheme}");
        let file = format!("{scheme}://models/{WEIGHTS}");
        let files = fetch(bucket.settings(&folder), source(&file))
            .await
            .unwrap();
        assert_eq!(read(&files.path), weights(SIZE));
    }
}

#[tokio::test]
async fn the_next_run_goes_on_with_what_the_last_one_left() {
    let (bucket, folder) = (encoder().await, tempfile::tempdir().unwrap());
    let uri = format!("s3://models/{WEIGHTS}");
    bucket.inner().allowance = 100_000;
    let said = refusal(bucket.settings(&folder), source(&uri)).await;
    assert!(
        said.contains("is out of reach: the server answers 503"),
        "{said}"
    );
    bucket.inner().allowance = usize::MAX;
    bucket.inner().seen.clear();
    let files = fetch(bucket.settings(&folder), source(&uri)).await.unwrap();
    assert_eq!(read(&files.path), weights(SIZE));
    assert_eq!(bucket.downloads(WEIGHTS), ["bytes=100000-"]);
}

#[tokio::test]
async fn an_object_that_is_exchanged_in_the_middle_is_never_half_of_two() {
    let (bucket, folder) = (encoder().await, tempfile::tempdir().unwrap());
    let mut other = weights(SIZE);
    *other.last_mut().unwrap() ^= 1;
    bucket.inner().allowance = 100_000;
    bucket.inner().exchange = Some((WEIGHTS.to_owned(), other.clone()));
    let uri = format!("s3://models/{WEIGHTS}");
    let files = fetch(bucket.settings(&folder), source(&uri)).await.unwrap();
    assert_eq!(read(&files.path), other);
}

#[tokio::test]
async fn names_that_lead_out_and_lists_without_end_are_refused() {
    let (bucket, folder) = (encoder().await, tempfile::tempdir().unwrap());
    let endless = (0..10_001).map(|number| format!("{number}.json"));
    for (listed, says) in [
        (vec!["../evil.json".to_owned()], "damaged or hostile"),
        (vec!["a/../../evil.json".to_owned()], "damaged or hostile"),
        (vec!["/etc/evil.json".to_owned()], "damaged or hostile"),
        (vec!["a//evil.json".to_owned()], "damaged or hostile"),
        (vec!["C:\\evil.json".to_owned()], "damaged or hostile"),
        (vec!["a&#1;.json".to_owned()], "damaged or hostile"),
        (endless.collect(), "holds too many objects"),
    ] {
        bucket.inner().listed = Some(listed);
        let said = refusal(bucket.settings(&folder), source(MODEL)).await;
        assert!(said.contains(says), "{said}");
    }
    let cache = folder.path().join("engine");
    assert!(!cache.join("content").exists());
    assert!(!folder.path().join("evil.json").exists());
}

#[tokio::test]
async fn each_trouble_has_its_own_words_and_none_of_them_a_secret() {
    let (bucket, folder) = (encoder().await, tempfile::tempdir().unwrap());
    let refuse = |refuses| bucket.inner().refuses = refuses;
    for (refuses, uri, says) in [
        (
            None,
            "s3://nobody/mini/",
            "the bucket of s3://nobody/mini/ does not exist",
        ),
        (
            None,
            "s3://models/none/",
            "s3://models/none/ does not exist",
        ),
        (
            None,
            "s3://models/none.gguf",
            "s3://models/none.gguf does not exist",
        ),
        (
            Some((StatusCode::FORBIDDEN, "AccessDenied")),
            MODEL,
            "is refused (403): AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY may not read it",
        ),
        (
            Some((StatusCode::FORBIDDEN, "SignatureDoesNotMatch")),
            "s3://models/mini/a.gguf",
            "is refused (403)",
        ),
        (
            Some((StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
            MODEL,
            "is out of reach: the server answers 503 SlowDown: so it is",
        ),
    ] {
        refuse(refuses);
        let said = refusal(bucket.settings(&folder), source(uri)).await;
        assert!(said.contains(says), "{said}");
        assert!(!said.contains(SECRET) && !said.contains("AKIA"), "{said}");
    }
    let mut nowhere = bucket.settings(&folder);
    let closed = (
        "AWS_ENDPOINT_URL_S3".to_owned(),
        schema::Text::secret("http://127.0.0.1:9"),
    );
    nowhere.objects.variables.push(closed);
    let said = refusal(nowhere, source(MODEL)).await;
    assert!(said.contains("is out of reach"), "{said}");
    let half = ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID is missing");
    let mut settings = bucket.settings(&folder);
    settings
        .objects
        .variables
        .retain(|(name, _)| name == half.0);
    let said = refusal(settings, source(MODEL)).await;
    assert!(said.contains(half.1) && !said.contains(SECRET), "{said}");
}

#[tokio::test]
async fn a_pin_is_held_and_makes_questions_needless() {
    let (bucket, folder) = (encoder().await, tempfile::tempdir().unwrap());
    let uri = format!("s3://models/{WEIGHTS}");
    let good = sha256(&weights(SIZE));
    let said = refusal(bucket.settings(&folder), pinned(&uri, &"0".repeat(64))).await;
    assert!(said.contains(&good), "{said}");
    fetch(bucket.settings(&folder), pinned(&uri, &good))
        .await
        .unwrap();
    bucket.inner().seen.clear();
    fetch(bucket.settings(&folder), pinned(&uri, &good))
        .await
        .unwrap();
    assert_eq!(bucket.inner().seen.len(), 0);
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_lock_has_what_was_taken_and_nothing_else_is_taken_after_it() {
    let (bucket, folder) = (encoder().await, tempfile::tempdir().unwrap());
    let sources = [source("hf:nobody/home"), source(MODEL)];
    let fetcher = Fetcher::new(bucket.settings(&folder), Arc::new(Silent));
    let entry = fetcher.resolve(&sources).await.unwrap();
    assert_eq!((&*entry.uri, &entry.revision), (MODEL, &None));
    let paths: Vec<_> = entry.files.iter().map(|file| &*file.path).collect();
    assert_eq!(
        paths,
        ["1_Pooling/config.json", "config.json", "model.safetensors"]
    );
    assert_eq!(entry.files[2].sha256, sha256(&weights(SIZE)));
    assert!(entry.files[2].etag.is_some());

    // With the lock, what is here is not asked for, even where the store has another one by now.
    bucket.put("mini/config.json", b"[]");
    let locked = |cache: &tempfile::TempDir| {
        let fetcher = Fetcher::new(bucket.settings(cache), Arc::new(Silent));
        fetcher.use_lock(Some(Lock::of([entry.clone()])), true);
        fetcher
    };
    bucket.inner().seen.clear();
    let files = locked(&folder).fetch(&sources).await.unwrap();
    assert_eq!(read(&files.path.join("config.json")), b"{}");
    assert_eq!(bucket.inner().seen.len(), 0);

    // A machine that has nothing yet cannot have what is gone.
    let fresh = tempfile::tempdir().unwrap();
    let said = locked(&fresh)
        .fetch(&sources)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("mini/config.json is another one in the store now"),
        "{said}"
    );
    bucket.put("mini/config.json", b"{}");
    let files = locked(&fresh).fetch(&sources).await.unwrap();

    // One byte.
    flip(&files.path.join("model.safetensors"));
    let said = locked(&fresh)
        .fetch(&sources)
        .await
        .unwrap_err()
        .to_string();
    assert!(said.contains("model.safetensors has the sha256"), "{said}");
    assert!(said.contains("and the lock says"), "{said}");

    let other = [source("s3://models/minimal/")];
    let said = locked(&fresh).fetch(&other).await.unwrap_err().to_string();
    assert!(said.contains("is not in the lock"), "{said}");
}
