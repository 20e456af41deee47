//! Starting a worker process, and what it writes.
//!
//! Its three standard streams are its whole connection to the engine: standard input is a pipe whose
//! only use is to break when the engine ends, standard output is the socket, and standard error takes
//! what is printed and logged.

use super::{frame, line::Line};
use crate::{NodeError, Value};
use bytes::BytesMut;
use std::{
    ffi::OsString,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
};
use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    process::{Child, ChildStderr, Command},
};

/// Becomes what it is sent.
const BOOT: &str = include_str!("worker/boot.py");

/// What it is sent.
const SOURCE: &str = concat!(
    include_str!("worker/codec.py"),
    include_str!("worker/serve.py"),
    include_str!("worker/main.py"),
);

/// Variables that every worker sees, where they are set.
const VARIABLES: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"];

/// Variables by which the numeric libraries learn how many threads they may take.
const THREADS: [&str; 3] = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"];

/// What is begun with the mark is a record of `logging`; a letter says how grave it is.
const MARK: char = '\u{1e}';

/// What stands for a line break within a record.
const BREAK: char = '\u{1f}';

/// The longest line that is logged in one piece, in bytes.
const MAX_LINE: usize = 16 << 10;

/// How to start workers of one node.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// The node, as logs name it.
    pub(super) node: Arc<str>,
    pub(super) python: PathBuf,
    /// Where it runs: paths in its code are relative to it.
    pub(super) folder: PathBuf,
    pub(super) file: PathBuf,
    pub(super) entry: Arc<str>,
    /// Whether it is called with lists.
    pub(super) batched: bool,
    /// Bytes of address space.
    pub(super) memory: Option<u64>,
    pub(super) threads: usize,
    /// Names of further variables of the engine's environment.
    pub(super) env: Vec<String>,
}

impl Recipe {
    /// Starts a process. Dropping it kills it.
    pub(super) fn start(&self) -> Result<(Child, Line), NodeError> {
        let cannot = |error| NodeError::because("failed to start a Python worker", error);
        let (ours, theirs) = StdStream::pair().map_err(cannot)?;
        ours.set_nonblocking(true).map_err(cannot)?;
        let mut line = Line::new(UnixStream::from_std(ours).map_err(cannot)?);
        let mut child = self.command(theirs.into()).spawn().map_err(|error| {
            let reason = format!("failed to start {}", self.python.display());
            NodeError::because(reason, error)
        })?;
        line.send(frame::start(SOURCE, &self.order())?)
            .map_err(cannot)?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(follow(stderr, Arc::clone(&self.node)));
        }
        Ok((child, line))
    }

    fn command(&self, socket: OwnedFd) -> Command {
        let mut command = Command::new(&self.python);
        command
            .args(["-c", BOOT])
            // Seen in lists of processes.
            .arg(&*self.node)
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::from(socket))
            .stderr(Stdio::piped())
            // An interrupt from a terminal is for the engine, which then lets its workers finish.
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let threads = self.threads.to_string();
        let threads = THREADS.map(|name| (name.into(), threads.as_str().into()));
        let passed = VARIABLES
            .into_iter()
            .chain(self.env.iter().map(|name| &**name));
        let passed = passed.filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        // What the file passes on stands over what is put here.
        threads.into_iter().chain(passed).collect()
    }

    fn order(&self) -> Value {
        let memory = self.memory.and_then(|bytes| i64::try_from(bytes).ok());
        let fields = [
            ("node", Value::text(&*self.node)),
            ("file", Value::text(self.file.to_string_lossy())),
            ("entry", Value::text(&*self.entry)),
            ("batched", Value::Boolean(self.batched)),
            ("memory", memory.map_or(Value::None, Value::Integer)),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value));
        Value::Map(Arc::new(fields.collect()))
    }
}

/// Puts what a worker writes into the log, line by line, until it ends.
async fn follow(mut pipe: ChildStderr, node: Arc<str>) {
    let mut written = BytesMut::with_capacity(4096);
    loop {
        let ended = !matches!(pipe.read_buf(&mut written).await, Ok(1..));
        while let Some(end) = written.iter().position(|byte| *byte == b'\n') {
            log(&node, &written.split_to(end + 1));
        }
        if (ended && !written.is_empty()) || written.len() > MAX_LINE {
            log(&node, &written.split());
        }
        if ended {
            return;
        }
    }
}

fn log(node: &str, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    let mut record = line.strip_prefix(MARK).unwrap_or_default().chars();
    let level = record.next();
    let text = record.as_str().replace(BREAK, "\n");
    match level {
        None if line.is_empty() => {}
        None => tracing::info!(node, "{line}"),
        Some('D') => tracing::debug!(node, "{text}"),
        Some('I') => tracing::info!(node, "{text}"),
        Some('W') => tracing::warn!(node, "{text}"),
        Some(_) => tracing::error!(node, "{text}"),
    }
}
