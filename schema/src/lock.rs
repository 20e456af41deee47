//! `graph.lock`: what the sources of a file stood for when it was locked.
//!
//! A text of the same syntax as the file, so that people read it and a diff shows what changed. Only
//! what was taken is in it: a model with several sources has the one that worked. Nothing here looks
//! at a disk or a network.

use crate::{
    AdapterDecl, AdapterSet, Diagnostic, ModelDecl, ModelSource, Source, Spanned, Text, codes,
    decode::{Fields, Reader, block},
    problems::Problems,
    syntax::{self, shorten},
};
use std::{collections::BTreeSet, fmt};

/// What is written above it.
const HEAD: &str = "// Written by `engine lock`: what the sources of the file stood for.\n";

block! {
    /// What sources stood for.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Lock {
        /// The version of this format.
        pub version: u32 = option("version").at_least(1).at_most(1).or(1),
        /// A source that was taken.
        pub sources: Vec<Spanned<LockedSource>> = blocks("source", LockedSource::read),
    }
}

block! {
    /// A source, and the files that it gave.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LockedSource {
        /// The source as the file has it; of an adapter in a folder, that of its own folder.
        pub uri: String = argument("uri").required(),
        /// What its name stood for: a commit of a hub. Other sources have none.
        pub revision: Option<String> = option("revision").optional(),
        /// A file that it gave.
        pub files: Vec<LockedFile> = blocks("file", LockedFile::read),
    }
}

block! {
    /// A file as it was.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LockedFile {
        /// Its path within the source; the name of a source that is one file.
        pub path: String = argument("path").required(),
        /// Its size in bytes.
        pub size: u64 = option("size").required(),
        /// Its digest, in hex.
        pub sha256: String = option("sha256").required(),
        /// What the object store calls this content.
        pub etag: Option<String> = option("etag").optional(),
        /// What the object store calls this version, where it keeps earlier ones.
        pub version: Option<String> = option("version").optional(),
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self {
            version: 1,
            sources: Vec::new(),
        }
    }
}

impl LockedSource {
    fn read(f: &mut Fields) -> Self {
        let source = Self::fields(f);
        f.exactly_one(&[&["file"]]);
        source
    }

    /// The file at this path.
    pub fn file(&self, path: &str) -> Option<&LockedFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl LockedFile {
    fn read(f: &mut Fields) -> Self {
        let (file, place) = (Self::fields(f), f.whole());
        if file.sha256.len() != 64 || !file.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            f.report(|| {
                let message = "a SHA-256 digest has 64 hexadecimal digits";
                Diagnostic::error(codes::WRONG_TYPE, message, place)
            });
        }
        let leads_out = |path: &str| {
            let mut parts = path.split('/');
            parts.any(|part| matches!(part, "" | "." | ".."))
                || path.contains(|c: char| matches!(c, '\\' | ':') || c.is_control())
        };
        if leads_out(&file.path) {
            f.report(|| {
                let message = format!("\"{}\" is no path within a source", shorten(&file.path));
                Diagnostic::error(codes::WRONG_TYPE, message, place)
            });
        }
        file
    }
}

impl Lock {
    /// Reads the text of a lock.
    ///
    /// # Errors
    /// Everything that is wrong with it: a lock that is half understood protects from nothing.
    pub fn parse(source: &Source) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Problems::default();
        let nodes = syntax::tree(source, &mut problems);
        let reader = Reader {
            source: source.id,
            problems: &mut problems,
            environment: &|_| None,
        };
        let lock = Fields::decode_document(&nodes, reader, Self::fields);
        match problems.is_empty() {
            true => Ok(lock),
            false => Err(problems.into_list()),
        }
    }

    /// A lock of these sources, in the one order that it is written in.
    pub fn of(sources: impl IntoIterator<Item = LockedSource>) -> Self {
        let mut sources: Vec<_> = sources.into_iter().collect();
        for source in &mut sources {
            source.files.sort_by(|one, other| one.path.cmp(&other.path));
        }
        sources.sort_by(|one, other| one.uri.cmp(&other.uri));
        sources.dedup_by(|one, other| one.uri == other.uri);
        let sources = sources.into_iter();
        Self {
            sources: sources
                .map(|source| Spanned::new(source, Default::default()))
                .collect(),
            ..Self::default()
        }
    }

    /// What a source stood for.
    pub fn get(&self, uri: &str) -> Option<&LockedSource> {
        let mut sources = self.sources.iter();
        let found = sources.find(|source| source.uri == uri);
        found.map(|source| &source.value)
    }

    /// Whether the lock and the models of a file fit: models and adapters of which the lock has no
    /// source, with their places in the file, and what the lock has and nothing names, with its place
    /// in the lock. `binding` makes errors of the former, which are warnings else; the latter are
    /// warnings always.
    pub fn compare(&self, models: &[ModelDecl], binding: bool) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        let mut named = BTreeSet::new();
        let mut roots = Vec::new();
        for model in models {
            let of_model = format!("model `{}`", *model.id);
            problems.extend(self.lacks(&of_model, &model.sources, binding, &mut named));
            for AdapterDecl { id, sources } in &model.named_adapters {
                let of_adapter = format!("adapter `{}`", **id);
                problems.extend(self.lacks(&of_adapter, sources, binding, &mut named));
            }
            let set = model.adapters.iter();
            roots.extend(set.filter_map(|set| set.root_uri()));
        }
        let is_named = |uri: &str| {
            let below = |root: &String| uri.starts_with(root.as_str());
            named.contains(uri) || roots.iter().any(below)
        };
        for source in self.sources.iter().filter(|it| !is_named(&it.uri)) {
            let message = format!("nothing names \"{}\" any more", shorten(&source.uri));
            problems.push(
                Diagnostic::warning(codes::LOCK_OUTDATED, message, source.span)
                    .help("`engine lock` takes it out"),
            );
        }
        problems
    }

    /// The problem of a model or adapter without a locked source. Adds its sources to `named`.
    fn lacks<'a>(
        &self,
        what: &str,
        sources: &'a [Spanned<ModelSource>],
        binding: bool,
        named: &mut BTreeSet<&'a str>,
    ) -> Option<Diagnostic> {
        let uris = sources.iter().map(|source| source.uri.expose());
        named.extend(uris.clone());
        if uris.into_iter().any(|uri| self.get(uri).is_some()) {
            return None;
        }
        let message = format!("the lock has no source of {what}");
        let place = sources.first()?.span;
        let problem = match binding {
            true => Diagnostic::error(codes::LOCK_OUTDATED, message, place),
            false => Diagnostic::warning(codes::LOCK_OUTDATED, message, place),
        };
        Some(problem.help(match sources.iter().all(|source| source.uri.is_secret()) {
            true => "what the environment says is not written into a lock; write a source into the file",
            false => "`engine lock` brings it up to date",
        }))
    }
}

impl AdapterSet {
    /// What the sources of its adapters begin with in a lock; none without a folder, or where the
    /// environment names it.
    pub fn root_uri(&self) -> Option<String> {
        let path: &Text = self.path.as_ref().filter(|path| !path.is_secret())?;
        let path = path.expose().trim_end_matches('/');
        Some(match self.is_remote() {
            true => format!("{path}/"),
            false => format!("file:{path}/"),
        })
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}version {}", self.version)?;
        for source in &self.sources {
            write!(f, "\nsource {}", quoted(&source.uri))?;
            if let Some(revision) = &source.revision {
                write!(f, " revision={}", quoted(revision))?;
            }
            f.write_str(" {\n")?;
            for file in &source.files {
                let LockedFile {
                    path, size, sha256, ..
                } = file;
                write!(f, "    file {} size={size}", quoted(path))?;
                for (name, value) in [("etag", &file.etag), ("version", &file.version)] {
                    if let Some(value) = value {
                        write!(f, " {name}={}", quoted(value))?;
                    }
                }
                writeln!(f, " sha256=\"{sha256}\"")?;
            }
            f.write_str("}\n")?;
        }
        Ok(())
    }
}

/// A text as a string of the syntax.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceId;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn text(text: &str, id: u32) -> Source {
        Source {
            id: SourceId(id),
            name: "graph.lock".to_owned(),
            text: text.to_owned(),
        }
    }

    fn file(path: &str) -> LockedFile {
        LockedFile {
            path: path.to_owned(),
            size: 7,
            sha256: DIGEST.to_owned(),
            etag: None,
            version: None,
        }
    }

    fn source(uri: &str) -> LockedSource {
        LockedSource {
            uri: uri.to_owned(),
            revision: None,
            files: vec![file("b.json"), file("a.json")],
        }
    }

    #[test]
    fn what_is_written_reads_the_same_and_is_in_one_order() {
        let mut hub = source("hf:o/n");
        hub.revision = Some("0".repeat(40));
        let mut object = source("s3://b/a \"b\"");
        object.files[0].etag = Some("e\\t".to_owned());
        let lock = Lock::of([object.clone(), hub.clone(), hub.clone()]);
        assert_eq!(lock.to_string(), Lock::of([hub, object]).to_string());
        let written = lock.to_string();
        assert!(written.find("a.json") < written.find("b.json"), "{written}");
        assert_eq!(Lock::parse(&text(&written, 0)).unwrap(), lock);
        let laid_out = crate::format(&text(&written, 0)).unwrap();
        assert_eq!(laid_out, written);
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        let whole = |file: &str| format!("source \"hf:o/n\" {{ file {file} }}");
        for (lock, code) in [
            ("version 2".to_owned(), "out-of-range"),
            ("sources".to_owned(), "unknown-option"),
            ("source \"hf:o/n\"".to_owned(), "missing-option"),
            (whole("\"a\" size=1"), "missing-option"),
            (whole("\"a\" size=1 sha256=\"0\""), "wrong-type"),
            (
                whole(&format!("\"../a\" size=1 sha256=\"{DIGEST}\"")),
                "wrong-type",
            ),
        ] {
            let problems = Lock::parse(&text(&lock, 0)).unwrap_err();
            assert_eq!(problems[0].code, code, "{lock}");
        }
    }

    fn models(of: &str) -> Vec<ModelDecl> {
        crate::parse(&text(of, 0), &|_| Some("hf:secret".to_owned()))
            .0
            .models
    }

    fn codes(problems: &[Diagnostic]) -> Vec<(String, bool, u32)> {
        let problems = problems.iter();
        let place = |it: &Diagnostic| it.place().map_or(9, |place| place.source.0);
        problems
            .map(|it| (it.message.clone(), it.is_error(), place(it)))
            .collect()
    }

    #[test]
    fn a_model_is_locked_by_any_of_its_sources() {
        let models = models(
            r#"model a { source "hf:a"; source "pip:a==1#a"; adapters "more/" }
               model b { source "hf:b"; adapter c { source "s3://c/" } }"#,
        );
        let lock = Lock::of(["pip:a==1#a", "hf:b", "s3://c/", "file:more/x"].map(source));
        assert_eq!(lock.compare(&models, true), []);
        let lock = Lock::of(["hf:a", "hf:b", "hf:d", "file:moral"].map(source));
        let written = Lock::parse(&text(&lock.to_string(), 1)).unwrap();
        let lacks = "the lock has no source of adapter `c`".to_owned();
        let old = |uri: &str| (format!("nothing names \"{uri}\" any more"), false, 1);
        for binding in [true, false] {
            let found = codes(&written.compare(&models, binding));
            let expected = [(lacks.clone(), binding, 0), old("file:moral"), old("hf:d")];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_source_from_the_environment_is_not_locked() {
        let models = models(r#"model a { source (env)"WHERE" }"#);
        let problems = Lock::default().compare(&models, true);
        let help = problems[0].help.as_deref().unwrap_or_default();
        assert!(help.contains("write a source into the file"), "{help}");
    }
}
