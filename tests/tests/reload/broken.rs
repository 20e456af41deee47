//! A file that is not good keeps what runs, and its fix heals.

use crate::kit::{file, generation, save, step, until};
use serde_json::Value;
use tests::{Engine, write_graph};

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_include_keeps_what_runs_and_its_fix_heals() {
    let (folder, path) = write_graph("include \"echo.kdl\"\n");
    let include = folder.path().join("echo.kdl");
    save(&include, &file(1));
    let engine = Engine::start(&path);
    save(&include, "graph echo { output { a \"{{ nothing }}\" } }");
    let failed = |status: &Value| status["last_reload"]["ok"] == false;
    let status = until(&engine, "/status", failed).await;
    assert_eq!(status["generation"], 1);
    let problem = status["last_reload"]["problems"][0].as_str().unwrap();
    assert!(
        problem.contains("nothing") && problem.contains("echo.kdl:1"),
        "{problem}"
    );
    assert_eq!(step(&engine).await, "1");
    save(&include, &file(2));
    generation(&engine, 2).await;
    assert_eq!(step(&engine).await, "2");
    // Gone for good, and back.
    std::fs::remove_file(&include).unwrap();
    let status = until(&engine, "/status", failed).await;
    assert!(
        status["last_reload"]["problems"][0]
            .as_str()
            .unwrap()
            .contains("cannot read")
    );
    save(&include, &file(3));
    generation(&engine, 3).await;
    let metrics = engine
        .send(engine.client().get(engine.admin("/metrics")))
        .await;
    for line in [
        "engine_config_generation 3",
        "engine_reloads_total{result=\"ok\"} 2",
        "engine_reloads_total{result=\"failed\"} 2",
    ] {
        assert!(metrics.text.contains(line), "{line}\n{}", metrics.text);
    }
}

/// What cannot be read at all is looked at again as well as what can.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_text_and_a_folder_in_its_place_heal_too() {
    let (_folder, path) = write_graph(&file(1));
    let engine = Engine::start(&path);
    let says = |what: &'static str| {
        move |status: &Value| {
            let problems = status["last_reload"]["problems"].as_array();
            problems.is_some_and(|all| all.iter().any(|one| one.to_string().contains(what)))
        }
    };
    std::fs::write(&path, b"graph \xff\xfe\n").unwrap();
    until(&engine, "/status", says("not UTF-8")).await;
    save(&path, &file(2));
    generation(&engine, 2).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    until(&engine, "/status", says("directory")).await;
    std::fs::remove_dir(&path).unwrap();
    save(&path, &file(3));
    generation(&engine, 3).await;
    assert_eq!(step(&engine).await, "3");
}
