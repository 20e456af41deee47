//! What a checked graph holds: an order that can be run, edges, and expressions as cheap as can be.

mod kit;

use expect_test::{Expect, expect};
use graphs::{Bound, BoundFallback, Expression, Graph};
use kit::{check_file, program};

/// A graph, each node with what it reads and takes.
fn describe(graph: &Graph) -> String {
    let name = |ix| graph.node(ix).decl.id.as_str();
    let mut lines = Vec::new();
    for (ix, node) in graph.nodes() {
        let mut reads: Vec<&str> = graph.reads(ix).map(name).collect();
        reads.sort_unstable();
        let demand = if node.on_demand { ", on demand" } else { "" };
        let from: Vec<&str> = node.from.iter().map(|ix| name(*ix)).collect();
        let from = match from.as_slice() {
            [] => String::new(),
            from => format!(", from [{}]", from.join(" ")),
        };
        lines.push(format!(
            "{} {} reads [{}]{demand}{from}",
            ix.0,
            name(ix),
            reads.join(" ")
        ));
        lines.extend(
            node.when
                .iter()
                .map(|when| format!("    when {}", shown(when))),
        );
        lines.extend(
            node.each
                .iter()
                .map(|each| format!("    each {} by {}", shown(&each.list), each.width)),
        );
        for Bound {
            port,
            expression,
            required,
            ..
        } in &node.ports
        {
            let mark = if *required { "" } else { "?" };
            lines.push(format!("    {port}{mark} {}", shown(expression)));
        }
        lines.extend(node.fallback.iter().map(|fallback| match fallback {
            BoundFallback::Value(value) => format!("    fallback {}", shown(value)),
            BoundFallback::Node(node) => format!("    fallback node {}", node.0),
        }));
    }
    for field in graph.output() {
        lines.push(format!("{} {}", field.name, shown(&field.expression)));
    }
    lines.join("\n") + "\n"
}

fn shown(expression: &Expression) -> String {
    match expression {
        Expression::Constant(literal) => format!("{literal:?}"),
        Expression::Path(path) => format!("{:?} {:?}", path.root, path.steps),
        Expression::Template(template) => {
            let reads: Vec<&str> = template
                .reads
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            let kind = if template.native { "native" } else { "text" };
            format!("{kind} {:?} of [{}]", template.source, reads.join(" "))
        }
    }
}

fn check(body: &str, expected: Expect) {
    expected.assert_eq(&describe(&program(body).graphs()[0]));
}

#[test]
fn nodes_stand_after_what_they_read_and_otherwise_as_in_the_file() {
    check(
        r#"input { query }
        template last { text "{{ middle }} {{ first }} {{ middle }}" }
        template other { text "x" }
        template middle { text "{{ first }}"; fallback node=spare }
        template first { text "{{ input.query }}"; fallback "{{ other }}" }
        template spare { text "{{ other }}" }
        merge either { from other last }
        output { a "{{ last }}"; b "{{ either }}" }"#,
        expect![[r#"
            0 other reads []
                text? Text("x")
            1 first reads [other]
                text? Input [Field("query")]
                fallback Node(NodeIx(0)) []
            2 spare reads [other], on demand
                text? Node(NodeIx(0)) []
            3 middle reads [first]
                text? Node(NodeIx(1)) []
                fallback node 2
            4 last reads [first middle]
                text? text "{{ middle }} {{ first }} {{ middle }}" of [middle first]
            5 either reads [last other], from [other last]
            a Node(NodeIx(4)) []
            b Node(NodeIx(5)) []
        "#]],
    );
}

#[test]
fn expressions_are_as_cheap_as_can_be() {
    check(
        r#"input { query; top-k type=integer default=3; texts type=list of=string }
        search my-hits each="{{ input.texts }}" each-width=4 when="{{ input.top_k > 1 }}" {
            index docs
            text "{{ item }}"
            top-k "{{ input.top_k }}"
        }
        output {
            path "{{ my_hits[0][-1].metadata['title'] }}"
            spaced "{{- input.query -}}"
            number "{{ -5 }}"
            text "{{ 'constant' }}"
            raw "{% raw %}{{ not a template }}{% endraw %}"
            mixed " {{ input.query }}"
            native "{{ input.query | upper }}"
            header "{{ header.x_request_id }}"
            set "{% set x = input.query %}{{ x }}"
            dynamic "{{ my_hits[input.top_k] }}"
            literal 5
            plain "plain"
        }"#,
        expect![[r#"
            0 my-hits reads []
                when native "input.top_k > 1" of [input]
                each Input [Field("texts")] by 4
                text Item []
                top-k Input [Field("top_k")]
            path Node(NodeIx(0)) [Index(0), Index(-1), Field("metadata"), Field("title")]
            spaced Input [Field("query")]
            number Integer(-5)
            text Text("constant")
            raw Text("{{ not a template }}")
            mixed text " {{ input.query }}" of [input]
            native native "input.query | upper" of [input]
            header Header [Field("x_request_id")]
            set text "{% set x = input.query %}{{ x }}" of [input]
            dynamic native "my_hits[input.top_k]" of [my_hits input]
            literal Integer(5)
            plain Text("plain")
        "#]],
    );
}

#[test]
fn a_program_holds_what_was_declared() {
    let text = include_str!("cases/router.kdl");
    let program = check_file(text).unwrap();
    let graph = &program.graphs()[0];
    assert_eq!((graph.id().as_str(), graph.route()), ("ask", "/ask"));
    assert_eq!(graph.timeout(), program.server().timeout);
    assert_eq!(program.models().len(), 2);
    assert_eq!(program.indexes().len(), 1);
    assert_eq!(graph.input().len(), 4);
    assert!(program.warnings().is_empty());
}
