//! Where files are cached and how they may be fetched.

use schema::Text;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where a hub is if nobody says otherwise.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// How models are fetched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Paths in `file:` sources are relative to this folder, that of the graph file.
    pub base_dir: PathBuf,
    /// The engine's own cache: `ENGINE_CACHE`, else `XDG_CACHE_HOME/engine`, else
    /// `~/.cache/engine`.
    pub cache_dir: PathBuf,
    /// Nothing is fetched; what is cached is used. `ENGINE_OFFLINE`, or `--offline`.
    pub offline: bool,
    /// The model hub.
    pub hub: HubSettings,
    /// The Python whose pip fetches wheels. `ENGINE_PYTHON`, else `python3`.
    pub python: PathBuf,
    /// Variables for pip beside those of the process: pip itself reads its user's configuration.
    pub pip_environment: Vec<(OsString, OsString)>,
}

/// The model hub, under the names that its own programs give these settings.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Where its files are cached and shared with other programs: `HF_HUB_CACHE`, else `hub` in
    /// `HF_HOME`, else `XDG_CACHE_HOME/huggingface/hub`.
    pub cache_dir: PathBuf,
    /// Where it is: `HF_ENDPOINT`.
    pub endpoint: String,
    /// Whom it takes us for: `HF_TOKEN`, else the file that `HF_TOKEN_PATH` names, else `token` in
    /// `HF_HOME`. Sent to the hub alone, not to where it sends us.
    pub token: Option<Text>,
    /// Nothing is fetched from it: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// How long the second try of a failed question waits; each further one twice as long.
    pub retry_pause: Duration,
}

impl Settings {
    /// What the environment says; `base_dir` is the working folder.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let is_on = |name: &str| {
            text(name).is_some_and(|value| {
                matches!(
                    value.to_ascii_uppercase().as_str(),
                    "1" | "ON" | "YES" | "TRUE"
                )
            })
        };
        let path = |name: &str| set(name).map(PathBuf::from);
        let home = path("HOME").unwrap_or_else(|| PathBuf::from("."));
        let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let hub_home = path("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| hub_home.join("token"));
        Self {
            base_dir: PathBuf::from("."),
            cache_dir: path("ENGINE_CACHE").unwrap_or_else(|| caches.join("engine")),
            offline: is_on("ENGINE_OFFLINE"),
            hub: HubSettings {
                cache_dir: path("HF_HUB_CACHE").unwrap_or_else(|| hub_home.join("hub")),
                endpoint: text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
                token: text("HF_TOKEN")
                    .or_else(|| read_token(&token_file))
                    .map(Text::secret),
                offline: is_on("HF_HUB_OFFLINE"),
                retry_pause: Duration::from_millis(500),
            },
            python: path("ENGINE_PYTHON").unwrap_or_else(|| PathBuf::from("python3")),
            pip_environment: Vec::new(),
        }
    }
}

fn read_token(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let token = text.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_usual_places_are_the_default() {
        let plain = settings(&[("HOME", "/h")]);
        assert_eq!(plain.cache_dir, Path::new("/h/.cache/engine"));
        assert_eq!(plain.hub.cache_dir, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(plain.hub.endpoint, DEFAULT_ENDPOINT);
        assert_eq!(plain.python, Path::new("python3"));
        assert!(plain.hub.token.is_none() && !plain.offline && !plain.hub.offline);
        let moved = settings(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]);
        assert_eq!(moved.cache_dir, Path::new("/c/engine"));
        assert_eq!(moved.hub.cache_dir, Path::new("/c/huggingface/hub"));
    }

    #[test]
    fn every_variable_is_honoured() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "from-file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let told = settings(&[
            ("ENGINE_CACHE", "/e"),
            ("ENGINE_OFFLINE", "1"),
            ("ENGINE_PYTHON", "/usr/bin/python"),
            ("HF_HOME", home),
            ("HF_ENDPOINT", "http://mirror"),
            ("HF_HUB_OFFLINE", "true"),
        ]);
        assert_eq!(told.cache_dir, Path::new("/e"));
        assert_eq!(told.python, Path::new("/usr/bin/python"));
        assert_eq!(told.hub.cache_dir, folder.path().join("hub"));
        assert_eq!(told.hub.endpoint, "http://mirror");
        assert!(told.offline && told.hub.offline);
        let token = told.hub.token.unwrap();
        assert_eq!(token.expose(), "from-file");
        assert_eq!(format!("{token:?}"), "***");
        let told = settings(&[("HF_HOME", home), ("HF_TOKEN", "x"), ("HF_HUB_CACHE", "/b")]);
        assert_eq!(told.hub.token.unwrap().expose(), "x");
        assert_eq!(told.hub.cache_dir, Path::new("/b"));
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).hub.offline);
    }
}
