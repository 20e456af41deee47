//! One object from a store to the disk, resumed where it was cut off: within a run, and by the next
//! run.

use super::{failure::problem, note::Object};
use crate::source::{ObjectPlace, Problem, Transfer};
use futures::StreamExt as _;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, path::Path as Location};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tokio::io::AsyncWriteExt;

/// How often in a row a download is taken up again without a byte of gain.
const ATTEMPTS: u32 = 3;

/// What is to be downloaded.
pub(super) struct Download<'a> {
    pub(super) store: &'a dyn ObjectStore,
    pub(super) place: &'a ObjectPlace,
    pub(super) location: Location,
    pub(super) object: &'a Object,
    /// For messages.
    pub(super) what: String,
    /// Where the bytes are gathered; another content has another such file.
    pub(super) incomplete: PathBuf,
    /// Whether the environment says whom the store takes us for.
    pub(super) signed: bool,
    /// Whether a digest vouches for what is put together.
    pub(super) pinned: bool,
}

impl Download<'_> {
    /// Fetches what is missing, and says which version it was, where the store tells.
    pub(super) async fn run(&self, transfer: &mut dyn Transfer) -> Result<Option<String>, Problem> {
        // Only what a name of the content or a digest vouches for may be followed on.
        let resumes = self.pinned || (self.object.etag.is_some() && !self.object.weak);
        let (mut failures, mut best) = (0, 0);
        loop {
            if !resumes || self.have()? > self.object.size {
                self.remove()?;
            }
            let problem = match self.attempt(transfer).await {
                Ok(version) => return Ok(version),
                Err(problem) => problem,
            };
            if !matches!(problem, Problem::Unreachable { .. }) {
                self.remove()?;
                return Err(problem);
            }
            let have = self.have()?;
            match have > best {
                true => (failures, best) = (0, have),
                false => failures += 1,
            }
            if failures == ATTEMPTS {
                return Err(problem);
            }
            tracing::debug!(what = self.what, have, %problem, "taking a download up again");
        }
    }

    /// Goes on until the file is whole or the answer ends.
    async fn attempt(&self, transfer: &mut dyn Transfer) -> Result<Option<String>, Problem> {
        let have = self.have()?;
        transfer.at(have);
        if have == self.object.size && have > 0 {
            return Ok(self.object.version.clone());
        }
        let answer = self.store.get_opts(&self.location, self.options(have));
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(error) => {
                if have > 0 && knows_no_ranges(&error) {
                    // From the start then, at the next attempt.
                    self.remove()?;
                }
                return Err(self.problem(&error));
            }
        };
        self.check(&answer, have)?;
        let version = answer.meta.version.clone();
        let write = || Problem::disk("write", &self.incomplete);
        let mut file = tokio::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.incomplete)
            .await
            .map_err(write())?;
        let result = self.copy(answer, &mut file, have, transfer).await;
        // Also what came before an error is kept.
        file.flush().await.map_err(write())?;
        file.sync_all().await.map_err(write())?;
        result.map(|()| version)
    }

    async fn copy(
        &self,
        answer: GetResult,
        file: &mut tokio::fs::File,
        mut have: u64,
        transfer: &mut dyn Transfer,
    ) -> Result<(), Problem> {
        let mut chunks = answer.into_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.problem(&error))?;
            have += chunk.len() as u64;
            if have > self.object.size {
                return Err(Problem::damaged(&self.what, "it is longer than announced"));
            }
            file.write_all(&chunk)
                .await
                .map_err(Problem::disk("write", &self.incomplete))?;
            transfer.at(have);
        }
        match have < self.object.size {
            true => Err(Problem::Unreachable {
                what: self.what.clone(),
                reason: "the answer ends too early".to_owned(),
            }),
            false => Ok(()),
        }
    }

    fn options(&self, have: u64) -> GetOptions {
        let Object {
            etag,
            weak,
            version,
            ..
        } = self.object;
        GetOptions {
            range: (have > 0).then_some(GetRange::Offset(have)),
            if_match: etag
                .as_ref()
                .filter(|_| !weak)
                .map(|etag| format!("\"{etag}\"")),
            version: version.clone(),
            ..GetOptions::default()
        }
    }

    /// Whether an answer is of the object that was looked at, and follows on what is there.
    fn check(&self, answer: &GetResult, have: u64) -> Result<(), Problem> {
        let (etag, _) = plain(answer.meta.e_tag.as_deref());
        let same = self.object.etag.is_none() || etag == self.object.etag;
        if !same || answer.meta.size != self.object.size {
            let what = self.what.clone();
            return Err(Problem::Changed { what });
        }
        if answer.range.start != have {
            let reason = "the server answers with another range".to_owned();
            let what = self.what.clone();
            return Err(Problem::Unreachable { what, reason });
        }
        Ok(())
    }

    fn problem(&self, error: &object_store::Error) -> Problem {
        problem(error, self.place, &self.what, self.signed)
    }

    fn have(&self) -> Result<u64, Problem> {
        match fs::metadata(&self.incomplete) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Problem::disk("read", &self.incomplete)(error)),
        }
    }

    fn remove(&self) -> Result<(), Problem> {
        remove(&self.incomplete)
    }
}

/// Whether a store would give the whole object, and not its rest.
fn knows_no_ranges(error: &object_store::Error) -> bool {
    let said = error.to_string();
    matches!(error, object_store::Error::NotSupported { .. })
        || said.contains("Received non-partial response")
        || said.contains("status code: 416")
}

fn remove(path: &Path) -> Result<(), Problem> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Problem::disk("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// A store's name of a content without its quotes, and whether it is a weak one.
pub(super) fn plain(etag: Option<&str>) -> (Option<String>, bool) {
    let weak = etag.is_some_and(|etag| etag.starts_with("W/"));
    let plain = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
    (plain.filter(|etag| !etag.is_empty()), weak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_contents_lose_their_quotes() {
        let named = |text| plain(Some(text));
        assert_eq!(named("\"abc\""), (Some("abc".to_owned()), false));
        assert_eq!(named("abc"), (Some("abc".to_owned()), false));
        assert_eq!(named("W/\"abc\""), (Some("abc".to_owned()), true));
        assert_eq!(named("\"\"").0, None);
        assert_eq!(plain(None), (None, false));
    }
}
