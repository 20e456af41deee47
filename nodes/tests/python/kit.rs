//! Real workers for tests: a node over a Python text.

use nodes::{
    Catalog as _, Context, Input, Node, NodeError, Order, StandardCatalog, Value,
    source::{Fetcher, Settings, Silent},
};
use schema::{NodeDecl, Source, SourceId};
use std::{path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::Instant;

/// A folder with a Python file in it.
pub fn file(code: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("code.py"), code).unwrap();
    folder
}

/// A node of `code.py` in a folder, with further options.
pub fn declare(options: &str) -> NodeDecl {
    let text = format!(
        r#"graph g {{ input {{ x type=string }}
            python p {{ file "code.py"; {options} }}
            output {{ y "{{{{ p }}}}" }} }}"#
    );
    let source = Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text,
    };
    let (document, problems) = schema::parse(&source, &|_| None);
    assert!(problems.is_empty(), "{problems:?}");
    document.graphs[0].nodes[0].clone()
}

pub fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::from_environment();
    settings.cache_dir = folder.join("cache");
    settings.base_dir = folder.to_owned();
    settings
}

/// Starts a worker as a replica would.
pub async fn start_with(
    folder: &Path,
    options: &str,
    settings: Settings,
) -> Result<Arc<dyn Node>, NodeError> {
    let fetcher = Arc::new(Fetcher::new(settings, Arc::new(Silent)));
    let catalog = StandardCatalog::new(&[], &[], folder, &fetcher, None);
    let decl = declare(options);
    let order = Order {
        node: "g.p",
        work: &decl.work,
        batched: decl.pool.batch.is_some(),
        resources: &decl.pool.resources,
    };
    catalog.build(order).await
}

pub async fn try_start(folder: &TempDir, options: &str) -> Result<Arc<dyn Node>, NodeError> {
    start_with(folder.path(), options, settings(folder.path())).await
}

pub async fn start(folder: &TempDir, options: &str) -> Arc<dyn Node> {
    try_start(folder, options).await.unwrap()
}

pub fn input(arguments: &[(&str, Value)]) -> Input {
    Input {
        arguments: arguments
            .iter()
            .map(|(name, value)| (*name, value.clone()))
            .collect(),
        context: Context::default(),
    }
}

/// An item that is of no use after a while.
pub fn within(mut item: Input, time: Duration) -> Input {
    item.context.deadline = Some(Instant::now() + time);
    item
}

pub async fn ask(node: &Arc<dyn Node>, arguments: &[(&str, Value)]) -> Result<Value, NodeError> {
    let mut answers = node.run(vec![input(arguments)]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// What comes back as JSON; the message of an error.
pub async fn say(node: &Arc<dyn Node>, arguments: &[(&str, Value)]) -> String {
    match ask(node, arguments).await {
        Ok(value) => String::from_utf8(value.to_json().unwrap()).unwrap(),
        Err(error) => format!("error: {error}"),
    }
}

/// Waits until a process is gone.
pub async fn gone(pid: i64) {
    let until = Instant::now() + Duration::from_secs(30);
    while is_alive(pid) {
        assert!(Instant::now() < until, "process {pid} lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process runs; one that is dead and not yet noticed does not.
pub fn is_alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default();
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

pub fn kill(pid: i64) {
    let sent = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}
