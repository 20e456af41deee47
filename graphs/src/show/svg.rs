//! A graph as a picture that stands for itself: no script, no font, no reference to anything.

use super::{
    colours,
    layout::{Layout, layout},
    picture::{Arrow, Picture, PictureBox},
};
use crate::Graph;
use std::fmt::{self, Write};

const MARGIN: f64 = 24.0;
const LINE: f64 = 16.0;
const PADDING: f64 = 10.0;
/// Room between two layers, for the arrows and their labels.
const BETWEEN: f64 = 64.0;
/// Width of a letter in the fonts used, on the wide side.
const LETTER: f64 = 7.4;

/// Draws a graph as SVG.
pub fn svg(graph: &Graph) -> String {
    let mut out = String::new();
    write(&mut out, graph).expect("writing to a string cannot fail");
    out
}

fn write(out: &mut String, graph: &Graph) -> fmt::Result {
    let picture = Picture::new(graph);
    let widths: Vec<f64> = picture.boxes.iter().map(width).collect();
    let layout = layout(&picture, &widths);
    let rows = Rows::new(&picture, &layout);
    let (across, down) = (layout.width + 2.0 * MARGIN, rows.bottom + MARGIN);
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{across:.0}\" height=\"{down:.0}\" \
         viewBox=\"0 0 {across:.0} {down:.0}\" font-family=\"ui-sans-serif, sans-serif\" \
         font-size=\"13\">"
    )?;
    writeln!(out, "<title>{}</title>", escaped(graph.id().as_str()))?;
    writeln!(
        out,
        "<defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" \
         markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L10 5L0 10z\" fill=\"#52525b\"/></marker></defs>"
    )?;
    writeln!(
        out,
        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    )?;
    for (index, arrow) in picture.arrows.iter().enumerate() {
        write_arrow(
            out,
            arrow,
            &path(arrow, &layout.bends[index], &layout, &rows),
        )?;
    }
    for (index, drawn) in picture.boxes.iter().enumerate() {
        let top = rows.top[layout.layer[index]];
        write_box(
            out,
            drawn,
            layout.centre[index] + MARGIN,
            top,
            widths[index],
        )?;
    }
    // Labels come last, so that no line runs over them.
    for (index, arrow) in picture.arrows.iter().enumerate() {
        write_label(
            out,
            arrow,
            &path(arrow, &layout.bends[index], &layout, &rows),
        )?;
    }
    writeln!(out, "</svg>")
}

/// Where the layers stand.
struct Rows {
    top: Vec<f64>,
    height: Vec<f64>,
    bottom: f64,
    boxes: Vec<f64>,
}

impl Rows {
    fn new(picture: &Picture, layout: &Layout) -> Self {
        let boxes: Vec<f64> = picture.boxes.iter().map(height).collect();
        let count = layout.layer.iter().copied().max().unwrap_or(0) + 1;
        let mut heights = vec![0.0_f64; count];
        for (row, height) in layout.layer.iter().zip(&boxes) {
            heights[*row] = heights[*row].max(*height);
        }
        let mut top = Vec::with_capacity(count);
        let mut next = MARGIN;
        for height in &heights {
            top.push(next);
            next += height + BETWEEN;
        }
        Self {
            top,
            height: heights,
            bottom: next - BETWEEN,
            boxes,
        }
    }
}

fn width(drawn: &PictureBox) -> f64 {
    let lines = std::iter::once(&drawn.title).chain(&drawn.notes);
    let longest = lines.map(|line| line.chars().count()).max().unwrap_or(0);
    (longest as f64).mul_add(LETTER, 2.0 * PADDING).max(72.0)
}

fn height(drawn: &PictureBox) -> f64 {
    ((drawn.notes.len() + 1) as f64).mul_add(LINE, 2.0 * PADDING)
}

/// The points that an arrow goes through: from the bottom of a box to the top of another.
fn path(arrow: &Arrow, bends: &[(usize, f64)], layout: &Layout, rows: &Rows) -> Vec<(f64, f64)> {
    let across = |index: usize| layout.centre[index] + MARGIN;
    let mut points = vec![(
        across(arrow.from),
        rows.top[layout.layer[arrow.from]] + rows.boxes[arrow.from],
    )];
    for (row, centre) in bends {
        points.push((centre + MARGIN, rows.top[*row]));
        points.push((centre + MARGIN, rows.top[*row] + rows.height[*row]));
    }
    points.push((across(arrow.to), rows.top[layout.layer[arrow.to]]));
    points
}

fn write_arrow(out: &mut String, arrow: &Arrow, points: &[(f64, f64)]) -> fmt::Result {
    let dash = if arrow.fallback {
        " stroke-dasharray=\"5 4\""
    } else {
        ""
    };
    write!(
        out,
        "<path fill=\"none\" stroke=\"#52525b\"{dash} marker-end=\"url(#tip)\" d=\""
    )?;
    for (place, (x, y)) in points.iter().enumerate() {
        match place.checked_sub(1).map(|before| points[before]) {
            None => write!(out, "M{x:.0} {y:.0}")?,
            // Straight down through a layer, in a curve from one to the next.
            Some((before, _)) if before == *x => write!(out, "L{x:.0} {y:.0}")?,
            Some((before, above)) => {
                let middle = (above + y) / 2.0;
                write!(
                    out,
                    "C{before:.0} {middle:.0} {x:.0} {middle:.0} {x:.0} {y:.0}"
                )?;
            }
        }
    }
    writeln!(out, "\"/>")
}

/// The label stands on the last stretch, near the box that takes the value.
fn write_label(out: &mut String, arrow: &Arrow, points: &[(f64, f64)]) -> fmt::Result {
    let [.., (x0, y0), (x1, y1)] = points else {
        return Ok(());
    };
    // The point at two thirds of the curve.
    let t: f64 = 2.0 / 3.0;
    let bow = t * t * 2.0_f64.mul_add(-t, 3.0);
    let (x, y) = ((x1 - x0).mul_add(bow, *x0), (y1 - y0).mul_add(t, *y0));
    writeln!(
        out,
        "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#3f3f46\" \
         stroke=\"#ffffff\" stroke-width=\"4\" paint-order=\"stroke\">{}</text>",
        escaped(&arrow.label)
    )
}

fn write_box(out: &mut String, drawn: &PictureBox, x: f64, y: f64, width: f64) -> fmt::Result {
    let (fill, border) = colours(drawn.kind);
    let (left, height) = (x - width / 2.0, height(drawn));
    writeln!(
        out,
        "<rect x=\"{left:.0}\" y=\"{y:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" rx=\"6\" \
         fill=\"{fill}\" stroke=\"{border}\"/>"
    )?;
    let mut line = y + PADDING + 12.0;
    let mut text = |content: &str, style: &str| -> fmt::Result {
        writeln!(
            out,
            "<text x=\"{x:.0}\" y=\"{line:.0}\" text-anchor=\"middle\" {style}>{}</text>",
            escaped(content)
        )?;
        line += LINE;
        Ok(())
    };
    text(&drawn.title, "font-weight=\"600\" fill=\"#18181b\"")?;
    for note in &drawn.notes {
        text(note, "font-size=\"12\" fill=\"#52525b\"")?;
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
