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
    /// Object stores.
    pub objects: ObjectSettings,
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

/// Object stores, under the names that their own programs give these settings.
#[derive(Debug, Clone)]
pub struct ObjectSettings {
    /// The variables that say where a store is and whom it takes us for: those that begin with
    /// `AWS_`, `GOOGLE_`, `AZURE_` and `AZURITE_`, with their values.
    pub variables: Vec<(String, Text)>,
    /// How long the second try of a failed question waits; each further one up to twice as long.
    pub retry_pause: Duration,
}

impl ObjectSettings {
    const PREFIXES: [&str; 4] = ["AWS_", "GOOGLE_", "AZURE_", "AZURITE_"];

    /// Takes those of these variables that are about object stores.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| Self::PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let variables = variables.into_iter();
        let variables = variables.filter(|(name, value)| ours(name) && !value.is_empty());
        Self {
            variables: variables
                .map(|(name, value)| (name, Text::secret(value)))
                .collect(),
            retry_pause: Duration::from_millis(200),
        }
    }

    fn from_environment() -> Self {
        let variables = std::env::vars_os();
        Self::of(variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }
}

impl Settings {
    /// What the environment says; `base_dir` is the working folder.
    pub fn from_environment() -> Self {
        Self {
            objects: ObjectSettings::from_environment(),
            ..Self::from_variables(|name| std::env::var_os(name))
        }
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
            objects: ObjectSettings::of([]),
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
    fn variables_of_object_stores_are_secrets() {
        let variables = [
            ("AWS_SECRET_ACCESS_KEY", "s3cret"),
            ("AWS_REGION", ""),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/k.json"),
            ("PATH", "/bin"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = ObjectSettings::of(variables);
        let names: Vec<_> = settings.variables.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            names,
            ["AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS"]
        );
        assert!(!format!("{settings:?}").contains("s3cret"));
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
