//! What lies at a path: is it a model that may be loaded?

use super::{Problem, verify::verify};
use schema::FileKind;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How deep model folders are looked into.
const MAX_DEPTH: u32 = 6;
/// How many entries a model folder has at most; a home folder named by mistake has more.
const MAX_ENTRIES: usize = 10_000;

/// Looks at a file or folder. A folder whose only weights are one GGUF file stands for that file.
///
/// # Errors
/// [`Problem::NotFound`]; [`Problem::Unsuitable`] if it holds no weights that may be loaded or a
/// link leads out of it; [`Problem::Damaged`] if weights cannot be what their name says or parts of
/// them are missing.
pub(crate) fn inspect(path: &Path) -> Result<PathBuf, Problem> {
    let what = || path.display().to_string();
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Problem::NotFound { what: what() },
        _ => Problem::disk("read", path)(error),
    })?;
    if !metadata.is_dir() {
        if !FileKind::of(path).is_some_and(FileKind::is_weights) {
            return Err(Problem::unsuitable(
                what(),
                "is neither safetensors nor gguf",
            ));
        }
        verify(path)?;
        return Ok(path.to_owned());
    }
    let files = files(path)?;
    for file in &files {
        verify(file)?;
    }
    check_shards(&files)?;
    let of_kind = |kind| {
        files
            .iter()
            .filter(move |file| FileKind::of(file) == Some(kind))
    };
    let mut ggufs = of_kind(FileKind::Gguf);
    match (
        of_kind(FileKind::Safetensors).next(),
        ggufs.next(),
        ggufs.next(),
    ) {
        (Some(_), _, _) => Ok(path.to_owned()),
        (None, Some(only), None) => Ok(only.clone()),
        (None, Some(_), Some(_)) => Err(Problem::unsuitable(
            what(),
            "holds several gguf files; name one of them",
        )),
        (None, None, _) => Err(Problem::unsuitable(
            what(),
            "holds no safetensors or gguf file",
        )),
    }
}

/// The files of a folder and its sub-folders that may be part of a model, in a stable order.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let read = || Problem::disk("read", folder);
    let mut homes = vec![folder.canonicalize().map_err(read())?];
    if let Some(blobs) = hub_blobs(&homes[0]) {
        homes.push(blobs);
    }
    let (mut files, mut seen) = (Vec::new(), 0);
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((here, depth)) = open.pop() {
        let read = || Problem::disk("read", &here);
        for entry in fs::read_dir(&here).map_err(read())? {
            let path = entry.map_err(read())?.path();
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(Problem::unsuitable(
                    folder.display().to_string(),
                    "holds too many files to be a model",
                ));
            }
            let is_link = path.is_symlink();
            if path.is_dir() {
                // Linked folders are left out, files behind them with them: they may be endless.
                if !is_link && depth < MAX_DEPTH {
                    open.push((path, depth + 1));
                }
            } else if FileKind::of(&path).is_some() {
                if is_link {
                    stays_within(&path, &homes)?;
                }
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// In a hub's cache, files are links into a folder beside the snapshots.
fn hub_blobs(snapshot: &Path) -> Option<PathBuf> {
    let snapshots = snapshot
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "snapshots"))?;
    let blobs = snapshots.parent()?.join("blobs");
    blobs.is_dir().then_some(blobs)
}

fn stays_within(link: &Path, homes: &[PathBuf]) -> Result<(), Problem> {
    let target = link
        .canonicalize()
        .map_err(Problem::disk("follow the link", link))?;
    if homes.iter().any(|home| target.starts_with(home)) {
        return Ok(());
    }
    Err(Problem::unsuitable(
        link.display().to_string(),
        "is a link out of the model's folder",
    ))
}

/// Weights in several files come with an index that names them; each must be there.
fn check_shards(files: &[PathBuf]) -> Result<(), Problem> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let indexes = files
        .iter()
        .filter(|file| file.to_string_lossy().ends_with(".safetensors.index.json"));
    for path in indexes {
        let damaged = |reason: String| Problem::damaged(path.display().to_string(), reason);
        let text = fs::read(path).map_err(Problem::disk("read", path))?;
        let index: Index =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        for shard in index.weight_map.values() {
            let sibling = path.with_file_name(shard);
            if !files.contains(&sibling) {
                return Err(damaged(format!("{shard}, which it names, is missing")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";
    const GGUF: &[u8] = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn refused(folder: &tempfile::TempDir, says: &str) {
        let said = inspect(folder.path()).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }

    #[test]
    fn a_folder_of_safetensors_stands_for_itself_and_one_gguf_for_its_file() {
        let model = folder(&[("model.safetensors", WEIGHTS), ("a/config.json", b"{}")]);
        assert_eq!(inspect(model.path()).unwrap(), model.path());
        let model = folder(&[("a/m.gguf", GGUF), ("x.json", b"{}")]);
        assert_eq!(
            inspect(model.path()).unwrap(),
            model.path().join("a/m.gguf")
        );
    }

    #[test]
    fn what_is_no_model_says_why() {
        refused(
            &folder(&[("pytorch_model.bin", b"")]),
            "holds no safetensors or gguf",
        );
        refused(
            &folder(&[("a.gguf", GGUF), ("b.gguf", GGUF)]),
            "name one of them",
        );
        refused(&folder(&[("a.gguf", b"oops")]), "damaged or hostile file");
        let index = br#"{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
        refused(
            &folder(&[
                ("m.safetensors.index.json", index),
                ("m-1.safetensors", WEIGHTS),
            ]),
            "m-2.safetensors, which it names, is missing",
        );
        let elsewhere = inspect(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(matches!(elsewhere, Problem::NotFound { .. }));
    }

    #[test]
    #[cfg(unix)]
    fn links_stay_in_the_folder_or_in_the_hubs_blobs() {
        use std::os::unix::fs::symlink;
        let outside = folder(&[("secret.json", b"{}")]);
        let model = folder(&[("model.safetensors", WEIGHTS)]);
        symlink("model.safetensors", model.path().join("again.safetensors")).unwrap();
        inspect(model.path()).unwrap();
        let target = outside.path().join("secret.json");
        symlink(target, model.path().join("config.json")).unwrap();
        refused(&model, "is a link out of the model's folder");

        let hub = folder(&[("blobs/1", WEIGHTS), ("snapshots/c/config.json", b"{}")]);
        let snapshot = hub.path().join("snapshots/c");
        symlink("../../blobs/1", snapshot.join("model.safetensors")).unwrap();
        assert_eq!(inspect(&snapshot).unwrap(), snapshot);
    }
}
