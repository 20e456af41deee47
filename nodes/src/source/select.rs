//! Which files of a repository make up a model. Pure.

use super::Problem;
use schema::FileKind;

/// How many names a message lists.
const MAX_NAMED: usize = 8;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The whole, for messages.
    pub(super) repo: &'a str,
    /// The file or folder in it that is meant; everything if absent.
    pub(super) inside: Option<&'a str>,
    /// How one of several files is named.
    pub(super) naming: &'static str,
}

/// Chooses what is fetched: one file if one is named, else what may be loaded of the folder that is
/// named or of the whole repository. Where there are safetensors, GGUF files are left out.
pub(super) fn select(files: &[String], wanted: Wanted<'_>) -> Result<Vec<String>, Problem> {
    let Wanted {
        repo,
        inside,
        naming,
    } = wanted;
    if let Some(file) = inside
        && files.iter().any(|name| name == file)
    {
        return match is_weights(file) {
            true => Ok(vec![file.to_owned()]),
            false => Err(Problem::unsuitable(
                format!("{repo}/{file}"),
                "is neither safetensors nor gguf",
            )),
        };
    }
    let prefix = inside.map_or_else(String::new, |folder| format!("{folder}/"));
    let below = |kind| {
        let here = files.iter().filter(|name| name.starts_with(&prefix));
        here.filter(move |name| FileKind::of(name) == Some(kind))
    };
    let what = || match inside {
        Some(file) => format!("{file} in {repo}"),
        None => repo.to_owned(),
    };
    let ggufs: Vec<&String> = below(FileKind::Gguf).collect();
    let safetensors = below(FileKind::Safetensors).count();
    match (safetensors, ggufs.as_slice()) {
        (0, []) if inside.is_some() && !files.iter().any(|name| name.starts_with(&prefix)) => {
            Err(Problem::NotFound { what: what() })
        }
        (0, []) => Err(Problem::unsuitable(
            what(),
            "holds no safetensors or gguf file",
        )),
        (0, [only]) => Ok(vec![(*only).clone()]),
        (0, several) => Err(Problem::unsuitable(
            what(),
            format!(
                "holds several gguf files; name one {naming}: {}",
                some_of(several)
            ),
        )),
        _ => Ok(files
            .iter()
            .filter(|name| {
                name.starts_with(&prefix)
                    && FileKind::of(name).is_some_and(|kind| kind != FileKind::Gguf)
            })
            .cloned()
            .collect()),
    }
}

/// Whether a file holds weights.
pub(super) fn is_weights(file: &str) -> bool {
    FileKind::of(file).is_some_and(FileKind::is_weights)
}

fn some_of(names: &[&String]) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_NAMED).map(|name| &***name).collect();
    let rest = names.len() - shown.len();
    let shown = shown.join(", ");
    match rest {
        0 => shown,
        _ => format!("{shown} and {rest} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(files: &[&str], file: Option<&str>) -> Result<Vec<String>, String> {
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        let wanted = Wanted {
            repo: "o/n",
            inside: file,
            naming: "with #FILE",
        };
        select(&files, wanted).map_err(|problem| problem.to_string())
    }

    #[test]
    fn only_what_may_be_loaded_is_fetched() {
        let files = [
            "README.md",
            "model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
            "vocab.txt",
            "modeling.py",
            "1_Pooling/config.json",
            "model.gguf",
        ];
        let chosen = selected(&files, None).unwrap();
        assert_eq!(
            chosen,
            [
                "model.safetensors",
                "tokenizer.json",
                "vocab.txt",
                "1_Pooling/config.json"
            ]
        );
        assert_eq!(
            selected(&files, Some("model.gguf")).unwrap(),
            ["model.gguf"]
        );
        assert_eq!(selected(&["a.gguf", "b.md"], None).unwrap(), ["a.gguf"]);
        let folders = ["a/m.safetensors", "a/config.json", "b/m.safetensors"];
        let chosen = selected(&folders, Some("a")).unwrap();
        assert_eq!(chosen, ["a/m.safetensors", "a/config.json"]);
    }

    #[test]
    fn what_cannot_be_chosen_says_why() {
        for (files, file, says) in [
            (
                &["pytorch_model.bin"][..],
                None,
                "o/n holds no safetensors or gguf",
            ),
            (
                &["a.gguf", "b.gguf"],
                None,
                "name one with #FILE: a.gguf, b.gguf",
            ),
            (&["a.bin"], Some("a.bin"), "o/n/a.bin is neither"),
            (&["a.gguf"], Some("b.gguf"), "b.gguf in o/n does not exist"),
            (&["x/a.bin"], Some("x"), "x in o/n holds no"),
        ] {
            let said = selected(files, file).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }
}
