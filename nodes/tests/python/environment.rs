//! Variables, packages and the log.

use crate::kit::{file, say, settings, start, start_with};
use nodes::Value;
use std::{fs, path::Path};
use zip::{ZipWriter, write::SimpleFileOptions};

#[tokio::test]
async fn a_worker_sees_the_variables_that_are_passed_on() {
    let folder = file("import os\ndef seen():\n    return dict(os.environ)\n");
    let names = ["HOME", "PATH", "CARGO_MANIFEST_DIR"];
    let seen = async |options: &str| {
        let node = start(&folder, options).await;
        let said = say(&node, &[]).await;
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        names.map(|name| value.get(name).is_some())
    };
    assert_eq!(seen(r#"function "seen""#).await, [true, true, false]);
    let passed = r#"function "seen"; env "CARGO_MANIFEST_DIR""#;
    assert_eq!(seen(passed).await, [true, true, true]);
}

#[tokio::test]
async fn files_beside_the_file_are_found() {
    let folder = file("import near\ndef f():\n    return near.NAME + open('data.txt').read()\n");
    fs::write(folder.path().join("near.py"), "NAME = 'near'\n").unwrap();
    fs::write(folder.path().join("data.txt"), ", data").unwrap();
    let node = start(&folder, r#"function "f""#).await;
    assert_eq!(say(&node, &[]).await, r#""near, data""#);
}

/// A wheel of one module.
fn wheel(folder: &Path, version: &str) {
    let path = folder.join(format!("wheels/tiny_thing-{version}-py3-none-any.whl"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut zip = ZipWriter::new(fs::File::create(path).unwrap());
    let info = format!("tiny_thing-{version}.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: tiny-thing\nVersion: {version}\n");
    let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    for (name, content) in [
        (
            "tiny_thing.py".to_owned(),
            format!("VERSION = '{version}'\n"),
        ),
        (format!("{info}/METADATA"), metadata),
        (format!("{info}/WHEEL"), tags.to_owned()),
        (
            format!("{info}/RECORD"),
            format!("tiny_thing.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"),
        ),
    ] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, content.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

#[tokio::test]
async fn packages_are_installed_once_for_each_list() {
    let folder = file("import tiny_thing\ndef f():\n    return tiny_thing.VERSION\n");
    let root = folder.path();
    wheel(root, "1.0");
    wheel(root, "2.0");
    let list = |version: &str| {
        fs::write(
            root.join("requirements.txt"),
            format!("tiny-thing=={version}\n"),
        )
        .unwrap();
    };
    let mut settings = settings(root);
    settings.pip_environment = vec![
        ("PIP_NO_INDEX".into(), "1".into()),
        ("PIP_FIND_LINKS".into(), root.join("wheels").into()),
    ];
    let options = r#"function "f"; requirements "requirements.txt""#;
    let built = || fs::read_dir(root.join("cache/python")).unwrap().count();

    list("1.0");
    let both = tokio::join!(
        start_with(root, options, settings.clone()),
        start_with(root, options, settings.clone()),
    );
    for node in [both.0.unwrap(), both.1.unwrap()] {
        assert_eq!(say(&node, &[]).await, r#""1.0""#);
    }
    assert_eq!(built(), 1);
    list("2.0");
    let node = start_with(root, options, settings.clone()).await.unwrap();
    assert_eq!(say(&node, &[]).await, r#""2.0""#);
    assert_eq!(built(), 2);
    // Without a network, what is built is used and what is not cannot be.
    settings.offline = true;
    list("1.0");
    let node = start_with(root, options, settings.clone()).await.unwrap();
    assert_eq!(say(&node, &[]).await, r#""1.0""#);
    list("3.0");
    let error = start_with(root, options, settings.clone())
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("the engine is offline"),
        "{error}"
    );
    settings.offline = false;
    let error = start_with(root, options, settings).await.err().unwrap();
    assert!(error.to_string().contains("tiny-thing==3.0"), "{error}");
}

#[tokio::test]
async fn an_argument_may_have_a_dash_in_its_name() {
    let node = start(
        &file("def f(max_words):\n    return max_words\n"),
        r#"function "f""#,
    )
    .await;
    assert_eq!(say(&node, &[("max-words", Value::Integer(3))]).await, "3");
}
