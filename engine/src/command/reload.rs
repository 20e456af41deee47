//! `engine reload`, `rollback`, `promote` and `abort`: tell a running engine to change.

use super::{
    Failure,
    admin::{Admin, accepted},
};
use engine::reload::Outcome;

/// Have a running engine load its file again.
#[derive(Debug, clap::Args)]
pub struct Reload {
    #[command(flatten)]
    order: Order,
}

/// Have a running engine go back to an earlier generation.
#[derive(Debug, clap::Args)]
pub struct Rollback {
    /// The generation; the one before the current one if absent.
    generation: Option<u64>,
    #[command(flatten)]
    order: Order,
}

/// Have all requests get the generation that a rollout is about.
#[derive(Debug, clap::Args)]
pub struct Promote {
    #[command(flatten)]
    order: Order,
}

/// Give up the generation that a rollout is about.
#[derive(Debug, clap::Args)]
pub struct Abort {
    #[command(flatten)]
    order: Order,
}

/// Who is told, and how the outcome is printed.
#[derive(Debug, clap::Args)]
struct Order {
    #[command(flatten)]
    admin: Admin,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

impl Reload {
    pub fn execute(self) -> Result<(), Failure> {
        self.order.give("/reload")
    }
}

impl Rollback {
    pub fn execute(self) -> Result<(), Failure> {
        match self.generation {
            Some(generation) => self
                .order
                .give(&format!("/rollback?generation={generation}")),
            None => self.order.give("/rollback"),
        }
    }
}

impl Promote {
    pub fn execute(self) -> Result<(), Failure> {
        self.order.give("/promote")
    }
}

impl Abort {
    pub fn execute(self) -> Result<(), Failure> {
        self.order.give("/abort")
    }
}

impl Order {
    fn give(&self, path: &str) -> Result<(), Failure> {
        let outcome = self.admin.order(path)?;
        let generation = outcome.generation;
        if self.json {
            println!("{}", serde_json::to_string(&outcome).unwrap_or_default());
        } else if outcome.ok {
            print!("{}", in_words(&outcome));
        }
        accepted(&outcome, format!("generation {generation} goes on"))
    }
}

/// What was done, for people.
fn in_words(outcome: &Outcome) -> String {
    let Outcome {
        generation,
        nodes,
        rollout,
        millis,
        ..
    } = outcome;
    match (rollout.as_str(), nodes.as_str()) {
        ("", "") => format!("generation {generation}: nothing changes\n"),
        ("", nodes) => format!("generation {generation} in {millis} ms: {nodes}\n"),
        (rollout, "") => format!("{rollout}\ngeneration {generation} is served\n"),
        (rollout, nodes) => {
            format!("{rollout}\nnodes: {nodes}\ngeneration {generation} is served\n")
        }
    }
}
