//! The series of adapters, read where they are counted when somebody scrapes.
//!
//! Labels name the model and never an adapter: adapters are as many as customers.

use super::Shelves;
use arc_swap::ArcSwapOption;
use nodes::residency::{LOAD_TIMES, Snapshot};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use std::{fmt, sync::Arc};

/// The series of the adapters that are served.
#[derive(Debug, Default)]
pub struct Series(ArcSwapOption<Shelves>);

/// A number of a [`Snapshot`].
type Read = fn(&Snapshot) -> u64;

const COUNTERS: [(&str, &str, Read); 6] = [
    (
        "adapter_hits",
        "Requests that found their adapter in memory when they needed it",
        |of| of.hits,
    ),
    (
        "adapter_misses",
        "Requests that waited for their adapter, or were refused",
        |of| of.misses,
    ),
    ("adapter_loads", "Loads begun", |of| of.loads),
    ("adapter_load_failures", "Loads that failed", |of| {
        of.failures
    }),
    (
        "adapter_evictions",
        "Adapters that went to make room",
        |of| of.evictions,
    ),
    (
        "adapter_replacements",
        "Adapters whose files changed",
        |of| of.replacements,
    ),
];

const GAUGES: [(&str, &str, Read); 3] = [
    ("adapters_loaded", "Adapters that are held", |of| of.loaded),
    ("adapters_loading", "Loads under way", |of| of.loading),
    (
        "adapter_leases",
        "Requests that use an adapter at the moment",
        |of| of.leases,
    ),
];

impl Series {
    /// Shows these from now on.
    pub fn watch(&self, shelves: Arc<Shelves>) {
        self.0.store(Some(shelves));
    }
}

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(shelves) = self.0.load_full() else {
            return Ok(());
        };
        let models = shelves
            .loaded()
            .map(|(model, store)| (model, store.snapshot()));
        let models: Vec<_> = models.collect();
        if models.is_empty() {
            return Ok(());
        }
        for (name, help, read) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (model, snapshot) in &models {
                let labels = [("model", *model)];
                ConstCounter::new(read(snapshot)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, read) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (model, snapshot) in &models {
                let labels = [("model", *model)];
                ConstGauge::new(read(snapshot) as i64).encode(family.encode_family(&labels)?)?;
            }
        }
        bytes(&mut encoder, &models)?;
        load_seconds(&mut encoder, &models)
    }
}

fn bytes(encoder: &mut DescriptorEncoder<'_>, models: &[(&str, Snapshot)]) -> fmt::Result {
    let help = "Memory of the adapters that are held or still in use, in bytes";
    let mut family = encoder.encode_descriptor("adapter_bytes", help, None, MetricType::Gauge)?;
    for (model, snapshot) in models {
        let labels = [("model", *model)];
        ConstGauge::new(snapshot.bytes as i64).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn load_seconds(encoder: &mut DescriptorEncoder<'_>, models: &[(&str, Snapshot)]) -> fmt::Result {
    let (name, help) = ("adapter_load", "How long a load took");
    let kind = MetricType::Histogram;
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
    let bounds = LOAD_TIMES.iter().map(std::time::Duration::as_secs_f64);
    let bounds: Vec<f64> = bounds.chain([f64::INFINITY]).collect();
    for (model, snapshot) in models {
        let counts = snapshot.load_times;
        let buckets: Vec<_> = bounds.iter().copied().zip(counts).collect();
        let (sum, count) = (snapshot.load_time.as_secs_f64(), counts.iter().sum());
        let labels = [("model", *model)];
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)?;
    }
    Ok(())
}
