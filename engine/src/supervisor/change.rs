//! From a program to a generation that runs: what is new is started, what is old is let go of.

use super::{
    Done, HISTORY, Problems, Supervisor, capacity, rollout::Standby, sockets::Opened, texts,
};
use crate::{
    facts,
    startup::{self, StartupError},
    topology::{Before, Topology},
};
use graphs::{Plan, Program, plan::Step};
use nodes::{Catalog, StandardCatalog};
use schema::Name;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How a generation comes to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By the file's `rollout`.
    AsTheFileSays,
    /// To all requests.
    AtOnce,
}

/// A generation that is started and not served yet.
pub(super) struct Candidate {
    pub(super) topology: Arc<Topology>,
    pub(super) catalog: Arc<StandardCatalog>,
    pub(super) plan: Plan,
    pub(super) opened: Opened,
}

impl Supervisor {
    /// Starts what is new, publishes or begins a rollout, and lets go of what is old.
    pub(super) async fn change_to(
        &mut self,
        program: Arc<Program>,
        way: Way,
    ) -> Result<Done, Problems> {
        if way == Way::AsTheFileSays && self.rolls_out(&program) {
            return Ok(Done::default());
        }
        let running = self.front.topology();
        let plan = graphs::plan(running.program(), &program, capacity());
        if plan.is_empty() && self.rollout.is_none() {
            return Ok(Done::default());
        }
        // Whatever comes next, nothing else is in between.
        let (given_up, going) = self.make_way();
        if plan.is_empty() {
            return Ok(Done {
                plan: None,
                rollout: given_up,
            });
        }
        let opened = self.open(&plan, &program).await?;
        self.refuse(&plan, &program, (way, &opened))?;
        let catalog = self.catalog_for(&program, &plan);
        let built = startup::build_indexes(&catalog, &self.bars).await;
        built.map_err(texts)?;
        let pause = self.pause(&plan, &running, (&program, &catalog)).await?;
        let before = Before {
            topology: &running,
            plan: &plan,
            going: &going,
        };
        let next = self.start(program, before, &catalog).await;
        let candidate = match next {
            Ok(topology) => Candidate {
                topology,
                catalog,
                plan,
                opened,
            },
            Err(problems) => {
                pause.undo();
                return Err(problems);
            }
        };
        drop(going);
        if way == Way::AsTheFileSays && candidate.plan.rollout.is_some() {
            let mut done = self.begin(candidate);
            done.rollout = [given_up, done.rollout].concat();
            return Ok(done);
        }
        let plan = self.publish(candidate, Duration::ZERO);
        pause.end();
        Ok(Done {
            plan: Some(plan),
            rollout: String::new(),
        })
    }

    /// What has the models and indexes of a program: those of the current one where they are the same.
    fn catalog_for(&self, program: &Program, plan: &Plan) -> Arc<StandardCatalog> {
        let replaced = plan.models.iter();
        let replaced = replaced.filter(|(_, step)| matches!(step, Step::Replace { .. }));
        let exchanged: Vec<Name> = replaced.map(|(name, _)| name.clone()).collect();
        let before = nodes::Before {
            catalog: &self.catalog,
            exchanged: &exchanged,
        };
        Arc::new(StandardCatalog::new(
            program.models(),
            program.indexes(),
            &facts::base_dir(&self.settings.file),
            &self.fetcher,
            Some(before),
        ))
    }

    async fn start(
        &mut self,
        program: Arc<Program>,
        before: Before<'_>,
        catalog: &Arc<StandardCatalog>,
    ) -> Result<Arc<Topology>, Problems> {
        let catalog = Arc::clone(catalog) as Arc<dyn Catalog>;
        let metrics = self.front.metrics();
        let next = Topology::after(self.next, program, before, catalog, metrics).await;
        let next = next.map_err(|errors| texts(StartupError::Nodes(errors)))?;
        self.next += 1;
        Ok(Arc::new(next))
    }

    /// Has all requests get a generation. The one before stays started for `keep`.
    pub(super) fn publish(&mut self, candidate: Candidate, keep: Duration) -> Plan {
        let Candidate {
            topology,
            catalog,
            plan,
            opened,
        } = candidate;
        topology.adjust_pools();
        // Requests that run hold what they began on; it ends with the last of them.
        let before = self.front.publish(Arc::clone(&topology));
        self.hand_over(opened);
        let catalog = std::mem::replace(&mut self.catalog, catalog);
        match keep.is_zero() {
            true => before.retire(&[&topology]),
            false => self.standby = Some(Standby::new(before, catalog, Instant::now() + keep)),
        }
        let program = Arc::clone(topology.program());
        self.history.push_back((topology.generation(), program));
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
        plan
    }

    /// Goes back to the generation before, which is still started.
    pub(super) async fn swap_back(&mut self, standby: Standby) -> Result<Done, Problems> {
        let (before, catalog) = standby.into_parts();
        let program = Arc::clone(before.program());
        let running = self.front.topology();
        let plan = graphs::plan(running.program(), &program, capacity());
        let opened = self.open(&plan, &program).await?;
        self.refuse_open_door(&program, &opened)?;
        // Of itself it keeps everything, so that nothing is started.
        let same = graphs::plan(&program, &program, capacity());
        let itself = Before {
            topology: &before,
            plan: &same,
            going: &[],
        };
        let topology = self.start(program, itself, &catalog).await?;
        let candidate = Candidate {
            topology,
            catalog,
            plan,
            opened,
        };
        let plan = self.publish(candidate, Duration::ZERO);
        Ok(Done {
            plan: Some(plan),
            rollout: String::new(),
        })
    }

    /// What a running engine cannot do, and must not.
    fn refuse(
        &self,
        plan: &Plan,
        program: &Program,
        (way, opened): (Way, &Opened),
    ) -> Result<(), Problems> {
        self.refuse_open_door(program, opened)?;
        if way == Way::AtOnce || plan.rollout.is_none() {
            return Ok(());
        }
        let reasons = plan.pauses().map(|(graph, node)| {
            format!(
                "`{}` of graph `{}` does not fit into memory twice, and a rollout needs both \
                 generations at once; take `rollout` out of `server`, or give the node less memory",
                node.id, graph.id
            )
        });
        let reasons: Vec<_> = reasons.collect();
        match reasons.is_empty() {
            true => Ok(()),
            false => Err(reasons),
        }
    }

    fn refuse_open_door(&self, program: &Program, opened: &Opened) -> Result<(), Problems> {
        let is_open = self.would_be_public(opened) && program.server().api_keys.is_empty();
        match is_open {
            false => Ok(()),
            true => Err(vec![
                "other machines can ask, and the file has no `api-key`".to_owned(),
            ]),
        }
    }
}
