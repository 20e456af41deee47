//! From files, texts and memory to a program that is good.

use super::{Done, Problems, Supervisor, Way, capacity};
use crate::{
    content, facts,
    load::{self, Given, Loaded, Origin, Rejected},
    locked,
    reload::{self, Outcome, watch::Seen},
    report::{self, Style},
    topology::unbuilt,
};
use schema::{Diagnostic, Sources};
use std::sync::Arc;
use tokio::{task::JoinError, time::Instant};
use tracing::warn;

impl Supervisor {
    /// Looks at everything that is watched.
    pub(super) async fn look(&self) -> Option<Vec<Seen>> {
        let files: Vec<_> = self.watch.files().cloned().collect();
        let base_dir = facts::base_dir(&self.settings.file);
        let look = move || files.iter().map(|file| file.look(&base_dir)).collect();
        tokio::task::spawn_blocking(look).await.ok()
    }

    /// Loads the file and puts it in the place of what runs.
    pub(super) async fn reload(&mut self) -> Result<Done, Problems> {
        let file = self.settings.file.clone();
        let load = move || load::load(&file, facts::gather(&file));
        let mut loaded = tokio::task::spawn_blocking(load).await;
        let lock = match &mut loaded {
            Ok(Ok(loaded)) => self.take_lock(loaded),
            _ => Ok(()),
        };
        match &loaded {
            Ok(Ok(Loaded {
                sources, program, ..
            })) => {
                self.watch = reload::watch(sources, &[], &content::seen_of(program));
            }
            Ok(Err(Rejected {
                sources,
                unread,
                named,
                ..
            })) => self.watch = reload::watch(sources, unread, named),
            Err(_) => {}
        }
        let loaded = good(loaded)?;
        lock?;
        self.change_to(Arc::new(loaded.program), Way::AsTheFileSays)
            .await
    }

    /// Reads the lock again, which may have changed with the file. What is loaded stays as it is.
    fn take_lock(&self, loaded: &mut Loaded) -> Result<(), Problems> {
        let binding = self.settings.locked;
        let (lock, problems) = locked::read(&self.settings.file, loaded, binding);
        if problems.iter().any(Diagnostic::is_error) {
            return Err(drawn(&problems, &loaded.sources));
        }
        for problem in &problems {
            warn!(code = problem.code, "{}", problem.message);
        }
        self.fetcher.use_lock(lock, binding);
        Ok(())
    }

    /// Goes back to an earlier generation, over what lies on the disk by now.
    pub(super) async fn roll_back(&mut self, wanted: Option<u64>) -> Result<Done, Problems> {
        if let Some(rollout) = &self.rollout {
            let generation = rollout.generation();
            return Err(vec![format!(
                "a rollout of generation {generation} is under way; `engine abort` ends it"
            )]);
        }
        let current = self.front.topology().generation();
        let mut earlier = self.history.iter().rev();
        let found = match wanted {
            Some(wanted) => earlier.find(|(generation, _)| *generation == wanted),
            None => earlier.find(|(generation, _)| *generation < current),
        };
        let Some((generation, program)) = found else {
            let known: Vec<_> = self.history.iter().map(|(n, _)| n.to_string()).collect();
            let known = known.join(", ");
            return Err(vec![format!("no such generation; there are {known}")]);
        };
        if let Some(standby) = self
            .standby
            .take_if(|standby| standby.generation() == *generation)
        {
            return self.swap_back(standby).await;
        }
        let base_dir = facts::base_dir(&self.settings.file);
        let content = content::gather(&content::of_program(program), &base_dir);
        let program = Arc::new(program.with_content(content));
        self.change_to(program, Way::AtOnce).await
    }

    /// Says what a reload to these texts would do. Nothing is touched.
    pub(super) async fn plan(&self, texts: Vec<Given>) -> Outcome {
        let begun = Instant::now();
        let running = self.front.topology();
        let file = self.settings.file.clone();
        let main = texts.first().map(|given| given.path.clone());
        let load = move || {
            let main = main.unwrap_or_default();
            load::load_from(Origin::Given(texts), &main, facts::gather(&file))
        };
        let mut outcome = match good(tokio::task::spawn_blocking(load).await) {
            Ok(loaded) => {
                let plan = graphs::plan(running.program(), &loaded.program, capacity());
                Outcome {
                    plan: plan.to_string(),
                    ..Outcome::done(running.generation(), Some(plan.counts()))
                }
            }
            Err(problems) => Outcome::refused(running.generation(), problems),
        };
        outcome.millis = begun.elapsed().as_millis() as u64;
        outcome
    }
}

/// What was loaded, if it can be run.
fn good(loaded: Result<Result<Loaded, Rejected>, JoinError>) -> Result<Loaded, Problems> {
    let loaded = loaded.map_err(|error| vec![format!("the file cannot be read: {error}")])?;
    let loaded = loaded.map_err(|rejected| drawn(&rejected.diagnostics, &rejected.sources))?;
    let unbuilt = unbuilt(&loaded.program);
    match unbuilt.is_empty() {
        true => Ok(loaded),
        false => Err(drawn(&unbuilt, &loaded.sources)),
    }
}

/// Errors as `engine check` draws them, without colours.
fn drawn(diagnostics: &[Diagnostic], sources: &Sources) -> Problems {
    let style = Style {
        colours: false,
        width: 100,
    };
    let errors = diagnostics.iter().filter(|one| one.is_error());
    let texts = errors.map(|one| report::human(std::slice::from_ref(one), sources, style));
    texts.map(|text| text.trim_end().to_owned()).collect()
}
