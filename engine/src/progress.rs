//! Bars on a terminal, a line now and then elsewhere, for work that takes long.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nodes::source::{Progress, Transfer};
use std::io::IsTerminal;

/// Shows how far long work is, on standard error.
#[derive(Debug, Clone)]
pub struct Bars {
    bars: MultiProgress,
    terminal: bool,
}

impl Default for Bars {
    fn default() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = match terminal {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            terminal,
        }
    }
}

const BYTES: &str = "{prefix:>14} {wide_bar} {bytes:>10} / {total_bytes:<10} {eta:>4}";
const COUNT: &str = "{prefix:>14} {wide_bar} {pos:>7} / {len:<7} {eta:>4}";
const UNKNOWN: &str = "{prefix:>14} {spinner} {bytes}";

impl Bars {
    /// A bar for counted things.
    pub fn count(&self, name: &str, total: u64) -> ProgressBar {
        self.bar(name, Some(total), COUNT)
    }

    fn bar(&self, name: &str, total: Option<u64>, template: &str) -> ProgressBar {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let bar = self.bars.add(bar);
        let template = if total.is_some() { template } else { UNKNOWN };
        // A template that does not parse would be a mistake above; the default style still shows.
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        bar
    }
}

impl Progress for Bars {
    fn start(&self, name: &str, total: Option<u64>) -> Box<dyn Transfer> {
        if !self.terminal {
            let mib = total.map(|bytes| bytes.div_ceil(1 << 20));
            tracing::info!(name, mib, "fetching");
        }
        Box::new(Bar(self.bar(name, total, BYTES)))
    }
}

struct Bar(ProgressBar);

impl Transfer for Bar {
    fn at(&mut self, bytes: u64) {
        self.0.set_position(bytes);
    }

    fn finish(self: Box<Self>) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
