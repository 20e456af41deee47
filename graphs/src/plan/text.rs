//! A plan as people read it: a line for each part, what changes first to the eye.

use super::{Change, Counts, Handover, Plan, Step};
use schema::Rollout;
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = [
            ("listen", &self.listen),
            ("admin", &self.admin),
            ("server", &self.server),
        ];
        for (name, step) in own {
            if *step != Step::Keep {
                line(f, name, step)?;
            }
        }
        for (what, steps) in [("model", &self.models), ("index", &self.indexes)] {
            for (name, step) in steps {
                line(f, &format!("{what} {name}"), step)?;
            }
        }
        for graph in &self.graphs {
            line(f, &format!("graph {}", graph.id), &graph.step)?;
            for node in &graph.nodes {
                line(
                    f,
                    &format!("  {} {}", node.kind.name(), node.id),
                    &node.step,
                )?;
            }
            for node in &graph.stopped {
                line(f, &format!("  {node}"), &Step::Stop)?;
            }
        }
        for (graph, nodes) in &self.stopped {
            line(f, &format!("graph {graph}"), &Step::Stop)?;
            for node in nodes {
                line(f, &format!("  {node}"), &Step::Stop)?;
            }
        }
        match self.is_empty() {
            true => writeln!(f, "nothing changes")?,
            false => writeln!(f, "nodes: {}", self.counts())?,
        }
        match &self.rollout {
            Some(rollout) => writeln!(f, "rollout: {}", Way(rollout)),
            None => Ok(()),
        }
    }
}

/// A rollout in a few words.
struct Way<'a>(&'a Rollout);

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rollout::Canary(canary) => {
                let shares = canary.steps.iter().map(|step| step.share.to_string());
                let shares: Vec<_> = shares.collect();
                write!(f, "canary, {}", shares.join(", "))
            }
            Rollout::BlueGreen(_) => f.write_str("blue-green, waits for `engine promote`"),
            Rollout::Shadow(shadow) => write!(
                f,
                "shadow, {} of requests are copied, waits for `engine promote`",
                shadow.share
            ),
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, step: &Step) -> fmt::Result {
    let (word, changes) = match step {
        Step::Keep => ("keep", None),
        Step::Adjust(changes) => ("adjust", Some(changes)),
        Step::Start => ("start", None),
        Step::Replace { why, .. } => ("replace", Some(why)),
        Step::Stop => ("stop", None),
    };
    write!(f, "{word:<8} {what}")?;
    if let Some(changes) = changes {
        let changes: Vec<_> = changes.iter().map(Change::to_string).collect();
        write!(f, ": {}", changes.join(", "))?;
    }
    match step {
        Step::Replace { handover, .. } => writeln!(f, " ({handover})"),
        _ => writeln!(f),
    }
}

impl fmt::Display for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Handover::Overlap => "overlap",
            Handover::Pause => "pause",
        })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kept,
            adjusted,
            started,
            replaced,
            stopped,
        } = self;
        write!(
            f,
            "{kept} kept, {adjusted} adjusted, {started} started, {replaced} replaced, \
             {stopped} stopped"
        )
    }
}
