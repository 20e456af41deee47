//! Models from a hub: a server on loopback plays one.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "source/kit.rs"]
mod kit;

use kit::{
    COMMIT, Hub, Noted, Script, encoder, fetch, pinned, read, refusal, sha256, source, weights,
};
use nodes::source::{Fetcher, Silent};
use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

const SIZE: usize = 300_000;
const MODEL: &str = "hf:org/model";

fn snapshot(folder: &Path) -> std::path::PathBuf {
    folder.join("hub/models--org--model/snapshots").join(COMMIT)
}

/// What lies among the blobs, without the names of contents.
fn blobs(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("hub/models--org--model/blobs")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_repository_comes_in_the_hubs_layout_without_pickles_and_programs() {
    let hub = Hub::start(encoder(SIZE)).await;
    let folder = tempfile::tempdir().unwrap();
    let noted = Noted::default();
    let fetcher = Fetcher::new(hub.settings(&folder), Arc::new(noted.clone()));
    let files = fetcher.fetch([&source(MODEL)]).await.unwrap();
    assert_eq!(files.path, snapshot(folder.path()));
    assert_eq!(files.origin.expose(), MODEL);
    assert_eq!(read(&files.path.join("model.safetensors")), weights(SIZE));
    assert_eq!(
        read(&files.path.join("1_Pooling/config.json")),
        b"{\"mean\":true}"
    );
    for absent in ["pytorch_model.bin", "modeling.py", "README.md"] {
        assert!(!files.path.join(absent).exists(), "{absent}");
        assert_eq!(hub.downloads(absent), 0);
    }
    let blob = format!("../../blobs/{}", sha256(&weights(SIZE)));
    let link = fs::read_link(files.path.join("model.safetensors")).unwrap();
    assert_eq!(link, Path::new(&blob));
    let reference = folder.path().join("hub/models--org--model/refs/main");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    assert_eq!(blobs(folder.path()).len(), 3);
    let size = weights(SIZE).len();
    for line in [
        format!("start org/model/model.safetensors of Some({size})"),
        format!("finish org/model/model.safetensors at {size}"),
    ] {
        assert!(noted.lines().contains(&line), "{:?}", noted.lines());
    }
    // The second time nothing is downloaded.
    fetcher.fetch([&source(MODEL)]).await.unwrap();
    assert_eq!(hub.downloads("model.safetensors"), 1);
}

#[tokio::test]
async fn a_cut_connection_is_taken_up_where_it_broke() {
    let hub = Hub::start(Script {
        cut: Some((100_000, AtomicU64::new(2))),
        ..encoder(SIZE)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let files = fetch(hub.settings(&folder), source(MODEL)).await.unwrap();
    assert_eq!(read(&files.path.join("model.safetensors")), weights(SIZE));
    let seen = hub.seen();
    let ranges: Vec<_> = seen
        .iter()
        .filter_map(|seen| seen.range.as_deref())
        .collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);
}

#[tokio::test]
async fn the_next_run_goes_on_with_what_the_last_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let name = sha256(&weights(SIZE));
    let blob = folder
        .path()
        .join("hub/models--org--model/blobs")
        .join(&name);
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(
        format!("{}.incomplete", blob.display()),
        &weights(SIZE)[..1234],
    )
    .unwrap();
    let hub = Hub::start(encoder(SIZE)).await;
    let files = fetch(hub.settings(&folder), source(MODEL)).await.unwrap();
    assert_eq!(read(&files.path.join("model.safetensors")), weights(SIZE));
    assert!(
        hub.seen()
            .iter()
            .any(|seen| seen.range.as_deref() == Some("bytes=1234-"))
    );
    assert!(blobs(folder.path()).iter().all(|name| !name.contains('.')));
}

#[tokio::test]
async fn a_small_file_without_a_validator_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let name = &sha256(b"{}")[..40];
    let blob = folder
        .path()
        .join("hub/models--org--model/blobs")
        .join(name);
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(format!("{}.incomplete", blob.display()), "x").unwrap();
    let hub = Hub::start(encoder(SIZE)).await;
    let files = fetch(hub.settings(&folder), source(MODEL)).await.unwrap();
    assert_eq!(read(&files.path.join("config.json")), b"{}");
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_is_read_from_the_start() {
    let hub = Hub::start(Script {
        cut: Some((100_000, AtomicU64::new(1))),
        no_ranges: true,
        ..encoder(SIZE)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let files = fetch(hub.settings(&folder), source(MODEL)).await.unwrap();
    assert_eq!(read(&files.path.join("model.safetensors")), weights(SIZE));
}

#[tokio::test]
async fn a_server_that_never_gets_further_is_given_up() {
    let hub = Hub::start(Script {
        cut: Some((1000, AtomicU64::new(u64::MAX))),
        no_ranges: true,
        ..encoder(SIZE)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let said = refusal(hub.settings(&folder), source(MODEL)).await;
    assert!(
        said.contains("org/model/model.safetensors is out of reach"),
        "{said}"
    );
    assert!(hub.downloads("model.safetensors") < 10);
}

#[tokio::test]
async fn bytes_with_another_digest_are_refused_and_removed() {
    let hub = Hub::start(Script {
        corrupt: true,
        ..encoder(SIZE)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let said = refusal(hub.settings(&folder), source(MODEL)).await;
    let expected = sha256(&weights(SIZE));
    assert!(said.contains("model.safetensors has the sha256"), "{said}");
    assert!(said.contains(&format!("expected {expected}")), "{said}");
    let left = blobs(folder.path());
    assert!(
        !left.iter().any(|name| name.starts_with(&expected)),
        "{left:?}"
    );
    assert!(!snapshot(folder.path()).join("model.safetensors").exists());
}

#[tokio::test]
async fn a_pin_that_does_not_fit_is_seen_before_anything_is_downloaded() {
    let hub = Hub::start(encoder(SIZE)).await;
    let folder = tempfile::tempdir().unwrap();
    let (pin, uri) = ("0".repeat(64), "hf:org/model#model.safetensors");
    let said = refusal(hub.settings(&folder), pinned(uri, &pin)).await;
    assert!(
        said.contains(&pin) && said.contains(&sha256(&weights(SIZE))),
        "{said}"
    );
    assert_eq!(hub.downloads("model.safetensors"), 0);
    let good = pinned(uri, &sha256(&weights(SIZE)).to_uppercase());
    let files = fetch(hub.settings(&folder), good).await.unwrap();
    assert_eq!(
        files.path,
        snapshot(folder.path()).join("model.safetensors")
    );
    // Also of what is cached.
    let said = refusal(hub.settings(&folder), pinned(uri, &pin)).await;
    assert!(said.contains(&pin), "{said}");
}

#[tokio::test]
async fn a_token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let elsewhere = Hub::start(encoder(SIZE)).await;
    let hub = Hub::start(Script {
        needs: Some("secret".to_owned()),
        elsewhere: Some(elsewhere.address.clone()),
        ..encoder(SIZE)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let said = refusal(hub.settings(&folder), source(MODEL)).await;
    assert!(
        said.contains("refused (401): it needs a token in HF_TOKEN"),
        "{said}"
    );
    let mut settings = hub.settings(&folder);
    settings.hub.token = Some(schema::Text::secret("wrong"));
    let said = refusal(settings.clone(), source(MODEL)).await;
    assert!(
        said.contains("the token in HF_TOKEN may not read it"),
        "{said}"
    );
    assert!(!said.contains("wrong"), "{said}");
    settings.hub.token = Some(schema::Text::secret("secret"));
    let files = fetch(settings, source(MODEL)).await.unwrap();
    assert_eq!(read(&files.path.join("model.safetensors")), weights(SIZE));
    assert_eq!(elsewhere.downloads("model.safetensors"), 1);
    assert!(elsewhere.seen().iter().all(|seen| seen.token.is_none()));
}

#[tokio::test]
async fn what_the_hub_does_not_know_is_named() {
    let hub = Hub::start(encoder(SIZE)).await;
    let folder = tempfile::tempdir().unwrap();
    for (uri, says) in [
        ("hf:org/other", "org/other@main does not exist"),
        ("hf:org/model#b.gguf", "b.gguf in org/model does not exist"),
        (
            "hf:org/model#pytorch_model.bin",
            "is neither safetensors nor gguf",
        ),
    ] {
        let said = refusal(hub.settings(&folder), source(uri)).await;
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn names_that_lead_out_of_the_snapshot_are_left_out() {
    let mut script = encoder(SIZE);
    script
        .files
        .insert("../../../evil.json".to_owned(), b"{}".to_vec());
    let hub = Hub::start(script).await;
    let folder = tempfile::tempdir().unwrap();
    fetch(hub.settings(&folder), source(MODEL)).await.unwrap();
    assert_eq!(hub.downloads("evil.json"), 0);
    assert!(
        !folder
            .path()
            .join("hub/models--org--model/evil.json")
            .exists()
    );
}

#[tokio::test]
async fn two_fetchers_at_once_download_once() {
    let hub = Hub::start(encoder(SIZE)).await;
    let folder = tempfile::tempdir().unwrap();
    let one = fetch(hub.settings(&folder), source(MODEL));
    let two = fetch(hub.settings(&folder), source(MODEL));
    let (one, two) = tokio::join!(one, two);
    assert_eq!(one.unwrap().path, two.unwrap().path);
    assert_eq!(hub.downloads("model.safetensors"), 1);
    assert_eq!(
        hub.downloads("/config.json"),
        2,
        "the two files of that name"
    );
}

#[tokio::test]
async fn what_is_cached_serves_offline_and_when_the_hub_is_gone() {
    let hub = Hub::start(encoder(SIZE)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = hub.settings(&folder);
    settings.hub.offline = true;
    let said = refusal(settings.clone(), source(MODEL)).await;
    assert!(
        said.contains("org/model is not in the cache, and the engine is offline"),
        "{said}"
    );
    assert!(hub.seen().is_empty());

    let fetched = fetch(hub.settings(&folder), source(MODEL)).await.unwrap();
    let asked = hub.seen().len();
    let files = fetch(settings, source(MODEL)).await.unwrap();
    assert_eq!(files.path, fetched.path);
    assert_eq!(hub.seen().len(), asked);

    let mut gone = hub.settings(&folder);
    gone.hub.endpoint = "http://127.0.0.1:1".to_owned();
    let files = fetch(gone, source(MODEL)).await.unwrap();
    assert_eq!(files.path, fetched.path);
}

#[tokio::test]
async fn a_file_of_a_commit_is_used_without_asking() {
    let hub = Hub::start(encoder(SIZE)).await;
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("hf:org/model@{COMMIT}#model.safetensors");
    fetch(hub.settings(&folder), source(&uri)).await.unwrap();
    let asked = hub.seen().len();
    fetch(hub.settings(&folder), source(&uri)).await.unwrap();
    assert_eq!(hub.seen().len(), asked);
}

#[tokio::test]
async fn a_busy_hub_is_asked_again_and_an_absent_one_is_named() {
    let hub = Hub::start(Script {
        busy: AtomicU64::new(2),
        ..encoder(SIZE)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    fetch(hub.settings(&folder), source(MODEL)).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut settings = kit::settings(&folder);
    settings.hub.endpoint = "http://127.0.0.1:1".to_owned();
    let said = refusal(settings.clone(), source(MODEL)).await;
    assert!(said.contains("org/model@main is out of reach"), "{said}");
    settings.hub.endpoint = "nowhere".to_owned();
    let said = refusal(settings, source(MODEL)).await;
    assert!(
        said.contains("the hub's address \"nowhere\" is no URL"),
        "{said}"
    );
}

#[tokio::test]
async fn sources_are_tried_in_order_and_each_says_why_it_fails() {
    let hub = Hub::start(encoder(SIZE)).await;
    let folder = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::new(hub.settings(&folder), Arc::new(Silent));
    let sources = ["file:absent.gguf", "s3://bucket//x", "hf:org/other"].map(source);
    let said = fetcher.fetch(&sources).await.unwrap_err().to_string();
    for says in [
        "none of the model's sources works; file:absent.gguf: ",
        "absent.gguf does not exist; s3://bucket//x: s3: needs a path without ",
        "hf:org/other: org/other@main does not exist",
    ] {
        assert!(said.contains(says), "{said}");
    }
    let sources = ["file:absent.gguf", MODEL].map(source);
    assert_eq!(
        fetcher.fetch(&sources).await.unwrap().origin.expose(),
        MODEL
    );
    let none = fetcher.fetch([]).await.unwrap_err().to_string();
    assert_eq!(none, "the model has no source");
}

#[tokio::test]
async fn a_folder_or_file_of_this_machine_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    fs::create_dir_all(base.join("m")).unwrap();
    fs::write(base.join("m/model.safetensors"), weights(10)).unwrap();
    let settings = kit::settings(&folder);
    let files = fetch(settings.clone(), source("file:m")).await.unwrap();
    assert_eq!(files.path, base.join("m"));
    let pin = sha256(&weights(10));
    let uri = "file:m/model.safetensors";
    let files = fetch(settings.clone(), pinned(uri, &pin)).await.unwrap();
    assert_eq!(files.path, base.join("m/model.safetensors"));
    for (source, says) in [
        (
            pinned(uri, &"0".repeat(64)),
            format!("has the sha256 {pin}, expected 0000"),
        ),
        (
            pinned("file:m", &pin),
            "is a folder, and a sha256 is that of a single file".to_owned(),
        ),
        (
            pinned(uri, "abc"),
            "a sha256 is 64 hexadecimal digits".to_owned(),
        ),
    ] {
        let said = refusal(settings.clone(), source).await;
        assert!(said.contains(&says), "{said}");
    }
    assert!(base.join("m/model.safetensors").exists());
    let from_within = Fetcher::new(settings, Arc::new(Silent)).fetch_blocking([&source("file:m")]);
    assert_eq!(from_within.unwrap().path, base.join("m"));
}

#[tokio::test]
async fn a_locked_repository_stays_at_its_commit_and_needs_no_network() {
    let hub = Hub::start(encoder(SIZE)).await;
    let folder = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::new(hub.settings(&folder), Arc::new(Silent));
    let entry = fetcher.resolve([&source(MODEL)]).await.unwrap();
    assert_eq!(entry.revision.as_deref(), Some(COMMIT));
    assert_eq!(entry.files.len(), 3);
    let locked = |folder: &tempfile::TempDir, entry: &schema::LockedSource| {
        let fetcher = Fetcher::new(hub.settings(folder), Arc::new(Silent));
        fetcher.use_lock(Some(schema::Lock::of([entry.clone()])), true);
        fetcher
    };
    // Nobody is asked for what is here, though `main` is a name that moves.
    let before = hub.seen().len();
    let files = locked(&folder, &entry).fetch([&source(MODEL)]).await;
    assert_eq!(files.unwrap().path, snapshot(folder.path()));
    assert_eq!(hub.seen().len(), before);
    // Where it is not here, the commit is asked for and not the name.
    let fresh = tempfile::tempdir().unwrap();
    locked(&fresh, &entry)
        .fetch([&source(MODEL)])
        .await
        .unwrap();
    let asked: Vec<_> = hub.seen().into_iter().skip(before).collect();
    let name = format!("/api/models/org/model/revision/{COMMIT}");
    assert_eq!(asked[0].path, name);
    // A lock that says another digest.
    let mut other = entry.clone();
    other.files[1].sha256 = "0".repeat(64);
    let said = locked(&folder, &other).fetch([&source(MODEL)]).await;
    let said = said.unwrap_err().to_string();
    assert!(said.contains("and the lock says 0000"), "{said}");
}
