//! `policy "ray"`: Ray Serve 2.60's own rule, equal to it to the bit, its rounding included.
//!
//! Asks for the replicas that bring the load of each to `target-ongoing-requests`, and acts once the
//! wish has pointed one way for the whole of a delay. `golden/ray-autoscaling.json` holds the
//! original's outputs.

use super::decide::{Load, bounded};
use schema::Replicas;

/// How long the wish has pointed one way.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Streak {
    direction: Direction,
    /// Seconds at which it began.
    since: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Direction {
    #[default]
    None,
    Up,
    Down,
}

impl Streak {
    /// Notes that the wish points `direction` at `now`, and says since when it has.
    fn follow(&mut self, direction: Direction, now: f64) -> f64 {
        if self.direction != direction {
            self.direction = direction;
            self.since = None;
        }
        *self.since.get_or_insert(now)
    }
}

/// Tolerance of the original when it compares a time passed with a delay, in seconds.
const CLOCK_SLACK: f64 = 1e-6;

/// One decision; `now` in seconds.
pub fn decide(spec: &Replicas, streak: &mut Streak, load: Load, now: f64) -> u32 {
    let target = load.target;
    if load.running == 0 && load.total > 0.0 {
        // A cold start does not wait and leaves the streak as it is.
        let first = spec.upscaling_factor.ceil() as u32;
        return bounded(spec, first.max(target));
    }
    let wish = wish(spec, load);
    if load.running == 0 && wish > 0 {
        return bounded(spec, wish);
    }
    let out = match wish {
        wish if wish > target => {
            let since = streak.follow(Direction::Up, now);
            let due = now - since + CLOCK_SLACK >= spec.upscale_delay.as_secs_f64();
            due.then_some(wish)
        }
        wish if wish < target => {
            let last = target == 1;
            let delay = match spec.downscale_to_zero_delay {
                Some(delay) if last => delay,
                _ => spec.downscale_delay,
            };
            // The last replica is let go in a step of its own.
            let wish = if last { wish } else { wish.max(1) };
            let since = streak.follow(Direction::Down, now);
            let due = now - since + CLOCK_SLACK >= delay.as_secs_f64();
            due.then_some(wish)
        }
        _ => Some(target),
    };
    if out.is_some() {
        *streak = Streak::default();
    }
    bounded(spec, out.unwrap_or(target))
}

/// How many replicas the load asks for, before delays and bounds.
///
/// The order of operations is the original's, because float rounding depends on it: a load of 29
/// times the target on seven replicas asks for 30.
pub fn wish(spec: &Replicas, load: Load) -> u32 {
    let running = f64::from(load.running);
    if load.running == 0 {
        return load.target;
    }
    let desired = running * (load.total / (spec.target_ongoing_requests * running));
    let delta = desired - running;
    let factor = match delta > 0.0 {
        true => spec.upscaling_factor,
        false => spec.downscaling_factor,
    };
    let mut smoothed = (running + factor * delta).ceil();
    if desired.ceil() < running && smoothed == running {
        // A small factor must not keep a replica that is not needed.
        smoothed -= 1.0;
    }
    smoothed.max(0.0) as u32
}

/// How points of several series are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// Weighted by time.
    Mean,
    /// The largest point.
    Max,
    /// The smallest point.
    Min,
}

/// Brings time series of several reporters, `(seconds, value)` each, together to one value: their
/// sum as a step function over time, aggregated over the window in which all of them report.
pub fn aggregate(series: &[Vec<(f64, f64)>], how: Aggregation, now: f64) -> f64 {
    let series: Vec<_> = series.iter().filter(|points| !points.is_empty()).collect();
    let (points, start) = match series.as_slice() {
        [] => return 0.0,
        [only] => ((*only).clone(), f64::NEG_INFINITY),
        several => {
            let firsts = several.iter().map(|points| points[0].0);
            (merged(several), firsts.fold(f64::NEG_INFINITY, f64::max))
        }
    };
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return 0.0;
    };
    // Before the latest of the firsts, a reporter is missing from the sum.
    let start = if start <= last.0 {
        start.max(first.0)
    } else {
        first.0
    };
    let end = now.max(last.0 + 0.001);
    // The original's extremes look at the points inside the window, not at the value that holds when
    // it begins.
    let inside = points
        .iter()
        .filter(|(time, _)| (start..=end).contains(time));
    let inside = inside.map(|(_, value)| *value);
    match how {
        Aggregation::Mean => mean(&points, start, end),
        Aggregation::Max => inside.fold(f64::NEG_INFINITY, f64::max),
        Aggregation::Min => inside.fold(f64::INFINITY, f64::min),
    }
}

/// The sum of the series as a right-continuous step function.
fn merged(series: &[&Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let mut deltas: Vec<(f64, f64)> = Vec::new();
    for points in series {
        let mut before = 0.0;
        for (time, value) in points.iter() {
            let delta = value - before;
            if delta != 0.0 {
                // Reporters' clocks agree to about ten milliseconds.
                let time = (time * 100.0 + 0.5).floor() / 100.0;
                deltas.push((time, delta));
                before = *value;
            }
        }
    }
    deltas.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut sum = 0.0;
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for (time, delta) in deltas {
        sum += delta;
        match steps.last_mut() {
            Some(last) if last.0 == time => last.1 = sum,
            _ => steps.push((time, sum)),
        }
    }
    steps
}

/// The mean of a step function over `start..end`, weighted by time.
fn mean(points: &[(f64, f64)], start: f64, end: f64) -> f64 {
    let (mut area, mut length) = (0.0, 0.0);
    for (index, (time, value)) in points.iter().enumerate() {
        let from = time.max(start);
        let until = points.get(index + 1).map_or(end, |next| next.0).min(end);
        if until > from {
            area += value * (until - from);
            length += until - from;
        }
    }
    if length > 0.0 { area / length } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::{ScalePolicy, Spanned};
    use serde_json::Value;
    use std::time::Duration;

    fn golden() -> Value {
        serde_json::from_str(include_str!("golden/ray-autoscaling.json")).unwrap()
    }

    fn spec(cfg: &Value) -> Replicas {
        let number = |key: &str, default: f64| cfg[key].as_f64().unwrap_or(default);
        let count = |key: &str| Spanned {
            value: number(key, 1.0) as u32,
            ..Spanned::default()
        };
        let seconds = |key: &str, default: f64| Duration::from_secs_f64(number(key, default));
        Replicas {
            min: count("min_replicas"),
            max: count("max_replicas"),
            policy: ScalePolicy::Ray,
            target_ongoing_requests: number("target_ongoing_requests", 2.0),
            upscale_delay: seconds("upscale_delay_s", 30.0),
            downscale_delay: seconds("downscale_delay_s", 600.0),
            downscale_to_zero_delay: cfg["downscale_to_zero_delay_s"]
                .as_f64()
                .map(Duration::from_secs_f64),
            upscaling_factor: number("upscaling_factor", 1.0),
            downscaling_factor: number("downscaling_factor", 1.0),
            ..Replicas::default()
        }
    }

    #[test]
    fn every_step_equals_the_original() {
        for case in golden()["step"].as_array().unwrap() {
            let load = Load {
                running: case["current"].as_u64().unwrap() as u32,
                target: case["target"].as_u64().unwrap() as u32,
                total: case["total"].as_f64().unwrap(),
            };
            let got = decide(&spec(&case["cfg"]), &mut Streak::default(), load, 0.0);
            assert_eq!(u64::from(got), case["bounded"].as_u64().unwrap(), "{case}");
        }
    }

    #[test]
    fn every_aggregate_equals_the_original() {
        for case in golden()["aggregate"].as_array().unwrap() {
            let series: Vec<Vec<(f64, f64)>> =
                serde_json::from_value(case["series"].clone()).unwrap();
            let how = match case["fn"].as_str().unwrap() {
                "mean" => Aggregation::Mean,
                "max" => Aggregation::Max,
                _ => Aggregation::Min,
            };
            let got = aggregate(&series, how, case["now"].as_f64().unwrap());
            assert_eq!(
                got.to_bits(),
                case["value"].as_f64().unwrap().to_bits(),
                "{got} {case}"
            );
        }
    }

    #[test]
    fn every_trace_equals_the_original() {
        for trace in golden()["trace"].as_array().unwrap() {
            let number = |key: &str| trace[key].as_f64().unwrap();
            let load: fn(f64) -> f64 = match trace["load"].as_str().unwrap() {
                "20 for 10<=t<60 else 0" => |t| if (10.0..60.0).contains(&t) { 20.0 } else { 0.0 },
                _ => |t| if t % 8.0 < 4.0 { 30.0 } else { 1.0 },
            };
            let events = run(
                &spec(&trace["cfg"]),
                load,
                number("dt"),
                number("T"),
                number("lag"),
            );
            let wanted: Vec<(f64, u32)> = serde_json::from_value(trace["events"].clone()).unwrap();
            assert_eq!(events, wanted, "{}", trace["name"]);
        }
    }

    /// The closed loop of the traces: a replica that is asked for runs `lag` seconds later, one that
    /// is let go is gone at once.
    fn run(spec: &Replicas, load: fn(f64) -> f64, dt: f64, end: f64, lag: f64) -> Vec<(f64, u32)> {
        let mut streak = Streak::default();
        let mut target = spec.min.value;
        let mut events = vec![(0.0, target)];
        let mut started = vec![-lag; target as usize];
        for step in 0..(end / dt).round() as u32 {
            let now = f64::from(step) * dt;
            let running = started
                .iter()
                .filter(|start| now - **start >= lag - 1e-9)
                .count();
            let load = Load {
                running: running as u32,
                target,
                total: load((now * 10.0).round() / 10.0),
            };
            let next = decide(spec, &mut streak, load, now);
            if next != target {
                events.push(((now * 10.0).round() / 10.0, next));
                started.resize(next as usize, now);
                target = next;
            }
        }
        events
    }
}
