//! A graph in Mermaid's flowchart language, which code hosts draw inside Markdown.

use super::{colours, picture::Picture};
use crate::Graph;
use schema::Kind;
use std::{
    collections::BTreeSet,
    fmt::{self, Write},
};

/// Writes a graph as a Mermaid flowchart.
pub fn mermaid(graph: &Graph) -> String {
    let mut out = String::new();
    write(&mut out, graph).expect("writing to a string cannot fail");
    out
}

fn write(out: &mut String, graph: &Graph) -> fmt::Result {
    let picture = Picture::new(graph);
    writeln!(out, "flowchart TD")?;
    let mut classes: BTreeSet<Option<Kind>> = BTreeSet::new();
    for (index, drawn) in picture.boxes.iter().enumerate() {
        let lines: Vec<String> = std::iter::once(&drawn.title)
            .chain(&drawn.notes)
            .map(|line| escaped(line))
            .collect();
        let (open, close) = match drawn.kind {
            None => ("([", "])"),
            Some(Kind::Switch) => ("{", "}"),
            Some(_) => ("[", "]"),
        };
        let class = class(drawn.kind);
        // Ids are numbers: a name such as `end` would end the diagram.
        writeln!(
            out,
            "    n{index}{open}\"{}\"{close}:::{class}",
            lines.join("<br>")
        )?;
        classes.insert(drawn.kind);
    }
    for arrow in &picture.arrows {
        let line = if arrow.fallback { "-.->" } else { "-->" };
        writeln!(
            out,
            "    n{} {line}|\"{}\"| n{}",
            arrow.from,
            escaped(&arrow.label),
            arrow.to
        )?;
    }
    for kind in classes {
        let (fill, border) = colours(kind);
        writeln!(
            out,
            "    classDef {} fill:{fill},stroke:{border},color:#18181b",
            class(kind)
        )?;
    }
    Ok(())
}

fn class(kind: Option<Kind>) -> String {
    format!("k-{}", kind.map_or("request", Kind::name))
}

/// Text in a quoted label: what Mermaid or HTML would read as markup is written as entities.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => escaped.push_str("#quot;"),
            '#' => escaped.push_str("#35;"),
            '&' => escaped.push_str("#amp;"),
            '<' => escaped.push_str("#lt;"),
            '>' => escaped.push_str("#gt;"),
            '`' => escaped.push_str("#96;"),
            other => escaped.push(other),
        }
    }
    escaped
}
