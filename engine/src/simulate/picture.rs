//! Panels with lines over one time axis, as SVG.

use std::fmt::{self, Write};

/// One panel.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) axis: Axis,
    pub(super) lines: Vec<Line>,
}

/// How the values of a panel are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// From 0 up.
    Linear,
    /// From 0 up in whole numbers.
    Whole,
    /// Seconds, by their logarithm: latencies differ by powers.
    Times,
}

/// Points over time: seconds, and a value.
pub(super) struct Line {
    name: &'static str,
    /// A class of the style sheet, which is its colour.
    colour: &'static str,
    points: Vec<(f64, f64)>,
    filled: bool,
    stepped: bool,
}

impl Line {
    pub(super) fn new(name: &'static str, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self {
            name,
            colour,
            points,
            filled: false,
            stepped: false,
        }
    }

    /// With what is below it filled.
    pub(super) fn area(name: &'static str, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self {
            filled: true,
            ..Self::new(name, colour, points)
        }
    }

    /// A value holds until the next.
    pub(super) fn stepped(self) -> Self {
        Self {
            stepped: true,
            ..self
        }
    }
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 56.0;
/// Height of a panel's drawing, and of what stands above it.
const HEIGHT: f64 = 110.0;
const HEAD: f64 = 44.0;
/// Room for the time axis.
const FOOT: f64 = 48.0;

/// Colours for light and dark, told apart by those who see few colours. Each is written out, since
/// few programs that draw pictures know variables.
const STYLE: &str = "\
.line { fill: none; stroke-width: 1.75; stroke-linejoin: round } .dashed { stroke-dasharray: 6 3 }\n\
.area { fill-opacity: 0.2; stroke: none }\n\
.page { fill: #ffffff } text { fill: #18181b } .soft { fill: #71717a } .rule { stroke: #e4e4e7 }\n\
.line.quiet { stroke: #a1a1aa } .line.good { stroke: #0369a1 } .line.warm { stroke: #d97706 } \
.line.bad { stroke: #be123c }\n\
.area.quiet { fill: #a1a1aa } .area.good { fill: #0369a1 } .area.warm { fill: #d97706 }\n\
@media (prefers-color-scheme: dark) {\n\
.page { fill: #18181b } text { fill: #f4f4f5 } .soft { fill: #a1a1aa } .rule { stroke: #3f3f46 }\n\
.line.quiet { stroke: #71717a } .line.good { stroke: #38bdf8 } .line.warm { stroke: #fbbf24 } \
.line.bad { stroke: #fb7185 }\n\
.area.quiet { fill: #71717a } .area.good { fill: #38bdf8 } .area.warm { fill: #fbbf24 }\n\
}";

/// Draws panels one below the other; `end` is the last second.
pub(super) fn draw(title: &str, end: f64, panels: &[Panel]) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut out, title, end.max(1e-3), panels);
    out
}

fn write_all(out: &mut String, title: &str, end: f64, panels: &[Panel]) -> fmt::Result {
    let height = TOP + panels.len() as f64 * (HEIGHT + HEAD) + FOOT;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"ui-sans-serif, system-ui, sans-serif\" font-size=\"12\">"
    )?;
    writeln!(
        out,
        "<title>{}</title>\n<style>{STYLE}</style>",
        escaped(title)
    )?;
    writeln!(out, "<rect class=\"page\" width=\"100%\" height=\"100%\"/>")?;
    writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"34\" font-size=\"18\" font-weight=\"600\">{}</text>",
        escaped(title)
    )?;
    for (index, panel) in panels.iter().enumerate() {
        let top = TOP + index as f64 * (HEIGHT + HEAD) + HEAD;
        panel.write(out, top, end)?;
    }
    let foot = TOP + panels.len() as f64 * (HEIGHT + HEAD);
    let (step, count) = ticks(end, 10.0);
    for tick in 0..=count {
        let second = tick as f64 * step;
        writeln!(
            out,
            "<text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
            across(second, end),
            foot + 20.0,
            number(second)
        )?;
    }
    writeln!(out, "</svg>")
}

fn across(second: f64, end: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * second / end
}

/// Where a value stands between the bottom and the top of a panel.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    /// From 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let share = match self.logarithmic {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        share.clamp(0.0, 1.0)
    }
}

impl Panel {
    fn write(&self, out: &mut String, top: f64, end: f64) -> fmt::Result {
        let (scale, marks) = self.scale();
        let bottom = top + HEIGHT;
        let up = |value: f64| bottom - HEIGHT * scale.place(value);
        writeln!(
            out,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"600\">{}</text>",
            top - 12.0,
            escaped(&self.title)
        )?;
        self.write_legend(out, top - 12.0)?;
        for mark in marks {
            let y = up(mark);
            writeln!(
                out,
                "<path class=\"rule\" d=\"M{LEFT} {y:.1}H{:.1}\"/>\
                 <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                self.label(mark)
            )?;
        }
        for line in self.lines.iter().filter(|line| !line.points.is_empty()) {
            let path = line.path(|(second, value)| (across(second, end), up(value)));
            if line.filled {
                let first = across(line.points[0].0, end);
                let last = line
                    .points
                    .last()
                    .map_or(first, |(second, _)| across(*second, end));
                let colour = line.colour;
                writeln!(
                    out,
                    "<path class=\"area {colour}\" d=\"{path}L{last:.1} {bottom:.1}L{first:.1} {bottom:.1}Z\"/>"
                )?;
            }
            writeln!(out, "<path class=\"line {}\" d=\"{path}\"/>", line.colour)?;
        }
        Ok(())
    }

    /// The names of the lines, at the right, the last one outermost.
    fn write_legend(&self, out: &mut String, y: f64) -> fmt::Result {
        let mut right = WIDTH - RIGHT;
        for line in self.lines.iter().rev() {
            let width = line.name.len() as f64 * 7.0;
            writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>\
                 <path class=\"line {}\" d=\"M{:.1} {:.1}h18\"/>",
                right,
                line.name,
                line.colour,
                right - width - 26.0,
                y - 4.0
            )?;
            right -= width + 46.0;
        }
        Ok(())
    }

    fn label(&self, mark: f64) -> String {
        match self.axis {
            Axis::Linear | Axis::Whole => number(mark),
            Axis::Times if mark < 1e-3 => format!("{} us", number(mark * 1e6)),
            Axis::Times if mark < 1.0 => format!("{} ms", number(mark * 1e3)),
            Axis::Times => format!("{} s", number(mark)),
        }
    }

    /// The scale, and the values that are marked.
    fn scale(&self) -> (Scale, Vec<f64>) {
        let values = || self.lines.iter().flat_map(|line| &line.points);
        let high = values().map(|(_, value)| *value).fold(0.0, f64::max);
        if self.axis == Axis::Times {
            let positive = values()
                .map(|(_, value)| *value)
                .filter(|value| *value > 0.0);
            let low = positive.fold(f64::INFINITY, f64::min);
            return decades(low, high);
        }
        let least = if self.axis == Axis::Whole { 1.0 } else { 1e-9 };
        let (mut step, mut count) = ticks(high.max(least), 4.0);
        if self.axis == Axis::Whole && step < 1.0 {
            (step, count) = (1.0, high.max(1.0).ceil() as u32);
        }
        // Up to the mark above the highest value.
        if f64::from(count) * step < high {
            count += 1;
        }
        let scale = Scale {
            low: 0.0,
            high: f64::from(count) * step,
            logarithmic: false,
        };
        let marks = (0..=count).map(|tick| f64::from(tick) * step);
        (scale, marks.collect())
    }
}

/// Powers of ten around what is shown.
fn decades(low: f64, high: f64) -> (Scale, Vec<f64>) {
    let (low, high) = match low.is_finite() {
        true => (low.log10().floor() as i32, high.log10().ceil() as i32),
        // Nothing is shown.
        false => (-3, 0),
    };
    let high = high.max(low + 1);
    let scale = Scale {
        low: 10_f64.powi(low),
        high: 10_f64.powi(high),
        logarithmic: true,
    };
    (
        scale,
        (low..=high).map(|power| 10_f64.powi(power)).collect(),
    )
}

impl Line {
    fn path(&self, place: impl Fn((f64, f64)) -> (f64, f64)) -> String {
        let mut path = String::new();
        let mut before: Option<(f64, f64)> = None;
        for point in &self.points {
            let (x, y) = place(*point);
            // Writing to a string does not fail. Points on a level line say nothing new.
            let _ = match before {
                None => write!(path, "M{x:.1} {y:.1}"),
                Some(_) if self.stepped => write!(path, "H{x:.1}V{y:.1}"),
                Some(_) => write!(path, "L{x:.1} {y:.1}"),
            };
            before = Some((x, y));
        }
        path
    }
}

/// A round step that cuts `0..high` into about `parts`, and how many steps fit.
fn ticks(high: f64, parts: f64) -> (f64, u32) {
    let raw = high / parts;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(power * 10.0);
    (step, (high / step + 1e-9).floor() as u32)
}

/// A number without the dust of binary fractions.
fn number(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    format!("{rounded}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
