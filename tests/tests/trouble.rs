//! Every kind of node that calls a service, and everything that can be wrong with a service, through the
//! real binary: the error is the documented one, the breaker opens, the fallback answers, and a service
//! that is well again is used.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use futures::future::join_all;
use serde_json::json;
use std::{fmt::Write as _, time::Duration};
use tests::{
    Engine,
    faulty::{Fault, Faulty, Wire, trusted},
    write_graph,
};
use tokio::time::{Instant, sleep};

/// What calls a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Endpoint,
    Http,
    InferRest,
    InferGrpc,
}

const CALLERS: [Caller; 4] = [
    Caller::Endpoint,
    Caller::Http,
    Caller::InferRest,
    Caller::InferGrpc,
];

/// What is wrong, where it can be, and the status of the error.
const FAULTS: [(Fault, &[Wire], u16); 10] = [
    (Fault::Refused, &[Wire::Http, Wire::Grpc], 503),
    (Fault::Reset, &[Wire::Http, Wire::Grpc], 503),
    (Fault::WrongLength, &[Wire::Http, Wire::Grpc], 503),
    (Fault::Storm, &[Wire::Http, Wire::Grpc], 503),
    (Fault::Error, &[Wire::Http, Wire::Grpc], 500),
    (Fault::Silent, &[Wire::Http, Wire::Grpc], 504),
    (Fault::Slow, &[Wire::Http, Wire::Grpc], 504),
    (Fault::Garbage, &[Wire::Http, Wire::Grpc, Wire::Tls], 503),
    (Fault::GoAway, &[Wire::Grpc, Wire::Tls], 503),
    (Fault::Unknown, &[Wire::Tls], 503),
];

impl Caller {
    fn speaks(self, wire: Wire) -> bool {
        match self {
            Caller::InferGrpc => wire != Wire::Http,
            Caller::Endpoint | Caller::Http | Caller::InferRest => wire != Wire::Grpc,
        }
    }

    /// The node, with the options that every node has.
    fn node(self, wire: Wire, address: &str, options: &str) -> String {
        let secure = if wire == Wire::Tls { "s" } else { "" };
        let http = format!("http{secure}://{address}");
        match self {
            Caller::Endpoint => format!(
                r#"generate answer {{ endpoint "{http}"; prompt "{{{{ input.text }}}}"; {options} }}"#
            ),
            Caller::Http => format!(
                r#"http answer {{ url "{http}/json"; result "{{{{ body.text }}}}"; {options} }}"#
            ),
            Caller::InferRest => {
                format!(r#"infer answer {{ url "{http}"; model "m"; input "X" 1.5; {options} }}"#)
            }
            Caller::InferGrpc => format!(
                r#"infer answer {{ url "grpc{secure}://{address}"; model "m"; input "X" 1.5; {options} }}"#
            ),
        }
    }
}

/// A service that one node calls.
struct Case {
    name: String,
    service: Faulty,
    fault: Fault,
    status: u16,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trouble_is_its_error_and_passes() {
    let (mut file, mut cases) = (String::new(), Vec::new());
    for caller in CALLERS {
        for (fault, wires, status) in FAULTS {
            for wire in wires.iter().filter(|wire| caller.speaks(**wire)) {
                // Some nodes ask their service when they are built.
                let service = Faulty::speaking(*wire, Fault::None).await;
                let name = format!("{caller:?}-{fault:?}-{wire:?}").to_lowercase();
                let timeout = if status == 504 { "700ms" } else { "30s" };
                let timeout = format!("timeout \"{timeout}\"");
                let guarded = format!(
                    "{timeout}; breaker errors=0.5 window=\"60s\" min-requests=3 open=\"200ms\"; fallback \"instead\""
                );
                let address = service.address.to_string();
                for (suffix, options) in [("", timeout), ("-guarded", guarded)] {
                    let node = caller.node(*wire, &address, &options);
                    write!(
                        file,
                        r#"
                        graph {name}{suffix} route="/{name}{suffix}" {{
                            input {{ text type=string }}
                            {node}
                            output {{ answer "{{{{ answer }}}}" }}
                        }}"#
                    )
                    .unwrap();
                }
                // A message that is cut short in a stream that ends well is the server's mistake.
                let cut = (*wire, fault) == (Wire::Grpc, Fault::WrongLength);
                let status = if cut { 500 } else { status };
                cases.push(Case {
                    name,
                    service,
                    fault,
                    status,
                });
            }
        }
    }
    let (_folder, path) = write_graph(&file);
    let certificate = trusted();
    let engine = Engine::start_in(
        &path,
        &[],
        &[("SSL_CERT_FILE", certificate.to_str().unwrap())],
    );
    join_all(cases.iter().map(|case| case.check(&engine))).await;
}

impl Case {
    async fn check(&self, engine: &Engine) {
        let Case { name, service, .. } = self;
        let plain = format!("/{name}");
        let answer = engine.post(&plain, json!({ "text": "x" })).await;
        assert_eq!(
            answer.json(),
            json!({ "answer": "well" }),
            "{name} at first"
        );
        service.set(self.fault).await;
        let mut answer = engine.post(&plain, json!({ "text": "x" })).await;
        // The change has closed the connection, and a request that meets that is lost with it.
        if answer.status == 503 && answer.text.contains(" was lost: ") {
            answer = engine.post(&plain, json!({ "text": "x" })).await;
        }
        assert_eq!(answer.status, self.status, "{name}: {}", answer.text);
        let end = Instant::now() + Duration::from_secs(120);
        while refused(engine, name).await == 0 {
            assert_eq!(self.guarded(engine).await, "instead", "{name}");
            assert!(Instant::now() < end, "{name}: its breaker never opened");
        }
        service.set(Fault::None).await;
        while self.guarded(engine).await != "well" {
            assert!(Instant::now() < end, "{name}: it never came back");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn guarded(&self, engine: &Engine) -> String {
        let route = format!("/{}-guarded", self.name);
        let answer = engine.post(&route, json!({ "text": "x" })).await;
        assert_eq!(answer.status, 200, "{}: {}", self.name, answer.text);
        answer.json()["answer"].as_str().unwrap().to_owned()
    }
}

/// How often the breaker of a guarded node has refused an item.
async fn refused(engine: &Engine, name: &str) -> u64 {
    let metrics = engine.client().get(engine.admin("/metrics"));
    let text = engine.send(metrics).await.text;
    let labels = [
        format!("graph=\"{name}-guarded\""),
        "reason=\"breaker\"".to_owned(),
    ];
    let line = text.lines().find(|line| {
        line.starts_with("engine_shed_total") && labels.iter().all(|label| line.contains(label))
    });
    let count = line.and_then(|line| line.rsplit(' ').next());
    count.map_or(0, |count| count.parse().unwrap())
}
