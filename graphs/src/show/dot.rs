//! A graph in DOT, the language of Graphviz.

use super::{colours, picture::Picture};
use crate::Graph;
use std::fmt::{self, Write};

/// Writes a graph in DOT.
pub fn dot(graph: &Graph) -> String {
    let mut out = String::new();
    write(&mut out, graph).expect("writing to a string cannot fail");
    out
}

fn write(out: &mut String, graph: &Graph) -> fmt::Result {
    let picture = Picture::new(graph);
    writeln!(out, "digraph {} {{", quoted(graph.id().as_str()))?;
    writeln!(
        out,
        "    node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];"
    )?;
    writeln!(out, "    edge [fontname=\"sans-serif\", fontsize=10];")?;
    for (index, drawn) in picture.boxes.iter().enumerate() {
        let (fill, border) = colours(drawn.kind);
        let lines: Vec<&str> = std::iter::once(&drawn.title)
            .chain(&drawn.notes)
            .map(String::as_str)
            .collect();
        let label = quoted(&lines.join("\n"));
        writeln!(
            out,
            "    n{index} [label={label}, fillcolor=\"{fill}\", color=\"{border}\"];"
        )?;
    }
    for arrow in &picture.arrows {
        let style = if arrow.fallback { ", style=dashed" } else { "" };
        let label = quoted(&arrow.label);
        writeln!(
            out,
            "    n{} -> n{} [label={label}{style}];",
            arrow.from, arrow.to
        )?;
    }
    writeln!(out, "}}")
}

fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}
