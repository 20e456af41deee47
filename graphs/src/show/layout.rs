//! Where boxes go: layers by longest path, order within a layer by barycentres, positions as near
//! to the neighbours as spacing allows (after Sugiyama, Tagawa and Toda 1981).

use super::picture::Picture;

/// Sweeps over the layers, each once down and once up.
const SWEEPS: usize = 12;

/// With more bends than this, long arrows go straight instead of around boxes.
const MAX_BENDS: usize = 20_000;

/// Room between two boxes of a layer.
const GAP: f64 = 36.0;

/// Room that an arrow takes where it passes through a layer.
const BEND: f64 = 14.0;

/// The drawing's geometry. Layers run downwards; positions across are centres.
pub(super) struct Layout {
    /// The layer of each box.
    pub(super) layer: Vec<usize>,
    /// The centre of each box.
    pub(super) centre: Vec<f64>,
    /// Where each arrow passes through the layers between its ends: the layer and the centre.
    pub(super) bends: Vec<Vec<(usize, f64)>>,
    /// Its extent across.
    pub(super) width: f64,
}

/// A box, or a point where an arrow passes through a layer.
struct Vertex {
    width: f64,
    above: Vec<usize>,
    below: Vec<usize>,
    centre: f64,
}

/// Lays a picture out, given the width of each box.
pub(super) fn layout(picture: &Picture, widths: &[f64]) -> Layout {
    let layer = layers(picture);
    let (mut vertices, mut rows, passes) = vertices(picture, widths, &layer);
    for _ in 0..SWEEPS {
        (1..rows.len()).for_each(|row| sort_row(&mut rows[row], &vertices, |vertex| &vertex.above));
        number(&rows, &mut vertices);
        (0..rows.len()).rev().for_each(|row| {
            sort_row(&mut rows[row], &vertices, |vertex| &vertex.below);
            for (place, vertex) in rows[row].iter().enumerate() {
                vertices[*vertex].centre = place as f64;
            }
        });
    }
    for row in &rows {
        pack(row, &mut vertices);
    }
    for _ in 0..SWEEPS {
        for row in rows.iter().chain(rows.iter().rev()) {
            align(row, &mut vertices);
        }
    }
    finish(layer, &vertices, &passes, picture.boxes.len())
}

/// The request on top, each box below everything that it reads, the answer at the bottom.
fn layers(picture: &Picture) -> Vec<usize> {
    let mut layer = vec![1; picture.boxes.len()];
    layer[0] = 0;
    // Arrows are sorted by where they end, and lead from earlier boxes to later ones.
    for arrow in &picture.arrows {
        layer[arrow.to] = layer[arrow.to].max(layer[arrow.from] + 1);
    }
    if let Some((answer, others)) = layer.split_last_mut() {
        *answer = others.iter().copied().max().unwrap_or(0) + 1;
    }
    layer
}

type Rows = Vec<Vec<usize>>;

/// Boxes first, then the bends of each arrow; the rows as they stand at first; and the vertices
/// that each arrow passes through.
fn vertices(picture: &Picture, widths: &[f64], layer: &[usize]) -> (Vec<Vertex>, Rows, Rows) {
    let vertex = |width: f64| Vertex {
        width,
        above: Vec::new(),
        below: Vec::new(),
        centre: 0.0,
    };
    let mut vertices: Vec<Vertex> = widths.iter().map(|width| vertex(*width)).collect();
    let depth = layer.iter().copied().max().unwrap_or(0) + 1;
    let mut rows: Rows = vec![Vec::new(); depth];
    for (index, row) in layer.iter().enumerate() {
        rows[*row].push(index);
    }
    let spans = picture
        .arrows
        .iter()
        .map(|arrow| layer[arrow.to] - layer[arrow.from] - 1);
    let bend = spans.sum::<usize>() <= MAX_BENDS;
    let mut passes: Rows = Vec::new();
    for arrow in &picture.arrows {
        let mut through = Vec::new();
        let mut before = arrow.from;
        let between = if bend {
            layer[arrow.from] + 1..layer[arrow.to]
        } else {
            0..0
        };
        for row in between {
            let index = vertices.len();
            vertices.push(vertex(BEND));
            rows[row].push(index);
            connect(&mut vertices, before, index);
            through.push(index);
            before = index;
        }
        connect(&mut vertices, before, arrow.to);
        passes.push(through);
    }
    number(&rows, &mut vertices);
    (vertices, rows, passes)
}

fn connect(vertices: &mut [Vertex], above: usize, below: usize) {
    vertices[above].below.push(below);
    vertices[below].above.push(above);
}

/// Takes the place within the row as the centre, for the time being.
fn number(rows: &Rows, vertices: &mut [Vertex]) {
    for row in rows {
        for (place, vertex) in row.iter().enumerate() {
            vertices[*vertex].centre = place as f64;
        }
    }
}

/// The mean of the neighbours' centres, or its own where there are none.
fn barycentre(vertex: &Vertex, neighbours: &[usize], vertices: &[Vertex]) -> f64 {
    if neighbours.is_empty() {
        return vertex.centre;
    }
    let sum: f64 = neighbours.iter().map(|other| vertices[*other].centre).sum();
    sum / neighbours.len() as f64
}

fn sort_row(row: &mut [usize], vertices: &[Vertex], neighbours: impl Fn(&Vertex) -> &Vec<usize>) {
    let key = |index: &usize| {
        let vertex = &vertices[*index];
        barycentre(vertex, neighbours(vertex), vertices)
    };
    row.sort_by(|a, b| key(a).total_cmp(&key(b)));
}

/// Puts the row's vertices side by side.
fn pack(row: &[usize], vertices: &mut [Vertex]) {
    let mut left = 0.0;
    for vertex in row {
        let vertex = &mut vertices[*vertex];
        vertex.centre = left + vertex.width / 2.0;
        left += vertex.width + GAP;
    }
}

/// Moves the row's vertices towards their neighbours without changing their order: the least
/// squares under the spacing, by pooling adjacent violators.
fn align(row: &[usize], vertices: &mut [Vertex]) {
    // Blocks of vertices that touch: the sum of where they want to begin, how many, and the first.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    let mut offsets = Vec::with_capacity(row.len());
    let mut offset = 0.0;
    for (place, index) in row.iter().enumerate() {
        let vertex = &vertices[*index];
        if place > 0 {
            offset += vertices[row[place - 1]].width / 2.0 + GAP + vertex.width / 2.0;
        }
        offsets.push(offset);
        let neighbours: Vec<usize> = vertex.above.iter().chain(&vertex.below).copied().collect();
        let mut block = (barycentre(vertex, &neighbours, vertices) - offset, 1);
        while let Some(last) = blocks.last() {
            if last.0 / last.1 as f64 <= block.0 / block.1 as f64 {
                break;
            }
            block = (block.0 + last.0, block.1 + last.1);
            blocks.pop();
        }
        blocks.push(block);
    }
    let starts = blocks
        .into_iter()
        .flat_map(|(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    for ((index, offset), start) in row.iter().zip(offsets).zip(starts) {
        vertices[*index].centre = start + offset;
    }
}

fn finish(layer: Vec<usize>, vertices: &[Vertex], passes: &Rows, boxes: usize) -> Layout {
    let left = |vertex: &Vertex| vertex.centre - vertex.width / 2.0;
    let start = vertices.iter().map(left).fold(f64::INFINITY, f64::min);
    let right = |vertex: &Vertex| vertex.centre + vertex.width / 2.0;
    let end = vertices.iter().map(right).fold(f64::NEG_INFINITY, f64::max);
    let centre = |index: usize| vertices[index].centre - start;
    // A bend's layer follows from its place in the arrow.
    let bends = passes.iter().map(|through| {
        let first = through
            .first()
            .and_then(|first| vertices[*first].above.first());
        let top = first.map_or(0, |above| layer[*above]);
        let bends = through.iter().enumerate();
        bends
            .map(|(place, index)| (top + 1 + place, centre(*index)))
            .collect()
    });
    Layout {
        bends: bends.collect(),
        centre: (0..boxes).map(centre).collect(),
        layer,
        width: end - start,
    }
}
