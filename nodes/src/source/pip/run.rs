//! Runs `pip download`.

use crate::source::{Problem, Progress, Requirement, Settings};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::process::Command;

/// How often the growing folder is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How much of what pip says goes into a message.
const MAX_SAID: usize = 600;

/// pip, with the user's own configuration.
pub(super) struct Pip {
    python: PathBuf,
    environment: Vec<(OsString, OsString)>,
    progress: Arc<dyn Progress>,
}

impl Pip {
    pub(super) fn new(settings: &Settings, progress: Arc<dyn Progress>) -> Self {
        Self {
            python: settings.python.clone(),
            environment: settings.pip_environment.clone(),
            progress,
        }
    }

    /// The wheel, below `work`. One that an earlier run left there whole is not fetched again.
    pub(super) async fn download(
        &self,
        requirement: &Requirement,
        work: &Path,
    ) -> Result<PathBuf, Problem> {
        let name = requirement.to_string();
        let done = work.join(&name);
        if let Some(wheel) = wheel_in(&done) {
            return Ok(wheel);
        }
        let fetching = work.join(format!("{name}.incomplete"));
        let _ = fs::remove_dir_all(&fetching);
        let (target, temporary) = (fetching.join("wheel"), fetching.join("tmp"));
        for folder in [&target, &temporary] {
            fs::create_dir_all(folder).map_err(Problem::disk("create", folder))?;
        }
        let command = self.command(&name, &target, &temporary);
        let output = self.watch(command, &name, &fetching).await?;
        if !output.status.success() {
            return Err(failed(&output));
        }
        fs::rename(&target, &done).map_err(Problem::disk("rename", &target))?;
        let _ = fs::remove_dir_all(&fetching);
        wheel_in(&done).ok_or_else(|| Problem::Program {
            program: "pip download".to_owned(),
            reason: format!("it left no wheel for {name}"),
        })
    }

    fn command(&self, requirement: &str, target: &Path, temporary: &Path) -> Command {
        let mut command = Command::new(&self.python);
        command
            .args(["-m", "pip", "download", "--no-deps"])
            // Building from source would run the package's code.
            .args(["--only-binary", ":all:"])
            .args([
                "--no-input",
                "--disable-pip-version-check",
                "--progress-bar",
                "off",
            ])
            .arg("--dest")
            .arg(target)
            .arg("--")
            .arg(requirement)
            // pip downloads into its temporary folder first: there the bytes can be counted.
            .env("TMPDIR", temporary)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn watch(
        &self,
        mut command: Command,
        name: &str,
        folder: &Path,
    ) -> Result<Output, Problem> {
        let program = self.python.display();
        let child = command.spawn().map_err(|error| Problem::Program {
            program: format!("{program} -m pip"),
            reason: format!("{error}; pip: sources need Python with pip, ENGINE_PYTHON names it"),
        })?;
        let mut transfer = self.progress.start(name, None);
        let output = child.wait_with_output();
        tokio::pin!(output);
        loop {
            tokio::select! {
                output = &mut output => {
                    let output = output.map_err(|error| Problem::Program {
                        program: format!("{program} -m pip"),
                        reason: error.to_string(),
                    })?;
                    if output.status.success() {
                        transfer.at(largest(folder, 3));
                        transfer.finish();
                    }
                    return Ok(output);
                }
                () = tokio::time::sleep(LOOK) => transfer.at(largest(folder, 3)),
            }
        }
    }
}

/// The size of the largest file: the wheel, which pip moves from folder to folder.
fn largest(folder: &Path, depth: u32) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && depth > 0 => largest(&entry.path(), depth - 1),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        })
        .max()
        .unwrap_or(0)
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let mut wheels = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let wheel = wheels.next()?;
    wheels.next().is_none().then_some(wheel)
}

/// What pip said went wrong; its warnings and hints are left out if it says so much.
fn failed(output: &Output) -> Problem {
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ERROR: "))
        .collect();
    let reason = match errors.as_slice() {
        [] => said.trim().to_owned(),
        errors => errors.join("; "),
    };
    let end = reason.floor_char_boundary(MAX_SAID);
    Problem::Program {
        program: "pip download".to_owned(),
        reason: match reason.is_empty() {
            true => output.status.to_string(),
            false => reason[..end].to_owned(),
        },
    }
}
