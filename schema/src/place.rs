//! What the URI of a model's source says. Pure: nothing here looks at a disk or a network.

use crate::{FileKind, Text};
use std::{borrow::Cow, fmt, path::PathBuf};
use url::Url;

/// Where a model's files are to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `file:PATH`: a folder or a file on this machine.
    File(PathBuf),
    /// `hf:ORG/NAME[@REVISION][#FILE]`: a repository of a model hub.
    Hub(HubPlace),
    /// `pip:NAME==VERSION[,NAME==VERSION…]#PATH`: files inside Python wheels.
    Pip(PipPlace),
    /// `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/KEY` or `https://HOST/PATH`: objects of
    /// a store.
    Object(ObjectPlace),
}

/// A repository of a model hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubPlace {
    /// `ORG/NAME`, or `NAME` alone for the oldest repositories.
    pub repo: String,
    /// A branch, a tag or a commit. Default `main`.
    pub revision: String,
    /// One file or folder of the repository; everything that a model needs if absent.
    pub file: Option<String>,
}

/// Objects of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPlace {
    /// Whose protocol the store speaks.
    pub service: Service,
    /// The bucket, the container, or a web server's host with its port.
    pub bucket: String,
    /// One object, or the prefix of several without the `/` at its end; empty for a whole bucket.
    /// The path of a web server is percent-encoded as in its URL.
    pub key: String,
    /// Whether it stands for everything below it: it ends in `/`, or in no ending of weights.
    pub folder: bool,
    /// What a URL has after its `?`, which may be a signature and is not shown.
    pub query: Option<Text>,
}

/// Whose protocol an object store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// Any web server; it can be asked for one file, and not what it holds.
    Https,
}

impl Service {
    /// The scheme of its URIs.
    pub fn scheme(self) -> &'static str {
        match self {
            Service::S3 => "s3",
            Service::Gs => "gs",
            Service::Az => "az",
            Service::Https => "https",
        }
    }
}

impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, end) = (self.service.scheme(), if self.folder { "/" } else { "" });
        match self.key.as_str() {
            "" => write!(f, "{scheme}://{}/", self.bucket),
            key => write!(f, "{scheme}://{}/{key}{end}", self.bucket),
        }
    }
}

impl ObjectPlace {
    /// The same place as a folder, whatever it ends in.
    pub fn as_folder(&self) -> Self {
        Self {
            folder: true,
            ..self.clone()
        }
    }

    /// The folder of this name below this one.
    pub fn inside(&self, name: &str) -> Self {
        let key = match self.key.as_str() {
            "" => name.to_owned(),
            key => format!("{key}/{name}"),
        };
        Self {
            key,
            folder: true,
            ..self.clone()
        }
    }
}

/// Files inside Python wheels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipPlace {
    /// The wheels, in the order in which the parts of a file are joined.
    pub requirements: Vec<Requirement>,
    /// A folder, given from the wheel's root, or the end of a file's path. A file may be cut into
    /// parts named `FILE.part0`, `FILE.part1` and so on, in one wheel or over several.
    pub inside: String,
}

/// One wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Its name in the package index.
    pub name: String,
    /// Its exact version.
    pub version: String,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=={}", self.name, self.version)
    }
}

/// What is wrong with the URI of a source. It repeats nothing of the URI, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(Cow<'static, str>);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl Place {
    /// Reads a URI.
    ///
    /// # Errors
    /// It is no source.
    pub fn parse(uri: &str) -> Result<Self, Malformed> {
        let (scheme, rest) = uri.split_once(':').unwrap_or_default();
        match scheme {
            "file" => file(rest),
            "hf" => hub(rest).map(Place::Hub),
            "pip" => pip(rest).map(Place::Pip),
            "s3" => object(Service::S3, rest).map(Place::Object),
            "gs" => object(Service::Gs, rest).map(Place::Object),
            "az" => object(Service::Az, rest).map(Place::Object),
            "https" => web(uri).map(Place::Object),
            "http" => Err(malformed(
                "what comes over http: can be changed on its way; write https:",
            )),
            _ => Err(malformed(
                "a source begins with file:, hf:, pip:, s3:, gs:, az: or https:",
            )),
        }
    }
}

fn file(rest: &str) -> Result<Place, Malformed> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.contains('\0') {
        return Err(malformed("file: needs a path"));
    }
    Ok(Place::File(PathBuf::from(path)))
}

fn hub(rest: &str) -> Result<HubPlace, Malformed> {
    let (rest, file) = match rest.split_once('#') {
        Some((rest, file)) => (rest, Some(file)),
        None => (rest, None),
    };
    let (repo, revision) = rest.split_once('@').unwrap_or((rest, "main"));
    let segments: Vec<&str> = repo.split('/').collect();
    if segments.len() > 2 || !segments.iter().all(|segment| is_word(segment)) {
        return Err(malformed("hf: needs a repository such as ORG/NAME"));
    }
    if !revision.split('/').all(is_word) {
        return Err(malformed("after @ stands a branch, a tag or a commit"));
    }
    if let Some(file) = file
        && !is_inner_path(file)
    {
        return Err(malformed(
            "after # stands the path of a file in the repository",
        ));
    }
    Ok(HubPlace {
        repo: repo.to_owned(),
        revision: revision.to_owned(),
        file: file.map(|file| file.trim_end_matches('/').to_owned()),
    })
}

fn pip(rest: &str) -> Result<PipPlace, Malformed> {
    let Some((requirements, inside)) = rest.split_once('#') else {
        return Err(malformed("pip: needs #PATH, the path inside the wheel"));
    };
    if !is_inner_path(inside) {
        return Err(malformed(
            "after # stands the path of a file or folder in the wheel",
        ));
    }
    let requirements = requirements.split(',').map(requirement);
    Ok(PipPlace {
        requirements: requirements.collect::<Result<_, _>>()?,
        inside: inside.trim_end_matches('/').to_owned(),
    })
}

fn requirement(text: &str) -> Result<Requirement, Malformed> {
    let (name, version) = text.trim().split_once("==").ok_or_else(|| {
        malformed("pip: needs each package with its exact version, as NAME==VERSION")
    })?;
    let is_version = version.starts_with(|c: char| c.is_ascii_alphanumeric())
        && version
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._!+-".contains(c));
    // Checked because both end up in a command line: neither may look like an option.
    if !is_word(name) || !is_version {
        return Err(malformed(
            "this is no package and version that pip: can have, as NAME==VERSION",
        ));
    }
    Ok(Requirement {
        name: name.to_owned(),
        version: version.to_owned(),
    })
}

fn object(service: Service, rest: &str) -> Result<ObjectPlace, Malformed> {
    let scheme = service.scheme();
    let needs = || malformed(format!("{scheme}: needs {scheme}://BUCKET/PATH"));
    let rest = rest.strip_prefix("//").ok_or_else(needs)?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_word(bucket) {
        return Err(needs());
    }
    if key.contains(['?', '#']) {
        return Err(malformed(format!(
            "{scheme}: names an object by its path alone, without ? and #"
        )));
    }
    if !key.is_empty() && !is_inner_path(key) {
        return Err(malformed(format!(
            "{scheme}: needs a path without \"..\", \"//\", backslashes and colons"
        )));
    }
    Ok(ObjectPlace {
        service,
        bucket: bucket.to_owned(),
        key: key.trim_end_matches('/').to_owned(),
        folder: key.ends_with('/') || !is_weights(key),
        query: None,
    })
}

fn web(uri: &str) -> Result<ObjectPlace, Malformed> {
    let url = Url::parse(uri).map_err(|error| malformed(format!("it is no URL: {error}")))?;
    let host = url.host_str().unwrap_or_default();
    if !url.username().is_empty() || url.password().is_some() {
        return Err(malformed(
            "a URL in a file holds no password; give the server's signed URL with (env)",
        ));
    }
    let key = url.path().trim_start_matches('/');
    if url.fragment().is_some() || !is_inner_path(key) || !is_weights(key) {
        return Err(malformed(
            "https: is one file that ends in .gguf or .safetensors; a web server does not say what \
             else it has, so a folder is given as hf:, s3:, gs: or az:",
        ));
    }
    Ok(ObjectPlace {
        service: Service::Https,
        bucket: match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        },
        key: key.to_owned(),
        folder: false,
        query: url.query().map(Text::secret),
    })
}

fn is_weights(path: &str) -> bool {
    FileKind::of(path).is_some_and(FileKind::is_weights)
}

/// Letters, digits, `.`, `_` and `-`, starting with a letter or a digit.
fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && !text.contains("..")
}

/// Whether `path` stays below the folder to which it is relative, on every system.
pub fn is_inner_path(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/')
        .all(|segment| !matches!(segment, "" | "." | ".."))
        && !path.contains(|c: char| matches!(c, '\\' | ':') || c.is_control())
}

fn malformed(reason: impl Into<Cow<'static, str>>) -> Malformed {
    Malformed(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let parse = |uri| Place::parse(uri).unwrap();
        assert_eq!(
            parse("file:models/a.gguf"),
            Place::File("models/a.gguf".into())
        );
        assert_eq!(parse("file:///m/a"), Place::File("/m/a".into()));
        let hub = |repo: &str, revision: &str, file: Option<&str>| {
            Place::Hub(HubPlace {
                repo: repo.into(),
                revision: revision.into(),
                file: file.map(Into::into),
            })
        };
        assert_eq!(parse("hf:org/name"), hub("org/name", "main", None));
        assert_eq!(
            parse("hf:org/name@refs/pr/1#q/a.gguf"),
            hub("org/name", "refs/pr/1", Some("q/a.gguf"))
        );
        let Place::Pip(pip) = parse("pip:a-b==1.0.0,c==2!1.0+x#d/e.gguf") else {
            panic!("not pip");
        };
        let written: Vec<String> = pip.requirements.iter().map(ToString::to_string).collect();
        assert_eq!(written, ["a-b==1.0.0", "c==2!1.0+x"]);
        assert_eq!(pip.inside, "d/e.gguf");
    }

    #[test]
    fn objects_are_files_by_their_ending_and_folders_else() {
        for (uri, service, bucket, key, folder) in [
            ("s3://b/m.gguf", Service::S3, "b", "m.gguf", false),
            ("s3://b/m.gguf/", Service::S3, "b", "m.gguf", true),
            (
                "s3://my-b.x/models/mini",
                Service::S3,
                "my-b.x",
                "models/mini",
                true,
            ),
            ("gs://b", Service::Gs, "b", "", true),
            (
                "az://c/a b/m.safetensors",
                Service::Az,
                "c",
                "a b/m.safetensors",
                false,
            ),
            (
                "https://h:8443/a%20b/m.gguf",
                Service::Https,
                "h:8443",
                "a%20b/m.gguf",
                false,
            ),
        ] {
            let Place::Object(place) = Place::parse(uri).unwrap() else {
                panic!("{uri} is no object");
            };
            let found = (place.service, &*place.bucket, &*place.key, place.folder);
            assert_eq!(found, (service, bucket, key, folder), "{uri}");
        }
        let Place::Object(signed) = Place::parse("https://h/m.gguf?X-Signature=abc").unwrap()
        else {
            panic!("no object");
        };
        assert_eq!(signed.query.as_ref().unwrap().expose(), "X-Signature=abc");
        assert_eq!(signed.to_string(), "https://h/m.gguf");
        assert!(!format!("{signed:?}").contains("abc"));
        let Place::Object(root) = Place::parse("s3://b/adapters/").unwrap() else {
            panic!("no object");
        };
        assert_eq!(root.to_string(), "s3://b/adapters/");
        assert_eq!(root.inside("qa").to_string(), "s3://b/adapters/qa/");
    }

    #[test]
    fn what_is_no_source_says_why() {
        for (uri, says) in [
            ("models/a.gguf", "begins with file:, hf:, pip:, s3:"),
            ("ftp:x", "begins with file:, hf:"),
            ("file:", "needs a path"),
            ("hf:", "such as ORG/NAME"),
            ("hf:a/b/c", "such as ORG/NAME"),
            ("hf:../b", "such as ORG/NAME"),
            ("hf:a/b@../../x", "branch, a tag or a commit"),
            ("hf:a/b#../x.gguf", "path of a file in the repository"),
            ("hf:a/b#/etc/x.gguf", "path of a file in the repository"),
            ("pip:a==1", "needs #PATH"),
            ("pip:a#b", "its exact version"),
            ("pip:--index-url==x#b", "no package and version"),
            ("pip:a==--x#b", "no package and version"),
            ("pip:a==1#../b", "path of a file or folder"),
            ("s3:bucket/x", "needs s3://BUCKET/PATH"),
            ("s3:///x", "needs s3://BUCKET/PATH"),
            ("s3://../x", "needs s3://BUCKET/PATH"),
            ("gs://b/../x", "needs a path without"),
            ("s3://b//x", "needs a path without"),
            ("s3://b/x#y.gguf", "without ? and #"),
            ("az://b/a\u{0}b", "needs a path without"),
            ("http://host/x.gguf", "write https:"),
            ("https://host/models/", "is one file that ends in .gguf"),
            ("https://host/model.bin", "is one file that ends in .gguf"),
            ("https://u:p@host/m.gguf", "holds no password"),
        ] {
            let said = Place::parse(uri).unwrap_err().to_string();
            assert!(said.contains(says), "{uri}: {said}");
        }
    }
}
