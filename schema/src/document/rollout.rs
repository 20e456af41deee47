//! `rollout`: how a generation comes to be served after another.
//!
//! It belongs to `server` because a generation is all graphs of a file at once: a request that one
//! graph answers by the new file, and the next request that another answers by the old one, would
//! see a state that nobody has written.

use crate::{
    Diagnostic, Share, Spanned, codes,
    decode::{Fields, block},
    pool::Percentile,
    syntax::shorten,
};
use std::time::Duration;

/// How a generation comes to be served after another.
#[derive(Debug, Clone, PartialEq)]
pub enum Rollout {
    /// A growing share of requests gets it, as long as it does well.
    Canary(Canary),
    /// It is started and waits to be promoted by hand.
    BlueGreen(BlueGreen),
    /// It gets copies of requests, and its answers are only compared.
    Shadow(Shadow),
}

block! {
    /// A growing share of requests gets the next generation, as long as it does not fail more often
    /// and is not slower than the one before.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Canary {
        /// A share of requests and how long it is kept up, in ascending order; 5%, 25% and 50% if
        /// absent. After the last one all requests get the next generation.
        pub steps: Vec<CanaryStep> = blocks("step", CanaryStep::fields),
        /// A header: requests with the same value of it get the same generation.
        pub sticky: Option<Spanned<String>> = option("sticky").optional(),
        /// How much larger than before the share of failed requests may be, in percentage points.
        pub max_errors: Share = option("max-errors").at_most(Share(1.0)).or(Share(0.01)),
        /// How much longer than before requests may take, at the percentile.
        pub max_slowdown: Share = option("max-slowdown").or(Share(0.25)),
        /// The percentile of durations that is compared.
        pub percentile: f64 = then(Canary::percentile),
    }
}

block! {
    /// A share of requests, and how long it is kept up.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CanaryStep {
        /// The share.
        pub share: Spanned<Share> = argument("share").required(),
        /// How long at least.
        pub interval: Duration = option("interval").or(Duration::from_secs(60)),
        /// How many requests the next generation must have answered in this step.
        pub min_requests: u32 = option("min-requests").or(100),
    }
}

block! {
    /// The next generation is started and waits: `engine promote` has all requests get it,
    /// `engine abort` ends it. Requests with the header `x-engine-generation: next` get it before.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BlueGreen {
        /// How long the generation before stays started after that, so that `engine rollback` takes
        /// no time.
        pub keep: Duration = option("keep").or(Duration::from_secs(600)),
    }
}

block! {
    /// The next generation gets copies of requests. Its answers are compared with those of the
    /// generation before and go nowhere; it waits as with `blue-green`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Shadow {
        /// The share of requests that is copied.
        pub share: Share = option("share").at_most(Share(1.0)).or(Share(0.1)),
        /// How many copies are under way at once; a further one is left out.
        pub max_ongoing_requests: u32 = option("max-ongoing-requests").at_least(1).or(16),
    }
}

impl Default for CanaryStep {
    fn default() -> Self {
        Fields::defaults(CanaryStep::fields)
    }
}

impl Default for BlueGreen {
    fn default() -> Self {
        Fields::defaults(BlueGreen::fields)
    }
}

impl Default for Shadow {
    fn default() -> Self {
        Fields::defaults(Shadow::fields)
    }
}

impl Default for Canary {
    fn default() -> Self {
        Fields::defaults(Canary::read)
    }
}

impl Rollout {
    pub(super) fn read(f: &mut Fields) -> Self {
        f.about("How a changed file comes to be served: in one of these ways.");
        f.exactly_one(&[&["canary"], &["blue-green"], &["shadow"]]);
        let canary: Option<Canary> = f
            .doc("A growing share of requests gets it, as long as it does well.")
            .block("canary", Canary::read);
        let blue_green: Option<BlueGreen> = f
            .doc("It is started and waits to be promoted by hand.")
            .block("blue-green", BlueGreen::fields);
        let shadow: Option<Shadow> = f
            .doc("It gets copies of requests, and its answers are only compared.")
            .block("shadow", Shadow::fields);
        match (canary, blue_green, shadow) {
            (Some(canary), ..) => Rollout::Canary(canary),
            (None, Some(blue_green), _) => Rollout::BlueGreen(blue_green),
            (None, None, Some(shadow)) => Rollout::Shadow(shadow),
            // Reported above.
            (None, None, None) => Rollout::BlueGreen(BlueGreen::default()),
        }
    }
}

impl Canary {
    fn percentile(f: &mut Fields) -> f64 {
        Percentile::named("percentile", f)
    }

    fn read(f: &mut Fields) -> Self {
        let mut canary = Self::fields(f);
        canary.check_sticky(f);
        canary.check_steps(f);
        if canary.steps.is_empty() {
            let usual = [0.05, 0.25, 0.5].map(|share| CanaryStep {
                share: Spanned::new(Share(share), f.head()),
                ..CanaryStep::default()
            });
            canary.steps = usual.into();
        }
        canary
    }

    fn check_sticky(&self, f: &mut Fields) {
        let token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let Some(header) = &self.sticky else { return };
        if header.is_empty() || !header.chars().all(token) {
            f.report(|| {
                let message = format!("\"{}\" is not the name of a header", shorten(header));
                Diagnostic::error(codes::UNKNOWN_VALUE, message, header.span)
                    .help("write one such as \"x-user-id\"")
            });
        }
    }

    /// Each step takes more requests than the one before, and none takes more than all.
    fn check_steps(&self, f: &mut Fields) {
        let mut before = 0.0;
        for step in &self.steps {
            let share = step.share;
            if share.value.0 <= before || share.value.0 > 1.0 {
                f.report(|| {
                    let message = format!("a step of {} cannot stand here", share.value);
                    Diagnostic::error(codes::OUT_OF_RANGE, message, share.span)
                        .help("steps ascend, and the largest is \"100%\"")
                });
            }
            before = share.value.0;
        }
    }
}
