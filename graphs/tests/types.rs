//! Types along every edge: what does not fit is shown at both ends.

mod kit;

use expect_test::{Expect, expect};
use kit::{problems, program};

fn check(body: &str, expected: Expect) {
    expected.assert_eq(&problems(body));
}

/// The type of each expression as a field of the answer, given a request and some nodes.
#[test]
fn expressions_have_types() {
    let expressions = [
        "input.query", "input.k", "input.maybe", "input.lane", "input.texts", "input.texts[0]",
        "input.any.thing[3]", "header.x_lora_id", "header.x_lora_id | default('qa')",
        "question", "question[0]", "vectors", "hits", "hits[0]", "hits[-1].score", "hits[:3]", "hits[0].metadata",
        "hits | map(attribute='id') | list", "hits | map(attribute='metadata.title') | list", "hits | length", "hits | first", "hits | map(attribute='text') | join(', ')",
        "hits | selectattr('score', 'gt', 0.5) | list", "hits | sort(attribute='score', reverse=true)", "hits | batch(2)", "hits | tojson", "hits | json",
        "hits | map(attribute='score') | sum", "hits | map(attribute='text') | map('upper') | list",
        "answer", "answer | trim", "lane", "lane == 'fast'",
        "1", "1.5", "-2", "'x'", "true", "none", "[1, 2]", "[1, 'a']", "(1, 2)", "{'a': 1}", "{'a': 1}.a", "[]",
        "input.k + 1", "input.k / 2", "input.k * 1.5", "input.query ~ 1", "input.query + 'x'", "'ab' * 3", "[1] + [2.5]",
        "input.k > 3", "1 < input.k < 5", "not input.k", "input.k in [1, 2]", "input.query is defined",
        "1 if input.k else 2.5", "'a' if input.k else 1", "'a' if input.k", "'a' if input.k else none",
        "input.query or 'x'", "input.maybe or 'x'", "input.maybe if input.maybe else 'x'", "input.maybe | default('x')", "input.maybe is none and input.k", "range(3)", "dict(a=1)",
        "input.k | int", "input.query | int", "input.k | float", "input.k | round(1)", "input.k | abs", "input.query | split(' ')", "input.texts | unique | list", "input.texts | reverse",
    ];
    let output: String = expressions
        .iter()
        .enumerate()
        .map(|(index, expression)| format!("f{index} \"{{{{ {expression} }}}}\"\n"))
        .collect();
    let body = format!(
        r#"input {{
            query; k type=integer; maybe optional=#true; any type=any; texts type=list of=string
            lane {{ one-of a b }}
        }}
        embed question {{ model minilm; text "{{{{ input.query }}}}" }}
        embed vectors {{ model minilm; text "{{{{ input.texts }}}}" }}
        search hits {{ index docs; vector "{{{{ question }}}}" }}
        generate answer {{ model gemma; prompt "{{{{ input.query }}}}" }}
        switch lane on="{{{{ input.query }}}}" {{ case "fast"; case "slow"; default "other" }}
        output {{ mixed "a {{{{ input.query }}}} {{{{ vectors }}}}"
        {output} }}"#
    );
    let program = program(&body);
    let fields = &program.graphs()[0].output()[1..];
    let lines: String = expressions
        .iter()
        .zip(fields)
        .map(|(expression, field)| format!("{expression:50} {}\n", field.value_type))
        .collect();
    expect![].assert_eq(&lines);
}

#[test]
fn nodes_yield_types() {
    let program = program(
        r#"input { query; texts type=list of=string; flag type=boolean; maybe optional=#true; lane { one-of fast slow } }
        embed a { model minilm; text "{{ input.query }}" }
        embed b { model small; text "{{ input.texts }}" }
        embed c each="{{ input.texts }}" { model minilm; text "{{ item }}" }
        embed d when="{{ input.flag }}" { model minilm; text "{{ input.query }}" }
        embed e { model minilm; text "{{ input.maybe }}" }
        search f { index docs; vector "{{ d }}" }
        search g { index docs; vector "{{ d }}"; text "{{ input.query }}" }
        search h each="{{ c }}" { index docs; vector "{{ item }}" }
        template i { text "{{ f }} or so" }
        template j { text "{{ f }}" }
        template fast when="{{ input.lane == 'fast' }}" { text "x" }
        template slow when="{{ not (input.lane == 'fast') }}" { text "{{ input.texts }}" }
        merge all { from fast slow }
        merge some { from fast e }
        generate k { model gemma; prompt "{{ all }}" }
        generate l each="{{ input.texts }}" { model gemma; prompt "{{ item }}" }
        split m { text "{{ k }}" }
        http n { url "http://localhost:1/" }
        python o { file "x.py"; function "f"; arguments { q "{{ e }}" }; returns list of=string }
        embed p each="{{ input.texts }}" { model minilm; text "{{ input.maybe }}" }
        generate r { model gemma; prompt "x"; fallback "y" }
        output {
            a "{{ [a, b, c, e, g, h, i, j, some, k, l, m, n, o, p, r] }}"
        }"#,
    );
    let nodes = program.graphs()[0].clone();
    let lines: String =
        nodes.nodes().map(|(_, node)| format!("{}: {}\n", *node.decl.id, node.output)).collect();
    expect![].assert_eq(&lines);
}

#[test]
fn ports_take_what_fits() {
    check(
        r#"input { query; n type=number; flag type=boolean; texts type=list of=string }
        embed question { model minilm; text "{{ input.n }}" }
        search hits { index docs; vector "{{ input.query }}"; top-k "{{ input.n }}" }
        rerank top { model minilm; query "{{ hits }}"; documents "{{ question }}"; keep "5 of them" }
        generate answer { model gemma; prompt "{{ top }}"; max-tokens "many"; temperature "{{ input.texts | first }}"; stop 5 }
        split pieces { text "{{ top[0].score }}" }
        search more { index docs; text "{{ input.query }}"; filter "{{ input.texts }}"; top-k "{{ input.flag }} " }
        output { a "{{ [answer, pieces, more] }}" }"#,
        expect![],
    );
}

#[test]
fn vectors_of_another_size() {
    check(
        r#"input { query; v type=vector }
        embed question { model small; text "{{ input.query }}" }
        search hits { index docs; vector "{{ question }}" }
        search good { index docs; vector "{{ input.v }}" }
        output { a "{{ hits }}"; b "{{ good }}" }"#,
        expect![],
    );
    expect![].assert_eq(&kit::problems_of_file(
        r#"
        model minilm { source "file:x" }
        index a { path "x"; model minilm; dimensions 100 }
        graph g { output { x 1 } }
        "#,
    ));
}

#[test]
fn operators_take_what_they_can() {
    check(
        r#"input { query; k type=integer; maybe type=integer optional=#true; texts type=list of=string }
        output {
            a "{{ input.query + 1 }}"
            b "{{ input.query - 1 }}"
            c "{{ -input.texts }}"
            d "{{ input.k | length }}"
            e "{% for x in input.k %}{% endfor %}"
            f "{{ input.maybe + 1 }}"
            g "{{ input.maybe + 1 if input.maybe is not none else 0 }}"
            h "{% if input.maybe and input.k %}{{ input.maybe * 2 }}{% endif %}"
            i "{{ input.k[0] }}"
            j "{{ input.texts['a':] }}"
            k "{{ input.k[1:] }}"
        }"#,
        expect![],
    );
}

#[test]
fn each_goes_over_lists() {
    check(
        r#"input { query; texts type=list of=string; maybe type=list of=string optional=#true }
        embed a each="{{ input.query }}" { model minilm; text "{{ item }}" }
        embed b each="{{ input.texts }}" { model minilm; text "{{ item.id }}" }
        embed c each="{{ input.maybe }}" { model minilm; text "{{ item }}" }
        embed d { model minilm; text "{{ item }}" }
        embed e each="{{ input.texts }}" when="{{ item }}" { model minilm; text "x" }
        embed f each="over {{ input.texts }}" { model minilm; text "{{ item }}" }
        output { x "{{ [a, b, c, d, e, f] }}" }"#,
        expect![],
    );
}

#[test]
fn fallbacks_yield_what_their_node_does() {
    check(
        r#"input { query }
        embed a { model minilm; text "{{ input.query }}"; fallback "none" }
        search b { index docs; text "{{ input.query }}"; fallback node=c }
        template c { text "x" }
        generate d { model gemma; prompt "x"; fallback node=e }
        template e { text "sorry" }
        search f { index docs; text "x"; fallback "{{ [] }}" }
        http g { url "http://localhost:1"; fallback #null }
        output { x "{{ [a, b, d, f, g] }}" }"#,
        expect![],
    );
}

#[test]
fn values_that_may_be_none() {
    check(
        r#"input { query; k type=integer optional=#true; t type=number optional=#true }
        search hits { index docs; text "{{ input.query }}"; top-k "{{ input.k }}" }
        search fine { index docs; text "{{ input.query }}"; top-k "{{ input.k | default(5) }}" }
        generate answer { model gemma; prompt "{{ hits }}"; temperature "{{ input.t }}"; seed "{{ input.k }}" }
        output { x "{{ answer }}"; y "{{ fine }}" }"#,
        expect![],
    );
}
