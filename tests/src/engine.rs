//! The engine as a user runs it.

use serde_json::Value;
use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

/// How long a start may take: models are fetched the first time.
const START: Duration = Duration::from_secs(600);

/// The repository's root.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests are a folder of the repository")
        .to_owned()
}

/// Writes a graph file into a fresh folder.
pub fn write_graph(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("graph.kdl");
    std::fs::write(&path, text).expect("a file can be written there");
    (folder, path)
}

/// Runs a command of the binary to its end.
pub fn run_command(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .current_dir(repository())
        .output()
        .expect("the binary can be run")
}

/// The binary under test, built if it is not fresh: a test crate of its own does not get it from
/// cargo.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let test = std::env::current_exe().expect("a test knows its own path");
        let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
        let mut build = Command::new(cargo);
        // With a test and the whole workspace, dependencies get the features that they have in
        // `cargo test`, and what that has built is not built a second time.
        build.args(["build", "--quiet", "--workspace", "--bin", "engine"]);
        build.args(["--test", "architecture"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let built = build.current_dir(repository()).status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "the binary must build"
        );
        profile.join("engine")
    })
}

/// A running engine; it is ended when this is dropped.
pub struct Engine {
    child: Child,
    url: String,
    admin: String,
    log: Arc<Log>,
    client: reqwest::Client,
}

/// An answer as a client sees it.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers by lower-case name.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text))
    }
}

impl Engine {
    /// Starts `engine run FILE` and waits until it is ready.
    pub fn start(file: &Path) -> Self {
        Self::start_with(file, &[])
    }

    /// Starts with further arguments.
    pub fn start_with(file: &Path, arguments: &[&str]) -> Self {
        let own = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Self::run(file, &[&own, arguments].concat(), &[])
    }

    /// Starts with further variables in its environment.
    pub fn start_in(file: &Path, environment: &[(&str, &OsStr)]) -> Self {
        let own = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Self::run(file, &own, environment)
    }

    /// Starts at the addresses that the file states.
    pub fn start_as_written(file: &Path) -> Self {
        Self::run(file, &[], &[])
    }

    fn run(file: &Path, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Self {
        let mut child = Command::new(binary())
            .arg("run")
            .arg(file)
            .args(["--log-format", "json"])
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(repository())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let log = Log::follow(child.stderr.take().expect("standard error is piped"));
        let Some(ready) = log.wait_for(START, is_ready) else {
            let _ = child.kill();
            panic!("the engine did not get ready:\n{}", log.text());
        };
        let address = |key: &str| {
            let ready: Value = serde_json::from_str(&ready).expect("the line is JSON");
            let address = ready[key].as_str().expect("the line names its addresses");
            format!("http://{address}")
        };
        Self {
            url: address("listen"),
            admin: address("admin"),
            child,
            log,
            client: nodes::http_client().build().expect("a client can be built"),
        }
    }

    /// The address of a path on the public listener.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The address of a path on the admin listener.
    pub fn admin(&self, path: &str) -> String {
        format!("{}{path}", self.admin)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line of the log; `None` if it does not come in time.
    pub fn wait_for_log(&self, within: Duration, wanted: fn(&str) -> bool) -> Option<String> {
        self.log.wait_for(within, wanted)
    }

    /// A client for requests that the methods here do not cover.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Posts JSON to a route.
    pub async fn post(&self, route: &str, body: Value) -> Answer {
        let request = self.client.post(self.url(route)).json(&body);
        self.send(request).await
    }

    /// Gets a path of the public listener.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(self.url(path))).await
    }

    /// Sends any request.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error:?}\n{}", self.log()),
        };
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.text().await.expect("the body arrives whole"),
        }
    }

    /// Asks it to end, as a service manager does, and waits for its exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "the signal is sent"
        );
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ready(line: &str) -> bool {
    line.contains(r#""message":"ready""#)
}

/// Lines that a process writes, read by a thread so that its pipe never fills up.
#[derive(Default)]
struct Log {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Default)]
struct Lines {
    all: Vec<String>,
    ended: bool,
}

impl Log {
    fn follow(pipe: impl std::io::Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                writer.lock().all.push(line);
                writer.grown.notify_all();
            }
            writer.lock().ended = true;
            writer.grown.notify_all();
        });
        log
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        self.lock().all.join("\n")
    }

    fn wait_for(&self, within: Duration, wanted: fn(&str) -> bool) -> Option<String> {
        let waiting =
            |lines: &mut Lines| !lines.ended && !lines.all.iter().any(|line| wanted(line));
        let (lines, _) = self
            .grown
            .wait_timeout_while(self.lock(), within, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        lines.all.iter().find(|line| wanted(line)).cloned()
    }
}
