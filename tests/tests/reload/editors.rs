//! Files are saved in many ways.

#![cfg(unix)]

use crate::kit::{file, generation, save, step};
use tests::Engine;

#[tokio::test(flavor = "multi_thread")]
async fn editors_that_rename_and_mounted_folders_that_are_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, number) in [("v1", 1), ("v2", 2)] {
        std::fs::create_dir(at(version)).unwrap();
        save(&at(version).join("graph.kdl"), &file(number));
    }
    // As Kubernetes mounts a config map: graph.kdl -> current/graph.kdl, current -> v1.
    std::os::unix::fs::symlink(at("v1"), at("current")).unwrap();
    std::os::unix::fs::symlink(at("current").join("graph.kdl"), at("graph.kdl")).unwrap();
    let engine = Engine::start(&at("graph.kdl"));
    assert_eq!(step(&engine).await, "1");
    std::os::unix::fs::symlink(at("v2"), at("next")).unwrap();
    std::fs::rename(at("next"), at("current")).unwrap();
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "2");
    save(&at("saved"), &file(3));
    std::fs::rename(at("saved"), at("graph.kdl")).unwrap();
    generation(&engine, 3).await;
    assert_eq!(step(&engine).await, "3");
}
