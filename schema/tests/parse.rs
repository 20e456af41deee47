//! What files declare.

mod kit;

use kit::{document, source};
use schema::{
    Argument, ByteSize, Document, Fallback, IndexBackend, Literal, PoolSpec, ScalePolicy, Type,
    Work, parse,
};
use std::time::Duration;

const RAG: &str = include_str!("cases/rag.kdl");
const KINDS: &str = include_str!("cases/kinds.kdl");

fn literal(argument: &Argument) -> &Literal {
    match argument {
        Argument::Literal(literal) => literal,
        Argument::Template(template) => panic!("a template: {}", template.text()),
    }
}

fn template(argument: &Argument) -> &str {
    match argument {
        Argument::Template(template) => template.text(),
        Argument::Literal(literal) => panic!("a constant: {literal:?}"),
    }
}

#[test]
fn the_design_example_means_what_it_says() {
    let rag = document(RAG);
    let server = rag.server.unwrap();
    assert_eq!(server.admin.expose(), "127.0.0.1:8001");
    assert_eq!(server.timeout, Duration::from_secs(60));
    assert_eq!(rag.models[0].sources.len(), 2);
    let adapters = rag.models[1].adapters.as_ref().unwrap();
    assert_eq!(adapters.max_bytes, ByteSize(512 << 20));
    assert!(
        matches!(&rag.indexes[0].backend, IndexBackend::Embedded { path } if path.expose() == "docs.index")
    );

    let graph = &rag.graphs[0];
    assert_eq!(graph.route.as_ref().unwrap().value, "/rag");
    let top_k = &graph.input[1];
    assert_eq!(top_k.value_type.value, Type::Integer);
    assert_eq!(top_k.default.as_ref().unwrap().value, Literal::Integer(20));
    assert_eq!((top_k.min, top_k.max), (Some(1.0), Some(100.0)));

    let names: Vec<&str> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(names, ["question", "hits", "top", "answer"]);
    let pool = &graph.nodes[0].pool;
    let batch = pool.batch.as_ref().unwrap();
    assert_eq!(
        (batch.max_size.value, batch.max_wait),
        (32, Duration::from_millis(5))
    );
    assert_eq!(pool.replicas.max.value, 4);
    assert_eq!(pool.replicas.target_ongoing_requests, 8.0);
    assert_eq!(pool.replicas.look_back, Duration::from_secs(30));
    assert_eq!(pool.timeout.unwrap().value, Duration::from_secs(2));

    let Work::Generate(generate) = &graph.nodes[3].work else {
        panic!("{:?}", graph.nodes[3].work)
    };
    assert_eq!(
        template(generate.prompt.as_ref().unwrap()),
        "{% for d in top %}[{{ d.id }}] {{ d.text }}\n{% endfor %}Question: {{ input.query }}\nAnswer:"
    );
    assert_eq!(literal(&generate.stop[0]), &Literal::Text("\n".to_owned()));
    assert!(matches!(&graph.nodes[3].fallback, Some(Fallback::Value(_))));
    assert_eq!(graph.output.len(), 2);
}

#[test]
fn every_kind_and_option_is_read() {
    let all = document(KINDS);
    assert_eq!(all.includes.len(), 3);
    assert!(all.server.unwrap().api_keys[1].is_secret());
    let graph = &all.graphs[0];
    let kinds: Vec<&str> = graph
        .nodes
        .iter()
        .map(|node| node.work.kind().name())
        .collect();
    for kind in schema::Kind::ALL {
        assert!(kinds.contains(&kind.name()), "{}", kind.name());
    }
    let remote = &graph.nodes[3].pool;
    assert_eq!(remote.replicas.policy, ScalePolicy::Ray);
    assert_eq!(
        remote.replicas.downscale_to_zero_delay,
        Some(Duration::from_secs(600))
    );
    assert_eq!(remote.hedge.as_ref().unwrap().percentile, 0.95);
    assert_eq!(remote.retry.as_ref().unwrap().on.len(), 2);
    let Work::Python(python) = &graph
        .nodes
        .iter()
        .find(|node| *node.id.as_str() == *"rewrite")
        .unwrap()
        .work
    else {
        panic!("not python")
    };
    assert_eq!(
        python.returns.as_ref().unwrap().value,
        Type::list(Type::Text)
    );
    assert_eq!(python.arguments.len(), 3);
}

#[test]
fn properties_and_lines_are_the_same() {
    let node = |options: &str| {
        document(&format!(
            "graph g {{ embed e {{ model m; text a; {options} }} }}"
        ))
    };
    assert_eq!(
        node("batch max-size=8 max-wait=\"5ms\""),
        node("batch { max-size 8; max-wait \"5ms\" }")
    );
    assert_eq!(
        node("timeout \"1s\""),
        document("graph g { embed e timeout=\"1000ms\" text=a model=m }")
    );
    assert_eq!(node(""), node("replicas; resources"));
    assert_ne!(node(""), node("timeout \"1s\""));
}

#[test]
fn an_absent_option_has_its_documented_default() {
    let spec = PoolSpec::default();
    assert_eq!(spec.resources.cpu, 1.0);
    assert_eq!(spec.replicas.downscale_delay, Duration::from_secs(600));
    let written = document("graph g { embed e { model m; text a } }");
    assert_eq!(written.graphs[0].nodes[0].pool, spec);
}

#[test]
fn places_do_not_count_for_equality() {
    for text in [RAG, KINDS] {
        let moved = format!(
            "// a comment\n\n/* another */ {}",
            text.replace('\n', " // x\n")
        );
        // A comment cannot stand in a multi-line string or after a continued line.
        let moved = moved
            .replace("\\ // x", "\\")
            .replace(" // x\n            {% endfor", "\n            {% endfor");
        let moved = moved
            .replace("\"\"\" // x", "\"\"\"")
            .replace("{{ d.text }} // x", "{{ d.text }}")
            .replace(
                "Question: {{ input.query }} // x",
                "Question: {{ input.query }}",
            )
            .replace("Answer: // x", "Answer:");
        assert_ne!(moved, text);
        assert_eq!(document(&moved), document(text));
    }
    assert_ne!(
        document("model m { source \"file:a\" }"),
        document("model m { source \"file:b\" }")
    );
    assert_ne!(
        document("graph g { output { a 1 } }"),
        document("graph g { output { a 2 } }")
    );
}

#[test]
fn a_broken_block_leaves_the_rest_and_what_can_be_had_of_itself() {
    let text = "model m { sorce \"file:a\" }\ngraph g {\n  embed e { text \"{{ input.q }}\"; timeout 5s }\n  search { index i }\n  output { a \"{{ e }}\" }";
    let (document, diagnostics) = parse(&source(text), &|_| None);
    assert_eq!(diagnostics.len(), 6, "{diagnostics:#?}");
    assert_eq!(document.models[0].id.as_str(), "m");
    let graph = &document.graphs[0];
    assert_eq!(graph.nodes.len(), 2);
    assert_eq!(graph.nodes[0].work.model().unwrap().as_str(), "");
    assert_eq!(graph.output.len(), 1);
}

#[test]
fn secrets_are_not_printed() {
    let (document, _) = parse(
        &source(
            "server { api-key (env)\"KEY\" }\ngraph g { http h { url \"http://a\"; header b (env)\"KEY\" } }",
        ),
        &|_| Some("hush".to_owned()),
    );
    let shown = format!("{document:?}");
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("***"), "{shown}");
}

#[test]
fn includes_are_joined_under_one_server() {
    let mut main = document("server { listen \"a:1\" }\nmodel m { source \"file:a\" }");
    let included = document("graph g { output { a 1 } }");
    assert_eq!(main.join(included), []);
    assert_eq!((main.models.len(), main.graphs.len()), (1, 1));
    let problems = main.join(document("server { listen \"b:2\" }"));
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].code, "second-server");
    assert_eq!(main.server.as_ref().unwrap().listen.expose(), "a:1");

    let mut bare = Document::default();
    assert_eq!(bare.join(document("server { listen \"b:2\" }")), []);
    assert!(bare.server.is_some());
}
