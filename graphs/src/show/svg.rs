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
const BETWEEN: f64 = 76.0;
/// Width of a letter in the fonts used, on the wide side: of titles, notes, and labels.
const TITLE_LETTER: f64 = 8.6;
const NOTE_LETTER: f64 = 7.0;
const LABEL_LETTER: f64 = 6.2;
/// How far above a box the labels of its arrows stand.
const LABEL_RISE: f64 = 14.0;

/// Draws a graph as SVG.
pub fn svg(graph: &Graph) -> String {
    let mut out = String::new();
    write(&mut out, graph).expect("writing to a string cannot fail");
    out
}

fn write(out: &mut String, graph: &Graph) -> fmt::Result {
    let picture = Picture::new(graph);
    let widths: Vec<f64> = (0..picture.boxes.len())
        .map(|index| width(&picture, index))
        .collect();
    let layout = layout(&picture, &widths);
    let rows = Rows::new(&picture, &layout);
    let paths = paths(&picture, &layout, &rows, &widths);
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
    for (arrow, path) in picture.arrows.iter().zip(&paths) {
        write_arrow(out, arrow, path)?;
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
    for (arrow, path) in picture.arrows.iter().zip(&paths) {
        write_label(out, arrow, path)?;
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

/// Wide enough for the lines of a box, and for the labels of the arrows that end at it.
fn width(picture: &Picture, index: usize) -> f64 {
    let drawn = &picture.boxes[index];
    let letters = |line: &String| line.chars().count() as f64;
    let notes = drawn.notes.iter().map(|note| letters(note) * NOTE_LETTER);
    let lines = notes.fold(letters(&drawn.title) * TITLE_LETTER, f64::max) + 2.0 * PADDING;
    let arrows = picture.arrows.iter().filter(|arrow| arrow.to == index);
    let labels: f64 = arrows.map(label_width).sum();
    lines.max(labels).max(72.0)
}

fn label_width(arrow: &Arrow) -> f64 {
    (arrow.label.chars().count() as f64).mul_add(LABEL_LETTER, PADDING)
}

fn height(drawn: &PictureBox) -> f64 {
    ((drawn.notes.len() + 1) as f64).mul_add(LINE, 2.0 * PADDING)
}

type Points = Vec<(f64, f64)>;

/// The points that each arrow goes through: from the bottom of a box to the top of another.
fn paths(picture: &Picture, layout: &Layout, rows: &Rows, widths: &[f64]) -> Vec<Points> {
    let mut paths: Vec<Points> = picture
        .arrows
        .iter()
        .enumerate()
        .map(|(index, arrow)| {
            let from = layout.layer[arrow.from];
            let mut points = vec![(
                layout.centre[arrow.from] + MARGIN,
                rows.top[from] + rows.boxes[arrow.from],
            )];
            for (row, centre) in &layout.bends[index] {
                let top = rows.top[*row];
                points.push((centre + MARGIN, top));
                points.push((centre + MARGIN, top + rows.height[*row]));
            }
            points.push((
                layout.centre[arrow.to] + MARGIN,
                rows.top[layout.layer[arrow.to]],
            ));
            points
        })
        .collect();
    for (index, width) in widths.iter().enumerate() {
        let middle = layout.centre[index] + MARGIN;
        spread_ends(picture, &mut paths, index, middle);
        spread_starts(picture, &mut paths, index, middle, *width);
    }
    paths
}

/// Puts the ends of the arrows to a box side by side, in the order in which they arrive, each with
/// room for its label.
fn spread_ends(picture: &Picture, paths: &mut [Points], to: usize, middle: f64) {
    let arrows = picture.arrows.iter().enumerate();
    let mut arriving: Vec<usize> = arrows
        .filter(|(_, arrow)| arrow.to == to)
        .map(|(index, _)| index)
        .collect();
    let before = |index: &usize| {
        paths[*index]
            .iter()
            .rev()
            .nth(1)
            .map_or(0.0, |point| point.0)
    };
    arriving.sort_by(|a, b| before(a).total_cmp(&before(b)));
    let room: f64 = arriving
        .iter()
        .map(|index| label_width(&picture.arrows[*index]))
        .sum();
    let mut left = middle - room / 2.0;
    for index in arriving {
        let width = label_width(&picture.arrows[index]);
        if let Some(end) = paths[index].last_mut() {
            end.0 = left + width / 2.0;
        }
        left += width;
    }
}

/// Spreads the starts of the arrows from a box over the middle of its width.
fn spread_starts(picture: &Picture, paths: &mut [Points], from: usize, middle: f64, width: f64) {
    let arrows = picture.arrows.iter().enumerate();
    let mut leaving: Vec<usize> = arrows
        .filter(|(_, arrow)| arrow.from == from)
        .map(|(index, _)| index)
        .collect();
    let after = |index: &usize| paths[*index].get(1).map_or(0.0, |point| point.0);
    leaving.sort_by(|a, b| after(a).total_cmp(&after(b)));
    let step = (width / (leaving.len() + 1) as f64).min(16.0);
    let mut left = middle - step * (leaving.len().saturating_sub(1)) as f64 / 2.0;
    for index in leaving {
        if let Some(start) = paths[index].first_mut() {
            start.0 = left;
        }
        left += step;
    }
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

/// The label stands above the box that takes the value.
fn write_label(out: &mut String, arrow: &Arrow, points: &[(f64, f64)]) -> fmt::Result {
    let Some((x, y)) = points.last() else {
        return Ok(());
    };
    writeln!(
        out,
        "<text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#3f3f46\" \
         stroke=\"#ffffff\" stroke-width=\"4\" paint-order=\"stroke\">{}</text>",
        y - LABEL_RISE,
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
