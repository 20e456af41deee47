//! `policy "steady"`, the default: the same wish as Ray Serve's, acted on with more calm.
//!
//! - *Tolerance*: a load within a tenth of what the replicas are meant to carry changes nothing.
//! - *Stabilisation window*, as Kubernetes' horizontal autoscaler has it: the step up is the smallest
//!   wish of the last `upscale-delay`, the step down the largest of the last `downscale-delay`, so a
//!   spike starts nothing and a short lull stops nothing. Ray's rule starts its delay anew whenever
//!   the wish touches the target for a moment, and a load that swings never moves it.
//! - *Step limits*: at most twice the replicas, or half of them, in one decision; the window starts
//!   anew then, so that the next step is judged by what the last one did.
//! - *From zero*, as many start at once as the waiting items ask for.

use super::decide::{Load, bounded};
use schema::Replicas;
use std::{collections::VecDeque, time::Duration};

/// Share of the meant load by which the actual load may differ without consequence.
const TOLERANCE: f64 = 0.1;

/// The wishes of the longest delay, thinned to what can still matter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    /// Each smaller than all after it: the first is the smallest of the window.
    smallest: VecDeque<(Duration, u32)>,
    /// Each larger than all after it: the first is the largest of the window.
    largest: VecDeque<(Duration, u32)>,
    /// When the first wish was seen.
    since: Option<Duration>,
}

impl Window {
    fn see(&mut self, now: Duration, wish: u32, spec: &Replicas) {
        self.since.get_or_insert(now);
        while self.smallest.back().is_some_and(|(_, last)| *last >= wish) {
            self.smallest.pop_back();
        }
        while self.largest.back().is_some_and(|(_, last)| *last <= wish) {
            self.largest.pop_back();
        }
        self.smallest.push_back((now, wish));
        self.largest.push_back((now, wish));
        forget(&mut self.smallest, now, spec.upscale_delay);
        let longest = spec.downscale_to_zero_delay.unwrap_or_default();
        forget(&mut self.largest, now, longest.max(spec.downscale_delay));
    }

    /// Whether wishes have been seen for the whole of `delay`.
    fn covers(&self, now: Duration, delay: Duration) -> bool {
        self.since
            .is_some_and(|since| now.saturating_sub(since) >= delay)
    }

    /// The largest wish of the last `delay`.
    fn largest_within(&self, now: Duration, delay: Duration) -> u32 {
        let recent = self
            .largest
            .iter()
            .filter(|(at, _)| now.saturating_sub(*at) <= delay);
        recent.map(|(_, wish)| *wish).max().unwrap_or(0)
    }
}

/// Drops wishes that are older than `delay`.
fn forget(wishes: &mut VecDeque<(Duration, u32)>, now: Duration, delay: Duration) {
    while wishes
        .front()
        .is_some_and(|(at, _)| now.saturating_sub(*at) > delay)
    {
        wishes.pop_front();
    }
}

/// One decision.
pub fn decide(spec: &Replicas, window: &mut Window, load: Load, now: Duration) -> u32 {
    let wish = wish(spec, load);
    if load.target == 0 {
        // Nothing runs, and what waits should not wait for a delay on top.
        *window = Window::default();
        return bounded(spec, wish);
    }
    window.see(now, wish, spec);
    let next = next(spec, window, load.target, now);
    if next != load.target {
        *window = Window::default();
    }
    bounded(spec, next)
}

fn next(spec: &Replicas, window: &Window, target: u32, now: Duration) -> u32 {
    if window.covers(now, spec.upscale_delay) {
        let lasting = window.smallest.front().map_or(target, |(_, wish)| *wish);
        if lasting > target {
            return lasting.min(target.saturating_mul(2));
        }
    }
    if window.covers(now, spec.downscale_delay) {
        let lasting = window.largest_within(now, spec.downscale_delay);
        if lasting < target && target > 1 {
            return lasting.max(target / 2).max(1);
        }
    }
    let to_zero = spec.downscale_to_zero_delay.unwrap_or(spec.downscale_delay);
    if target == 1 && window.covers(now, to_zero) && window.largest_within(now, to_zero) == 0 {
        return 0;
    }
    target
}

/// How many replicas the load asks for.
fn wish(spec: &Replicas, load: Load) -> u32 {
    let exact = load.total / spec.target_ongoing_requests;
    let target = f64::from(load.target);
    if load.total > 0.0 && load.target > 0 && (exact / target - 1.0).abs() <= TOLERANCE {
        return load.target;
    }
    let factor = match exact > target {
        true => spec.upscaling_factor,
        false => spec.downscaling_factor,
    };
    let moved = target + factor * (exact - target);
    // Just above a whole number is rounding, not load.
    let wish = (moved - 1e-9).ceil().max(0.0) as u32;
    if load.total > 0.0 { wish.max(1) } else { wish }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::Spanned;

    fn spec(min: u32, max: u32) -> Replicas {
        let count = |value| Spanned {
            value,
            ..Spanned::default()
        };
        Replicas {
            min: count(min),
            max: count(max),
            upscale_delay: Duration::from_secs(3),
            downscale_delay: Duration::from_secs(10),
            ..Replicas::default()
        }
    }

    /// Runs one decision a second over a load and returns `(second, replicas)` at each change.
    fn run(spec: &Replicas, seconds: u64, load: impl Fn(u64) -> f64) -> Vec<(u64, u32)> {
        let mut window = Window::default();
        let mut target = spec.min.value;
        let mut changes = Vec::new();
        for second in 0..seconds {
            let load = Load {
                running: target,
                target,
                total: load(second),
            };
            let next = decide(spec, &mut window, load, Duration::from_secs(second));
            if next != target {
                changes.push((second, next));
                target = next;
            }
        }
        changes
    }

    #[test]
    fn steps_up_after_the_delay_and_down_after_its_own() {
        let changes = run(&spec(1, 10), 80, |t| if t < 30 { 8.0 } else { 1.0 });
        assert_eq!(changes, [(3, 2), (7, 4), (40, 2), (51, 1)]);
    }

    #[test]
    fn a_spike_starts_nothing_and_a_lull_stops_nothing() {
        assert_eq!(
            run(&spec(1, 10), 30, |t| if t == 5 { 50.0 } else { 2.0 }),
            []
        );
        assert_eq!(
            run(&spec(2, 10), 60, |t| if t % 8 == 0 { 0.0 } else { 4.0 }),
            []
        );
    }

    #[test]
    fn a_swinging_load_gets_what_its_valleys_need() {
        // Between 12 and 30 items: Ray's rule never moves, because each valley resets its delay.
        let changes = run(&spec(1, 20), 20, |t| if t % 2 == 0 { 30.0 } else { 12.0 });
        assert_eq!(changes, [(3, 2), (7, 4), (11, 6)]);
    }

    #[test]
    fn a_load_within_the_tolerance_changes_nothing() {
        assert_eq!(run(&spec(10, 20), 30, |_| 21.5), []);
        assert!(!run(&spec(10, 20), 30, |_| 23.0).is_empty());
    }

    #[test]
    fn zero_and_back() {
        let spec = Replicas {
            downscale_to_zero_delay: Some(Duration::from_secs(5)),
            ..spec(0, 10)
        };
        let changes = run(&spec, 40, |t| if (20..22).contains(&t) { 7.0 } else { 0.0 });
        // Seven waiting items start four replicas at once; each halving judges a window of its own.
        assert_eq!(changes, [(20, 4), (32, 2)]);
        let changes = run(&spec, 80, |t| if (20..22).contains(&t) { 7.0 } else { 0.0 });
        assert_eq!(changes, [(20, 4), (32, 2), (43, 1), (49, 0)]);
    }

    #[test]
    fn bounds_hold_whatever_the_load() {
        for total in [0.0, 1.0, 1e9] {
            for (_, replicas) in run(&spec(2, 5), 200, |_| total) {
                assert!((2..=5).contains(&replicas));
            }
        }
    }
}
