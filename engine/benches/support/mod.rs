//! Running graphs for benchmarks.

use engine::{metrics::Metrics, topology::Topology};
use futures::future::BoxFuture;
use graphs::{Facts, Program};
use nodes::{Catalog, Node, NodeError, Order};
use schema::{Source, SourceId};
use std::sync::Arc;

/// A catalog for graphs whose nodes need no replicas.
struct Nothing;

impl Catalog for Nothing {
    fn build<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Arc<dyn Node>, NodeError>> {
        let kind = order.work.kind().name();
        Box::pin(async move { Err(NodeError::failed(format!("no {kind} here"))) })
    }
}

/// The topology of a text whose nodes need no replicas.
#[allow(
    dead_code,
    reason = "each bench is compiled with its own copy of this module"
)]
pub async fn start(file: &str) -> Topology {
    start_with(file, Arc::new(Nothing)).await
}

/// The topology of a text.
pub async fn start_with(file: &str, catalog: Arc<dyn Catalog>) -> Topology {
    let program = Arc::new(program(file));
    let topology = Topology::start(1, program, catalog, &Metrics::new()).await;
    topology.unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// The program of a text.
pub fn program(file: &str) -> Program {
    let source = Source {
        id: SourceId(0),
        name: "bench.kdl".to_owned(),
        text: file.to_owned(),
    };
    let (document, problems) = schema::parse(&source, &|_| None);
    assert!(problems.is_empty(), "{problems:#?}");
    let program = graphs::check(document, &Facts::default());
    program.unwrap_or_else(|problems| panic!("{problems:#?}"))
}
