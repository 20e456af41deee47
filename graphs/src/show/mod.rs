//! Drawings of a checked graph: as text, DOT, Mermaid and SVG.
//!
//! All four show the same picture: the request, the nodes with their conditions, the answer,
//! and what flows between them. Nothing here is read back by anything.

mod dot;
mod layout;
mod mermaid;
mod picture;
mod svg;
mod text;

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;
pub use text::text;

use schema::Kind;

/// How nodes of a kind are coloured: fill and border.
fn colours(kind: Option<Kind>) -> (&'static str, &'static str) {
    match kind {
        None => ("#f4f4f5", "#71717a"),
        Some(Kind::Embed) => ("#e0f2fe", "#0284c7"),
        Some(Kind::Search) => ("#dcfce7", "#16a34a"),
        Some(Kind::Rerank) => ("#d1fae5", "#0d9488"),
        Some(Kind::Generate) => ("#f3e8ff", "#9333ea"),
        Some(Kind::Template | Kind::Split) => ("#ffffff", "#a1a1aa"),
        Some(Kind::Switch | Kind::Merge) => ("#fef9c3", "#ca8a04"),
        Some(Kind::Http | Kind::Python | Kind::Infer) => ("#ffedd5", "#ea580c"),
    }
}
