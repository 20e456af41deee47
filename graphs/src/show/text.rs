//! A graph as text: what each node takes, and the type of what it yields.

use super::picture::{arguments, written};
use crate::{BoundFallback, Expression, Graph, GraphNode};
use std::fmt::{self, Write};

/// Writes a graph as text for people, a block of lines a node.
pub fn text(graph: &Graph) -> String {
    let mut out = String::new();
    write(&mut out, graph).expect("writing to a string cannot fail");
    out
}

fn write(out: &mut String, graph: &Graph) -> fmt::Result {
    writeln!(out, "graph {} at {}", graph.id(), graph.route())?;
    writeln!(out, "\ninput")?;
    let input = graph.input().iter();
    let fields: Vec<_> = input
        .map(|field| (field.id.in_template(), field.value_type.to_string()))
        .collect();
    write_aligned(out, &fields, ":")?;
    for (_, node) in graph.nodes() {
        let kind = node.decl.work.kind().name();
        writeln!(out, "\n{kind} {}: {}", *node.decl.id, node.output)?;
        write_aligned(out, &takes(graph, node), "←")?;
    }
    writeln!(out, "\noutput")?;
    let output = graph.output().iter();
    let fields: Vec<_> = output
        .map(|field| {
            let value = shown(graph, &field.expression);
            (
                field.name.to_string(),
                format!("{value}: {}", field.value_type),
            )
        })
        .collect();
    write_aligned(out, &fields, "←")
}

fn takes(graph: &Graph, node: &GraphNode) -> Vec<(String, String)> {
    let mut takes: Vec<(String, String)> = arguments(node)
        .map(|(name, _, expression)| (name.to_owned(), shown(graph, expression)))
        .collect();
    for (place, source) in node.from.iter().enumerate() {
        let name = format!("{}.", place + 1);
        takes.push((name, graph.node(*source).decl.id.in_template()));
    }
    if let Some(BoundFallback::Node(other)) = node.fallback {
        takes.push((
            "fallback".to_owned(),
            graph.node(other).decl.id.in_template(),
        ));
    }
    takes
}

/// The expression; of a text with gaps, what fills them.
fn shown(graph: &Graph, expression: &Expression) -> String {
    match expression {
        Expression::Template(template) if !template.native => {
            let names: Vec<&str> = template
                .reads
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            format!("text with {}", names.join(", "))
        }
        other => written(graph, other),
    }
}

fn write_aligned(out: &mut String, lines: &[(String, String)], between: &str) -> fmt::Result {
    let widest = lines.iter().map(|(name, _)| name.chars().count()).max();
    let width = widest.unwrap_or(0);
    for (name, value) in lines {
        writeln!(out, "    {name:width$} {between} {value}")?;
    }
    Ok(())
}
