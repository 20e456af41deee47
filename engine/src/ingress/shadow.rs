//! Copies of requests for the next generation: run beside the request, compared with its answer, and
//! dropped.

use super::{
    arrive::Arrived,
    generations::Next,
    infer::{Asked, problem_of},
};
use crate::{
    execute::{Answer, RequestError},
    rollout::shadow::{Answered, Copies, Difference, compare},
    topology::{Served, Topology},
};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A request's own answer, on its way to be compared with that of its copy; none if it has no copy.
#[derive(Debug, Default)]
pub(super) struct Copy(Option<oneshot::Sender<Answered>>);

impl Copy {
    /// Begins to run a copy, if the request is to have one and there is room.
    pub(super) fn begin(next: Option<Next>, path: &str, arrived: &Arrived, asked: &Asked) -> Self {
        let Some(Next {
            topology, copies, ..
        }) = next
        else {
            return Self(None);
        };
        // A path that it does not have is answered by the other generation alone.
        let (Some(graph), Some(room)) = (topology.index_at(path), copies.begin()) else {
            return Self(None);
        };
        let (own, answer) = oneshot::channel();
        let (arrived, asked) = (arrived.clone(), asked.clone());
        tokio::spawn(async move {
            let copied = run(&topology, graph, &arrived, &asked);
            let both = futures::future::try_join(async { Ok(copied.await) }, answer);
            match both.await {
                Ok((copied, own)) => note(&copies, &topology, compare(&own, &copied), &asked),
                // The client has left, and with it the answer to compare with.
                Err(_) => copies.leave_out(),
            }
            drop::<OwnedSemaphorePermit>(room);
        });
        Self(Some(own))
    }

    /// The request was answered.
    pub(super) fn compare(self, result: &Result<Answer, RequestError>, served: &Served) {
        if let Some(own) = self.0 {
            // A copy that is not there any more was not made.
            let _ = own.send(answered(result, served));
        }
    }

    /// The request was refused with this status.
    pub(super) fn compare_status(self, status: u16) {
        if let Some(own) = self.0 {
            let _ = own.send(Err(status));
        }
    }
}

async fn run(topology: &Topology, graph: usize, arrived: &Arrived, asked: &Asked) -> Answered {
    let served = &topology.graphs()[graph];
    let walked = arrived.fit(served, asked);
    let walked = walked.map_err(|problem| problem.status().as_u16())?;
    answered(&served.prepared().run(walked).await, served)
}

fn answered(result: &Result<Answer, RequestError>, served: &Served) -> Answered {
    match result {
        Ok(answer) => serde_json::to_value(&*answer.fields).map_err(|_| 500),
        Err(error) => Err(problem_of(error, served).status().as_u16()),
    }
}

fn note(copies: &Arc<Copies>, topology: &Topology, difference: Difference, asked: &Asked) {
    copies.note(difference);
    if difference != Difference::Same {
        let (generation, request_id) = (topology.generation(), &*asked.id);
        tracing::debug!(
            generation,
            request_id,
            ?difference,
            "a copy was answered otherwise"
        );
    }
}
