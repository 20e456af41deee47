//! Real servers for tests: Python packages in environments of their own, and processes that end with
//! the test that started them.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    fs::{self, File},
    hash::{Hash, Hasher},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};
use tokio::time::Instant;

/// How long a server may take to answer after its start.
const START: Duration = Duration::from_secs(120);

/// The Python of an environment that has these packages (`name==version`), made on first use and
/// kept in the user's cache for later runs.
pub fn python_with(packages: &[&str]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    packages.hash(&mut hasher);
    let folder = cache().join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(cache()).expect("the cache can be made");
    // One test makes it, others that want the same wait.
    let lock = File::create(folder.with_extension("lock")).expect("a lock can be made");
    lock.lock().expect("the lock can be taken");
    let (python, ready) = (folder.join("bin/python"), folder.join("ready"));
    if !ready.exists() {
        eprintln!("installing {}", packages.join(" "));
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder));
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-input"])
            .arg("--disable-pip-version-check")
            .args(packages));
        File::create(ready).expect("the environment is writable");
    }
    python
}

/// A TCP port of the loopback address that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a listener knows its address");
    address.port()
}

/// A server process. It is killed when this is dropped.
pub struct Server(Child);

impl Server {
    /// Starts a command; what it writes goes to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let out = File::create(log).expect("the log can be written");
        let errors = out.try_clone().expect("the log can be written twice");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn();
        Self(child.expect("the server can be started"))
    }

    /// Waits until `ready` holds, and panics with the log if the server ends before or takes too long.
    pub fn wait_until(&mut self, log: &Path, mut ready: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !ready() {
            let ended = self.0.try_wait().expect("a child can be asked").is_some();
            if ended || begun.elapsed() > START {
                let log = fs::read_to_string(log).unwrap_or_default();
                panic!("the server did not get ready:\n{log}");
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    cache.join("engine/test-servers")
}

fn run(command: &mut Command) {
    let status = command.status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{command:?} must succeed"
    );
}
