//! One file from a hub to the disk, resumed where it was cut off: within a run, and by the next run.

use super::client::{Client, text, unreachable};
use crate::source::{Problem, Transfer, digest};
use reqwest::{
    Response, StatusCode, Url,
    header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, RANGE},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tokio::io::AsyncWriteExt;

/// How often in a row a download is taken up again without a byte of gain.
const ATTEMPTS: u32 = 5;

/// What is to be downloaded.
#[derive(Debug)]
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) url: Url,
    /// For messages: the repository and the file.
    pub(super) what: String,
    /// Where the bytes are gathered.
    pub(super) incomplete: PathBuf,
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<&'a str>,
}

impl Download<'_> {
    /// Fetches what is missing, and holds the whole against its digest. What has the wrong digest
    /// is removed.
    pub(super) async fn run(mut self, transfer: &mut dyn Transfer) -> Result<(), Problem> {
        let (mut best, mut failures) = (self.have()?, 0);
        while let Err(problem) = self.attempt(transfer).await {
            if !matches!(problem, Problem::Unreachable { .. }) {
                return Err(problem);
            }
            let have = self.have()?;
            failures = if have > best { 0 } else { failures + 1 };
            best = best.max(have);
            if failures >= ATTEMPTS {
                return Err(problem);
            }
            tracing::debug!(what = self.what, have, %problem, "taking a download up again");
            // The first time at once: a long download is cut now and then, and goes on.
            if failures > 0 {
                self.client.pause(failures).await;
            }
        }
        let _ = fs::remove_file(self.validator_path());
        self.check().await
    }

    /// Goes on until the file is whole or the answer ends.
    async fn attempt(&mut self, transfer: &mut dyn Transfer) -> Result<(), Problem> {
        let mut have = self.resumable()?;
        transfer.at(have);
        if self.size == Some(have) {
            return Ok(());
        }
        let mut response = self
            .client
            .get(&self.url, self.headers(have), &self.what)
            .await?;
        have = self.starting_at(&response, have)?;
        self.remember(&response);
        if self.size.is_none() {
            self.size = response.content_length().map(|length| have + length);
        }
        let write = || Problem::disk("write", &self.incomplete);
        let mut file = tokio::fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.incomplete)
            .await
            .map_err(write())?;
        file.set_len(have).await.map_err(write())?;
        tokio::io::AsyncSeekExt::seek(&mut file, std::io::SeekFrom::Start(have))
            .await
            .map_err(write())?;
        let result = self.copy(&mut response, &mut file, have, transfer).await;
        // Also what came before an error is kept.
        file.flush().await.map_err(write())?;
        file.sync_all().await.map_err(write())?;
        result
    }

    async fn copy(
        &self,
        response: &mut Response,
        file: &mut tokio::fs::File,
        mut have: u64,
        transfer: &mut dyn Transfer,
    ) -> Result<(), Problem> {
        transfer.at(have);
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unreachable(&self.what, error))?
        {
            have += chunk.len() as u64;
            if self.size.is_some_and(|size| have > size) {
                return Err(Problem::damaged(&self.what, "it is longer than announced"));
            }
            file.write_all(&chunk)
                .await
                .map_err(Problem::disk("write", &self.incomplete))?;
            transfer.at(have);
        }
        match self.size {
            Some(size) if have < size => Err(self.out_of_reach("the answer ends too early")),
            _ => Ok(()),
        }
    }

    /// How many bytes an answer follows on.
    fn starting_at(&self, response: &Response, asked: u64) -> Result<u64, Problem> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = text(response.headers(), CONTENT_RANGE).and_then(parse_range);
                match range {
                    Some((start, total))
                        if start == asked
                            && total
                                .is_none_or(|total| self.size.is_none_or(|size| size == total)) =>
                    {
                        Ok(asked)
                    }
                    _ => {
                        self.start_over()?;
                        Err(self.out_of_reach("the server answers with another range"))
                    }
                }
            }
            // The file changed, or the server knows no ranges: from the start.
            StatusCode::OK => Ok(0),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.start_over()?;
                Err(self.out_of_reach("the server does not know the range"))
            }
            status => Err(self.client.refusal(status, &self.what)),
        }
    }

    /// How many bytes are there that may be followed on: only what a validator or a digest vouches
    /// for.
    fn resumable(&self) -> Result<u64, Problem> {
        let have = self.have()?;
        let vouched = self.sha256.is_some() || self.validator().is_some();
        let too_long = self.size.is_some_and(|size| have > size);
        if have > 0 && (!vouched || too_long) {
            self.start_over()?;
            return Ok(0);
        }
        Ok(have)
    }

    fn headers(&self, have: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put(reqwest::header::ACCEPT_ENCODING, "identity");
        if have > 0 {
            put(RANGE, &format!("bytes={have}-"));
            if let Some(validator) = self.validator() {
                put(IF_RANGE, &validator);
            }
        }
        headers
    }

    /// Notes the validator of what is being written, so that later only its own rest is added.
    fn remember(&self, response: &Response) {
        let path = self.validator_path();
        let strong = text(response.headers(), ETAG).filter(|etag| etag.starts_with('"'));
        // Without the note a later run starts over, which is no more than a loss of time.
        let _ = match strong {
            Some(etag) => fs::write(path, etag),
            None => fs::remove_file(path),
        };
    }

    fn validator(&self) -> Option<String> {
        fs::read_to_string(self.validator_path()).ok()
    }

    fn validator_path(&self) -> PathBuf {
        let mut path = self.incomplete.clone().into_os_string();
        path.push(".validator");
        path.into()
    }

    fn have(&self) -> Result<u64, Problem> {
        match fs::metadata(&self.incomplete) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Problem::disk("read", &self.incomplete)(error)),
        }
    }

    fn start_over(&self) -> Result<(), Problem> {
        remove(&self.validator_path())?;
        remove(&self.incomplete)
    }

    async fn check(&self) -> Result<(), Problem> {
        let Some(expected) = self.sha256 else {
            return Ok(());
        };
        let path = self.incomplete.clone();
        let found = crate::source::blocking(move || digest::of_file(&path)).await?;
        if found == expected {
            return Ok(());
        }
        self.start_over()?;
        Err(Problem::Digest {
            file: self.what.clone(),
            expected: expected.to_owned(),
            found,
        })
    }

    fn out_of_reach(&self, reason: &str) -> Problem {
        Problem::Unreachable {
            what: self.what.clone(),
            reason: reason.to_owned(),
        }
    }
}

fn remove(path: &Path) -> Result<(), Problem> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Problem::disk("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// `bytes START-END/TOTAL`, where the total may be `*`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(parse_range("bytes */10"), None);
        assert_eq!(parse_range("5-9/10"), None);
    }
}
