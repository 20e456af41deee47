//! `engine graph`: drawings.

use super::{Failure, terminal};
use clap::ValueEnum;
use graphs::{Graph, show};
use std::path::PathBuf;

/// Draw the graphs of a file.
#[derive(Debug, clap::Args)]
pub struct Draw {
    /// The file.
    file: PathBuf,
    /// What to draw with.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Only the graph of this name.
    #[arg(long, value_name = "NAME")]
    graph: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Indented text.
    Text,
    /// Graphviz.
    Dot,
    /// Mermaid, as Markdown renderers show it.
    Mermaid,
    /// A picture.
    Svg,
}

impl Draw {
    pub fn execute(self) -> Result<(), Failure> {
        let loaded = terminal::load(&self.file, engine::facts::gather(&self.file))?;
        let wanted = |graph: &&std::sync::Arc<Graph>| match &self.graph {
            Some(name) => graph.id().as_str() == name,
            None => true,
        };
        let drawn: Vec<_> = loaded.program.graphs().iter().filter(wanted).collect();
        if drawn.is_empty() {
            let names = loaded
                .program
                .graphs()
                .iter()
                .map(|graph| graph.id().as_str());
            let names: Vec<_> = names.collect();
            return Err(Failure::usage(format!(
                "no graph {:?} in {}; it has: {}",
                self.graph.as_deref().unwrap_or_default(),
                self.file.display(),
                names.join(", ")
            )));
        }
        if matches!(self.format, Format::Svg) && drawn.len() > 1 {
            return Err(Failure::usage(
                "a picture shows one graph; choose it with --graph",
            ));
        }
        for graph in drawn {
            let text = match self.format {
                Format::Text => show::text(graph),
                Format::Dot => show::dot(graph),
                Format::Mermaid => show::mermaid(graph),
                Format::Svg => show::svg(graph),
            };
            println!("{}", text.trim_end());
        }
        Ok(())
    }
}
