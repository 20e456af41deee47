//! The reference page of the language, written from the declarations that the decoder uses.

use crate::{
    Document, Kind, NodeDecl, PoolSpec, Work,
    decode::{Described, Fields, Need, Options, Place, Shape},
    examples,
};

/// The language reference in Markdown, as it stands in `docs/reference.md`.
pub fn reference() -> String {
    let mut page = Page {
        text: INTRODUCTION.to_owned(),
    };
    let document = Fields::describe(Document::fields);
    page.section(2, "A file", &document);
    for block in &document.list {
        if let Shape::Block { fields, .. } = &block.shape {
            page.block(2, block.name, fields);
        }
    }
    page.text.push_str(NODES);
    page.section(3, "On every node", &Fields::describe(NodeDecl::flow));
    page.section(
        3,
        "On nodes with a pool",
        &Fields::describe(PoolSpec::fields),
    );
    for kind in Kind::ALL {
        let options = Fields::describe(|f| Work::read(kind, f));
        page.block(3, kind.name(), &options);
    }
    page.text
}

const INTRODUCTION: &str = "\
# Language reference

<!-- Written by `schema::reference()` from the declarations that the engine itself reads; to change
it, change them and run the tests with UPDATE_EXPECT=1. -->

A file is [KDL](https://kdl.dev) version 2, in UTF-8, of at most 1 MiB. It consists of blocks: a word,
values and `name=value` properties on the word's line, and further lines between braces.

**Options** are written as a property of a block's line or as a line of their own within its braces;
`batch max-size=8` and `batch { max-size 8 }` are the same. Each is written once, unless its table
says that it may be repeated. A value on the block's own line without a name is shown in capitals.

| Value | Written as |
|---|---|
| text | a word, or any KDL string: `fast`, `\"two words\"`, `#\"no \\escapes\"#`, `\"\"\"` over several lines |
| name | letters, digits, `-` and `_`, beginning with a letter; templates write `_` for `-` |
| number | `5`, `0.5`, `1e-3` |
| `#true`, `#false` | as they are |
| duration | a number and a unit, one of `us`, `ms`, `s`, `m`, `h`, `d`: `\"20ms\"`, `\"1.5s\"` |
| size | a number and a unit, one of `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB`, `TiB`: `\"512MiB\"` |
| share | a number and `%`: `\"5%\"` |
| template | a text with `{{ … }}` or `{% … %}` in it, filled in for each request |

**Templates** are [Jinja](https://docs.rs/minijinja). They read `input` (the request's fields),
`header` (its headers, in lower case with `_` for `-`), the results of other nodes by name, and `item`
under `each`. What a node reads is what it waits for. A text that is one `{{ expression }}` keeps the
type of its value: a list stays a list.

**Secrets**: `(env)\"NAME\"` in place of a text is the value of an environment variable when the file
is loaded. It is never printed.
";

const NODES: &str = "
## Nodes

A node is a line of a `graph`: its kind, its name, and its options. `template`, `switch` and `merge`
run within the request itself; all others run in a pool and have its options too.
";

struct Page {
    text: String,
}

impl Page {
    /// A block of this name and the blocks within it that have no section of their own.
    fn block(&mut self, level: usize, name: &str, options: &Options) {
        self.section(level, &format!("`{name}`"), options);
    }

    fn section(&mut self, level: usize, title: &str, options: &Options) {
        self.line("");
        self.line(&format!("{} {title}", "#".repeat(level)));
        if !options.about.is_empty() {
            self.line("");
            self.line(&sentences(options.about));
        }
        if let Some(example) = examples::of(title.trim_matches('`')) {
            self.line("");
            self.line(&format!("```kdl\n{}```", example));
        }
        self.table(options);
        for described in &options.list {
            match &described.shape {
                Shape::Block { fields, .. } if level > 2 || title != "A file" => {
                    let inner = match title.starts_with('`') {
                        true => format!("`{}` of {title}", described.name),
                        false => format!("`{}`", described.name),
                    };
                    let own_section = Kind::ALL.iter().any(|kind| kind.name() == described.name);
                    if !own_section && !fields.list.is_empty() {
                        self.section(level + 1, &inner, fields);
                    }
                }
                Shape::Named { fields } => self.table(fields),
                _ => {}
            }
        }
    }

    fn table(&mut self, options: &Options) {
        let is_node =
            |described: &&Described| Kind::ALL.iter().any(|kind| kind.name() == described.name);
        let rows: Vec<String> = options
            .list
            .iter()
            .filter(|described| !(is_node(described) && described.doc.is_empty()))
            .map(row)
            .collect();
        if rows.is_empty() {
            return;
        }
        self.line("");
        self.line("| Option | Value | If absent | |");
        self.line("|---|---|---|---|");
        for row in rows {
            self.line(&row);
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn row(described: &Described) -> String {
    let Described { name, doc, shape } = described;
    let (name, value, absent) = match shape {
        Shape::Value {
            place,
            word,
            need,
            repeated,
        } => {
            let name = match place {
                Place::Argument => name.to_uppercase(),
                Place::Option => format!("`{name}`"),
            };
            let value = match repeated {
                true => format!("{word}; may be repeated"),
                false => word.clone(),
            };
            let absent = match need {
                Need::Required => "an error".to_owned(),
                Need::Optional => String::new(),
                Need::Default(default) => format!("`{default}`"),
            };
            (name, value, absent)
        }
        Shape::Block { repeated, .. } => {
            let value = match repeated {
                true => "a block; may be repeated",
                false => "a block",
            };
            (format!("`{name}`"), value.to_owned(), String::new())
        }
        Shape::Named { .. } => ((*name).to_owned(), "a line each".to_owned(), String::new()),
    };
    format!("| {name} | {value} | {absent} | {} |", sentences(doc))
}

/// The text of a doc comment as one paragraph a paragraph.
fn sentences(doc: &str) -> String {
    let paragraphs = doc.split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
