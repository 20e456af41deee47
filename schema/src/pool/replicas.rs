//! How many replicas there are, and what each takes.

use crate::{
    ByteSize, Diagnostic, Spanned, codes,
    decode::{Choice, Fields, block},
};
use std::time::Duration;

block! {
    /// What one replica takes of the machine.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Resources {
        /// Processor cores: a model computes on exactly as many threads, rounded up.
        pub cpu: f64 = option("cpu").at_least(0.0).or(1.0),
        /// Share of a GPU, or several whole ones.
        pub gpu: f64 = option("gpu").at_least(0.0).or(0.0),
        /// Memory; not accounted if absent.
        pub memory: Option<ByteSize> = option("memory").optional(),
    }
}

block! {
    /// How many replicas there are, and what moves that number.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Replicas {
        /// Fewest; 0 lets an unused node go.
        pub min: Spanned<u32> = option("min").or(1),
        /// Most; as `min` if absent, and at least 1.
        pub max: Spanned<u32> = option("max").at_least(1).optional().unwrap_or(Spanned {
            value: min.value.max(1),
            ..min
        }),
        /// How many at start; `min` if absent.
        pub initial: Option<Spanned<u32>> = option("initial").optional(),
        /// Which rule decides.
        pub policy: ScalePolicy = option("policy").or(ScalePolicy::default()),
        /// Items under way that one replica is meant to have.
        pub target_ongoing_requests: f64 = option("target-ongoing-requests")
            .at_least(0.01)
            .or(2.0),
        /// How long the load must ask for more before there is more.
        pub upscale_delay: Duration = option("upscale-delay").or(Duration::from_secs(30)),
        /// How long the load must ask for fewer before there are fewer.
        pub downscale_delay: Duration = option("downscale-delay").or(Duration::from_secs(600)),
        /// The same for the last replica, where `min` is 0; `downscale-delay` if absent.
        pub downscale_to_zero_delay: Option<Duration> = option("downscale-to-zero-delay").optional(),
        /// Multiplies each step up.
        pub upscaling_factor: f64 = option("upscaling-factor").at_least(0.01).or(1.0),
        /// Multiplies each step down.
        pub downscaling_factor: f64 = option("downscaling-factor").at_least(0.01).or(1.0),
        /// The stretch of time that load is averaged over.
        pub look_back: Duration = option("look-back")
            .at_least(Duration::from_millis(1))
            .or(Duration::from_secs(30)),
    }
}

/// Which rule decides the number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScalePolicy {
    /// Ours: tolerance, a stabilisation window, step limits.
    #[default]
    Steady,
    /// Ray Serve's own, to the bit.
    Ray,
}

impl Choice for ScalePolicy {
    const CHOICES: &'static [(&'static str, Self, &'static str)] = &[
        (
            "steady",
            ScalePolicy::Steady,
            "tolerance, a stabilisation window, step limits",
        ),
        ("ray", ScalePolicy::Ray, "Ray Serve's own, to the bit"),
    ];
}

impl Default for Resources {
    fn default() -> Self {
        Fields::defaults(Resources::fields)
    }
}

impl Default for Replicas {
    fn default() -> Self {
        Fields::defaults(Replicas::fields)
    }
}

impl Replicas {
    pub(super) fn read(f: &mut Fields) -> Self {
        let replicas = Self::fields(f);
        let (min, max) = (replicas.min, replicas.max);
        if min.value > max.value {
            f.report(|| {
                let message = "fewest replicas are more than most replicas";
                Diagnostic::error(codes::OUT_OF_RANGE, message, min.span)
                    .also(max.span, "the most")
                    .help("make `min` at most `max`")
            });
        }
        if let (Some(initial), true) = (replicas.initial, min.value <= max.value)
            && !(min.value..=max.value).contains(&initial.value)
        {
            f.report(|| {
                let message = format!("{} replicas at start are outside the limits", initial.value);
                Diagnostic::error(codes::OUT_OF_RANGE, message, initial.span)
                    .help(format!("write {} to {}", min.value, max.value))
            });
        }
        replicas
    }
}
