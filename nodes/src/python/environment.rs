//! Interpreters, and virtual environments that are built once.
//!
//! An environment lies in the engine's cache under the digest of its `requirements.txt` and of the
//! interpreter, so that engines share it and a changed file makes another. pip is the user's own, with
//! its configuration; unlike the wheels of a model, these packages are installed as pip does it, which
//! may run code of theirs. What a file includes by `-r` is not looked at.

use crate::{
    NodeError,
    source::{Fetcher, Problem, content_digest, text_digest},
};
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{process::Command, sync::OnceCell};

/// How often the growing folder is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How much of what pip says goes into a message.
const MAX_SAID: usize = 600;

/// Written last, so that an environment that was not finished is not taken for one.
const FINISHED: &str = "finished";

/// Prints what an environment depends on: where the interpreter is and what it is.
const WHO: &str = "import sys; print(sys.executable); print(sys.version, sys.platform)";

/// Finds and builds what Python workers run in.
pub(crate) struct Environments {
    fetcher: Arc<Fetcher>,
    interpreter: OnceCell<Interpreter>,
}

/// A Python, as it says itself.
#[derive(Debug, Clone)]
struct Interpreter {
    /// Where it really is: what is found on the path may be a script that looks for it each time.
    executable: PathBuf,
    version: String,
}

impl Environments {
    pub(crate) fn new(fetcher: Arc<Fetcher>) -> Self {
        Self {
            fetcher,
            interpreter: OnceCell::new(),
        }
    }

    /// The Python to start: with the packages of a `requirements.txt` if one is given.
    pub(super) async fn python(&self, requirements: Option<&Path>) -> Result<PathBuf, NodeError> {
        let interpreter = self.interpreter.get_or_try_init(|| self.look());
        let interpreter = interpreter.await?;
        let Some(requirements) = requirements else {
            return Ok(interpreter.executable.clone());
        };
        let built = self.built(interpreter, requirements).await;
        built.map_err(|problem| {
            let file = requirements.display();
            NodeError::because(format!("failed to install {file}: {problem}"), problem)
        })
    }

    async fn look(&self) -> Result<Interpreter, NodeError> {
        let python = &self.fetcher.workshop().python;
        let mut command = Command::new(python);
        command.args(["-c", WHO]).stdin(Stdio::null());
        let output = command.output().await;
        let said = output.map_err(|error| {
            let reason = format!(
                "there is no Python at {}; ENGINE_PYTHON names one",
                python.display()
            );
            NodeError::because(reason, error)
        })?;
        let text = String::from_utf8_lossy(&said.stdout);
        match text.trim().split_once('\n') {
            Some((executable, version)) if said.status.success() => Ok(Interpreter {
                executable: executable.trim().into(),
                version: version.to_owned(),
            }),
            _ => Err(NodeError::failed(format!(
                "{} does not run Python: {}",
                python.display(),
                String::from_utf8_lossy(&said.stderr).trim()
            ))),
        }
    }

    async fn built(
        &self,
        interpreter: &Interpreter,
        requirements: &Path,
    ) -> Result<PathBuf, Problem> {
        let digest = content_digest(requirements)?;
        let executable = interpreter.executable.display();
        let key = text_digest(&format!("{digest}\n{executable}\n{}", interpreter.version));
        let workshop = self.fetcher.workshop();
        let folder = workshop.cache_dir.join("python").join(&key);
        let python = folder.join("bin/python");
        if folder.join(FINISHED).exists() {
            return Ok(python);
        }
        if workshop.offline {
            return Err(Problem::Offline {
                what: format!("the environment for {}", requirements.display()),
            });
        }
        let lock = self.fetcher.lock(&format!("python-{key}")).await?;
        if folder.join(FINISHED).exists() {
            return Ok(python);
        }
        let _ = std::fs::remove_dir_all(&folder);
        let mut command = self.command(interpreter);
        command.args(["-m", "venv", "--without-pip"]).arg(&folder);
        succeeded("venv", &run(command, "venv").await?)?;
        let mut command = self.command(interpreter);
        command
            .args(["-m", "pip", "--python"])
            .arg(&python)
            .args(["install", "--no-input", "--disable-pip-version-check"])
            .args(["--progress-bar", "off", "-r"])
            .arg(std::path::absolute(requirements).unwrap_or_else(|_| requirements.to_owned()));
        if let Some(near) = requirements.parent().filter(|near| *near != Path::new("")) {
            command.current_dir(near);
        }
        self.install(command, &folder).await?;
        let finished = folder.join(FINISHED);
        std::fs::write(&finished, "").map_err(Problem::disk("write", &finished))?;
        drop(lock);
        Ok(python)
    }

    fn command(&self, interpreter: &Interpreter) -> Command {
        let mut command = Command::new(&interpreter.executable);
        command
            .envs(self.fetcher.workshop().pip_environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs pip and shows how the folder grows.
    async fn install(&self, command: Command, folder: &Path) -> Result<(), Problem> {
        let mut transfer = self
            .fetcher
            .workshop()
            .progress
            .start("python packages", None);
        let output = run(command, "pip");
        tokio::pin!(output);
        let output = loop {
            tokio::select! {
                output = &mut output => break output?,
                () = tokio::time::sleep(LOOK) => {
                    let folder = folder.to_owned();
                    let size = tokio::task::spawn_blocking(move || size(&folder)).await;
                    transfer.at(size.unwrap_or(0));
                }
            }
        };
        succeeded("pip install", &output)?;
        transfer.finish();
        Ok(())
    }
}

async fn run(mut command: Command, program: &str) -> Result<Output, Problem> {
    let output = command.output().await;
    output.map_err(|error| Problem::Program {
        program: program.to_owned(),
        reason: error.to_string(),
    })
}

fn succeeded(program: &str, output: &Output) -> Result<(), Problem> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let errors = said.lines().filter_map(|line| line.strip_prefix("ERROR: "));
    let mut reason = errors.collect::<Vec<_>>().join("; ");
    if reason.is_empty() {
        reason = said.trim().to_owned();
    }
    reason.truncate(reason.floor_char_boundary(MAX_SAID));
    if reason.is_empty() {
        reason = output.status.to_string();
    }
    Err(Problem::Program {
        program: program.to_owned(),
        reason,
    })
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
