//! Cutting Markdown and plain text into passages that a search can point at.

use super::Record;
use crate::{Map, Value, split::pieces};
use schema::kind::SplitBy;
use std::collections::HashSet;

/// A section shorter than this joins the one before, if both fit into one passage.
const SHORT: usize = 60;

/// A part of a document.
#[derive(Debug, Clone)]
pub struct Passage {
    /// The source, and the section's heading as an anchor: `guide.md#installing`. Further pieces of
    /// a section, and further sections of that name, are numbered: `guide.md#installing-2`.
    pub id: String,
    /// The section's heading and its text.
    pub text: String,
    /// `title` of the document, its `source`, and the `section` as the path of its headings.
    pub metadata: Map,
}

impl From<Passage> for Record {
    fn from(passage: Passage) -> Self {
        Record {
            id: passage.id.into(),
            text: passage.text.into(),
            metadata: passage.metadata,
            vector: None,
        }
    }
}

/// Cuts a document into passages of at most `longest` characters, headings included: Markdown (a
/// source that ends in `.md` or `.markdown`) by its headings, anything else by its paragraphs. `source` is how the
/// document is to be cited, such as its path in its folder.
///
/// Headings are lines that begin with `#`; code blocks are not looked into, and a front matter
/// between lines of `---` is left out.
pub fn passages(source: &str, text: &str, longest: usize) -> Vec<Passage> {
    let lower = source.to_lowercase();
    let markdown = lower.ends_with(".md") || lower.ends_with(".markdown");
    let sections = match markdown {
        true => sections(without_front_matter(text)),
        false => vec![Section {
            headings: Vec::new(),
            body: text.to_owned(),
        }],
    };
    let title = sections.iter().find_map(|section| section.headings.first());
    let title = title
        .cloned()
        .unwrap_or_else(|| file_name(source).to_owned());
    let mut anchors = Anchors::default();
    let chunks = sections.iter().flat_map(|section| section.chunks(longest));
    joined(chunks, longest)
        .into_iter()
        .map(|chunk| Passage {
            id: format!("{source}#{}", anchors.next(&chunk.heading, &title)),
            metadata: metadata([
                ("title", &*title),
                ("source", source),
                ("section", &chunk.path),
            ]),
            text: chunk.text,
        })
        .collect()
}

/// What stands under one heading.
struct Section {
    /// The headings that it stands under, outermost first.
    headings: Vec<String>,
    body: String,
}

/// A passage without a name.
struct Chunk {
    heading: String,
    path: String,
    text: String,
    /// Whether it is the whole of its section.
    whole: bool,
}

impl Section {
    fn chunks(&self, longest: usize) -> Vec<Chunk> {
        let heading = self.headings.last().cloned().unwrap_or_default();
        let heading: String = heading.chars().take(longest / 4).collect();
        // The heading and the blank line after it.
        let room = match heading.chars().count() {
            0 => longest,
            length => longest - length - 2,
        };
        let bodies = pieces(&self.body, SplitBy::Paragraph, room, 0);
        let whole = bodies.len() == 1;
        let chunks = bodies.into_iter().map(|body| Chunk {
            text: match heading.is_empty() {
                true => body.to_owned(),
                false => format!("{heading}\n\n{body}"),
            },
            heading: heading.clone(),
            path: self.headings.join(" > "),
            whole,
        });
        chunks.collect()
    }
}

/// Joins short sections with the one before.
fn joined(chunks: impl Iterator<Item = Chunk>, longest: usize) -> Vec<Chunk> {
    let mut joined: Vec<Chunk> = Vec::new();
    for chunk in chunks {
        let length = chunk.text.chars().count();
        match joined.last_mut() {
            Some(last)
                if last.whole
                    && chunk.whole
                    && length < SHORT
                    && last.text.chars().count() + 2 + length <= longest =>
            {
                last.text.push_str("\n\n");
                last.text.push_str(&chunk.text);
            }
            _ => joined.push(chunk),
        }
    }
    joined
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section {
        headings: Vec::new(),
        body: String::new(),
    }];
    // The levels of the headings that are open, beside the headings themselves.
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut fence: Option<&str> = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        match fence {
            Some(mark) if closes(bare, mark) => fence = None,
            Some(_) => {}
            None => fence = fence_mark(bare),
        }
        match heading(line).filter(|_| fence.is_none()) {
            Some((level, heading)) => {
                open.retain(|(above, _)| *above < level);
                open.push((level, heading.to_owned()));
                sections.push(Section {
                    headings: open.iter().map(|(_, heading)| heading.clone()).collect(),
                    body: String::new(),
                });
            }
            None => {
                if let Some(section) = sections.last_mut() {
                    section.body.push_str(line);
                }
            }
        }
    }
    sections
}

/// The level and the words of a heading, if the line is one.
fn heading(line: &str) -> Option<(usize, &str)> {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let line = line.trim();
    let level = line.len() - line.trim_start_matches('#').len();
    let rest = &line[level..];
    let is_heading = indent <= 3 && (1..=6).contains(&level) && rest.starts_with([' ', '\t']);
    is_heading.then(|| (level, rest.trim_end_matches('#').trim()))
}

/// The mark that opens a code block.
fn fence_mark(line: &str) -> Option<&str> {
    ["`", "~"].into_iter().find_map(|mark| {
        let length = line.len() - line.trim_start_matches(mark).len();
        (length >= 3).then(|| &line[..length])
    })
}

fn closes(line: &str, mark: &str) -> bool {
    line.starts_with(mark) && line.trim_start_matches(&mark[..1]).is_empty()
}

fn without_front_matter(text: &str) -> &str {
    let text = text.trim_start_matches('\u{feff}');
    let Some(rest) = text
        .strip_prefix("---\n")
        .or_else(|| text.strip_prefix("---\r\n"))
    else {
        return text;
    };
    let mut place = 0;
    for line in rest.split_inclusive('\n') {
        place += line.len();
        if line.trim_end() == "---" {
            return &rest[place..];
        }
    }
    text
}

fn file_name(source: &str) -> &str {
    let name = source.rsplit('/').next().unwrap_or(source);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn metadata<const N: usize>(fields: [(&str, &str); N]) -> Map {
    let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
    given
        .map(|(name, value)| (name.into(), Value::text(value)))
        .collect()
}

/// Gives each passage of a document a name of its own.
#[derive(Default)]
struct Anchors {
    taken: HashSet<String>,
}

impl Anchors {
    fn next(&mut self, heading: &str, title: &str) -> String {
        let anchor = [heading, title]
            .into_iter()
            .map(slug)
            .find(|slug| !slug.is_empty());
        let anchor = anchor.unwrap_or_else(|| "section".to_owned());
        let mut name = anchor.clone();
        let mut number = 1;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{anchor}-{number}");
        }
        name
    }
}

/// A heading as an anchor: small letters and digits, everything else one hyphen.
fn slug(heading: &str) -> String {
    let words = heading.split(|c: char| !c.is_alphanumeric());
    let words = words.filter(|word| !word.is_empty()).map(str::to_lowercase);
    let slug = words.collect::<Vec<_>>().join("-");
    slug.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;
    use std::fmt::Write;

    fn show(passages: &[Passage]) -> String {
        let mut shown = String::new();
        for passage in passages {
            let field = |name: &str| passage.metadata.get(name).and_then(Value::as_text);
            let section = field("section").map_or("-", |section| section);
            let title = field("title").map_or("-", |title| title);
            writeln!(
                shown,
                "{} ({title}: {section}) {:?}",
                passage.id, passage.text
            )
            .unwrap();
        }
        shown
    }

    #[test]
    fn markdown_is_cut_by_its_headings() {
        let words = "word ".repeat(40);
        let text = format!(
            "---\nlayout: page\n---\nIntro.\n# Guide #\n## Install\n{words}\n```sh\n# no heading\n```\n\
             ### On Linux\n{words}\n### Note\nShort.\n\n## Install\n{words}\n### Empty\n"
        );
        let shown = show(&passages("docs/guide.md", &text, 900)).replace(words.trim_end(), "…");
        expect![[r#"
            docs/guide.md#guide (Guide: -) "Intro."
            docs/guide.md#install (Guide: Guide > Install) "Install\n\n… \n```sh\n# no heading\n```"
            docs/guide.md#on-linux (Guide: Guide > Install > On Linux) "On Linux\n\n…\n\nNote\n\nShort."
            docs/guide.md#install-2 (Guide: Guide > Install) "Install\n\n…"
        "#]].assert_eq(&shown);
    }

    #[test]
    fn long_sections_are_numbered() {
        let text = format!("# A\n\n{}", "A sentence of some words. ".repeat(80));
        let passages = passages("a.md", &text, 900);
        let ids: Vec<_> = passages.iter().map(|passage| &*passage.id).collect();
        assert_eq!(ids, ["a.md#a", "a.md#a-2", "a.md#a-3"]);
    }

    #[test]
    fn plain_text_is_one_section() {
        expect![[r##"
            notes/today.txt#today (today: -) "# one\n\ntwo"
        "##]]
        .assert_eq(&show(&passages("notes/today.txt", "# one\n\ntwo", 900)));
    }

    proptest! {
        #[test]
        fn ids_differ_and_sizes_are_kept(text in "([#`~a-c \n-]|\\PC){0,300}", copies in 1usize..20, longest in 100usize..1000) {
            let text = text.repeat(copies);
            let passages = passages("x.md", &text, longest);
            let ids: HashSet<_> = passages.iter().map(|passage| &passage.id).collect();
            prop_assert_eq!(ids.len(), passages.len());
            for passage in &passages {
                prop_assert!(passage.text.chars().count() <= longest);
            }
        }
    }
}
