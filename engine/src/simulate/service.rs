//! How long nodes take: the model that stands for the real work.
//!
//! A batch takes a fixed time, a time for each item and a time for each unit of cost. Where a
//! replica runs single items side by side, the items are those that it holds when one begins.

use super::Scenario;
use graphs::GraphNode;
use nodes::Running;
use schema::{Kind, Work, kind::Backend};
use std::{fmt, str::FromStr, time::Duration};

/// What is assumed of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumed {
    /// How long a batch takes.
    pub service: ServiceTime,
    /// How long a replica takes from its order until it can work.
    pub startup: Duration,
    /// What an item costs, from the least to the most; every cost between them is as likely.
    pub cost: (u64, u64),
    /// For a node with `each`: how many elements there are.
    pub each: u32,
    /// The share of requests for which it runs, from 0 to 1.
    pub share: f64,
}

/// How long a batch takes. Written as a sum: `20ms + 2ms/item + 30us/cost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceTime {
    /// However large it is.
    pub fixed: Duration,
    /// For each item.
    pub per_item: Duration,
    /// For each unit of cost, which is a token for models.
    pub per_cost: Duration,
}

/// A service time that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} is no part of a service time; write a sum such as 20ms+2ms/item+30us/cost")]
pub struct BadServiceTime {
    part: String,
}

impl Assumed {
    /// What is assumed of a node if nobody says otherwise: round figures that are plausible for a
    /// small model on a few cores. Measure, and say what you found.
    pub fn default_for(node: &GraphNode) -> Self {
        let milliseconds = Duration::from_millis;
        let (fixed, per_item, startup) = match node.decl.work.kind() {
            Kind::Embed => (5, 2, 2000),
            Kind::Rerank => (5, 10, 2000),
            Kind::Generate => (500, 50, 3000),
            Kind::Infer => (20, 2, 100),
            Kind::Python => (10, 1, 1000),
            Kind::Http => (50, 0, 100),
            Kind::Search => (2, 0, 100),
            Kind::Split => (1, 0, 100),
            Kind::Template | Kind::Switch | Kind::Merge => (0, 0, 0),
        };
        Self {
            service: ServiceTime {
                fixed: milliseconds(fixed),
                per_item: milliseconds(per_item),
                per_cost: Duration::ZERO,
            },
            startup: milliseconds(startup),
            cost: (1, 1),
            each: 1,
            share: 1.0,
        }
    }
}

/// How the replicas of a node will run: a model that computes takes a batch at a time, a service or
/// a decoder single items side by side.
pub(super) fn running(work: &Work) -> Running {
    let remote = |backend: &Backend| matches!(backend, Backend::Remote(_));
    let many = match work {
        Work::Embed(work) => remote(&work.backend),
        Work::Rerank(work) => remote(&work.backend),
        Work::Python(_) => false,
        _ => true,
    };
    match many {
        true => Running::ManyItems,
        false => Running::OneBatch,
    }
}

/// What was assumed although the file makes a difference of it, in words.
pub(super) fn unstated(scenario: &Scenario<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for ((_, node), assumed) in scenario.graph.nodes().zip(scenario.assumed) {
        if node.decl.work.is_inline() {
            continue;
        }
        let name = node.decl.id.value.as_str();
        let batch = node.decl.pool.batch.as_ref();
        if batch.is_some_and(|batch| batch.max_cost.is_some()) && assumed.cost == (1, 1) {
            notes.push(format!(
                "every item of `{name}` costs 1; --cost says otherwise"
            ));
        }
        if node.each.is_some() && assumed.each == 1 {
            notes.push(format!(
                "the list of `{name}` has 1 element; --each says otherwise"
            ));
        }
        if node.when.is_some() && assumed.share >= 1.0 {
            notes.push(format!(
                "`{name}` runs for every request; --share says otherwise"
            ));
        }
    }
    notes
}

impl ServiceTime {
    /// How long a batch takes.
    pub fn of(&self, items: usize, cost: u64) -> Duration {
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let parts = [
            self.per_item.saturating_mul(items),
            self.per_cost.saturating_mul(cost),
        ];
        parts.into_iter().fold(self.fixed, Duration::saturating_add)
    }
}

impl FromStr for ServiceTime {
    type Err = BadServiceTime;

    fn from_str(text: &str) -> Result<Self, BadServiceTime> {
        let mut time = Self::default();
        for part in text.split('+').map(str::trim) {
            let (length, of) = part.split_once('/').unwrap_or((part, ""));
            let term = match of.trim() {
                "" if !part.contains('/') => &mut time.fixed,
                "item" => &mut time.per_item,
                "cost" | "token" => &mut time.per_cost,
                _ => {
                    return Err(BadServiceTime {
                        part: part.to_owned(),
                    });
                }
            };
            let length = duration(length.trim());
            // A second term of a kind is more likely a slip than a sum.
            *term = length
                .filter(|_| term.is_zero())
                .ok_or_else(|| BadServiceTime {
                    part: part.to_owned(),
                })?;
        }
        Ok(time)
    }
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = [
            (self.fixed, ""),
            (self.per_item, "/item"),
            (self.per_cost, "/cost"),
        ];
        let mut plus = "";
        for (length, of) in terms.into_iter().filter(|(length, _)| !length.is_zero()) {
            write!(f, "{plus}{}{of}", written(length))?;
            plus = " + ";
        }
        match plus {
            "" => write!(f, "0s"),
            _ => Ok(()),
        }
    }
}

/// Units of time and their seconds, as the language has them.
const UNITS: [(&str, f64); 6] = [
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3_600.0),
    ("d", 86_400.0),
];

/// A duration as it is written in a file: a number and a unit.
pub fn duration(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    // Longer ones are mistakes, and sums of times must not overflow.
    let length = Some(number * seconds).filter(|length| *length <= 3_660.0 * 86_400.0)?;
    Some(Duration::from_nanos((length * 1e9).round() as u64))
}

/// A duration as [`duration`] reads it, in the largest unit of which it is a whole number.
pub(super) fn written(length: Duration) -> String {
    let nanos = length.as_nanos();
    let whole = UNITS.iter().rev().find_map(|(unit, seconds)| {
        let unit_nanos = (seconds * 1e9) as u128;
        let whole = nanos > 0 && nanos.is_multiple_of(unit_nanos);
        whole.then(|| format!("{}{unit}", nanos / unit_nanos))
    });
    whole.unwrap_or_else(|| format!("{}s", length.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_time_is_read_and_written() {
        for (text, shown) in [
            ("20ms", "20ms"),
            ("20ms+2ms/item", "20ms + 2ms/item"),
            (
                "1.5s + 30us/token + 2ms/item",
                "1500ms + 2ms/item + 30us/cost",
            ),
            ("0s", "0s"),
        ] {
            let time: ServiceTime = text.parse().unwrap();
            assert_eq!(time.to_string(), shown);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }

    #[test]
    fn what_is_no_service_time_is_refused() {
        for text in [
            "", "20", "20ms+", "2ms/page", "20ms+2ms", "-1ms", "1e9d", "5/item",
        ] {
            assert!(text.parse::<ServiceTime>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_batch_takes_the_sum() {
        let time: ServiceTime = "20ms+2ms/item+10us/cost".parse().unwrap();
        assert_eq!(time.of(8, 100), Duration::from_millis(37));
    }
}
