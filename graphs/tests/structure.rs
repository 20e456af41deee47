//! Cycles, dead branches, unused nodes, limits, and files with many mistakes.

mod kit;

use expect_test::{Expect, expect};
use kit::{check_file, problems, problems_of_file};

fn check(body: &str, expected: Expect) {
    expected.assert_eq(&problems(body));
}

#[test]
fn cycles_are_shown_whole() {
    check(
        r#"template a { text "{{ c }}" }
        template b { text "{{ a }}" }
        template c { text "{{ d }} {{ b }}" }
        template d { text "d" }
        template me { text "{{ me }}" }
        template x { text "x"; fallback node=y }
        template y { text "y"; fallback node=x }
        output { o "{{ c }} {{ me }}" }"#,
        expect![[r#"
            error[cycle]: nodes wait for each other: a → c → b → a
              2:23 `c`: "a" reads "c"
              4:39 `b`: "c" reads "b"
              3:31 `a`: "b" reads "a"
            error[cycle]: "me" reads its own result
              6:32 `me`
            error[cycle]: nodes wait for each other: x → y → x
              7:46 `y`: "x" reads "y"
              8:46 `x`: "y" reads "x"
        "#]],
    );
}

#[test]
fn a_fallback_is_not_read() {
    check(
        r#"generate a { model gemma; prompt "x"; fallback node=b }
        template b { text "sorry" }
        template c { text "{{ b }}" }
        output { o "{{ a }} {{ c }}"; p "{{ b }}" }"#,
        expect![[r#"
            error[fallback-read]: "b" runs only as a fallback, so it has no result to read
              4:31 `b`
              help: read the node that it stands in for
            error[fallback-read]: "b" runs only as a fallback, so it has no result to read
              5:45 `b`
              help: read the node that it stands in for
        "#]],
    );
}

#[test]
fn what_never_happens() {
    check(
        r#"input { lane { one-of fast slow }; q; opt optional=#true }
        switch s on="{{ input.q }}" { case "a"; case "b"; case "a"; default "c" }
        template t1 when="{{ s == 'x' }}" { text "1" }
        template t2 when="{{ input.lane == 'slwo' }}" { text "2" }
        template t3 when="{{ s in ['a', 'bb'] }}" { text "3" }
        template t4 when=#false { text "4" }
        template t5 when="{{ s == 'a' }}" { text "5" }
        embed t6 when="{{ s == 'b' }}" { model minilm; text "{{ t5 }}" }
        template t7 when="yes" { text "7" }
        template t8 when="{{ s }} " { text "8" }
        template t9 when="{{ s == 'a' or s == 'b' }}" { text "9" }
        switch s3 on="{{ input.opt }}" { case "a"; case "b" }
        template t10 when="{{ s != 'a' and s != 'b' }}" { text "10" }
        merge m1 { from t5 t9 t10 }
        merge m2 { from t9 t10 t5 }
        merge m3 { from t7 t5 }
        merge m4 { from t5 }
        switch s2 on="{{ s }}" { case "a"; case "nope"; default "z" }
        output { o "{{ [t1, t2, t3, t4, t6, t8, m1, m2, m3, m4, s2, s3] }}" }"#,
        expect![[r#"
            error[unreachable]: case "a" is never reached
              3:64 `"a"`
              3:44 `"a"`: this one comes first
            error[unreachable]: `s` is never "x"
              4:35 `'x'`
              3:16 `s`: one of a, b and c
              help: it is one of a, b and c
            error[unreachable]: `input.lane` is never "slwo"
              5:44 `'slwo'`
              2:9 `lane`: one of fast and slow
              help: did you mean "slow"?
            error[unreachable]: `s` is never "bb"
              6:41 `'bb'`
              3:16 `s`: one of a, b and c
              help: it is one of a, b and c
            error[unreachable]: the node never runs: its condition never holds
              7:26 `#false`
            error[unreachable]: the node never runs: its conditions exclude each other
              9:65 `t5`
            error[type-mismatch]: a text is no condition: it holds unless it is empty
              10:26 `"yes"`
              help: write the condition as one `{{ expression }}`
            error[type-mismatch]: a text is no condition: it holds unless it is empty
              11:26 `"{{ s }} "`
              help: write the condition as one `{{ expression }}`
            warning[none-possible]: switch "s3" fails where `on` is none
              13:26 `input.opt`
              help: add a `default`
            warning[unreachable]: "t5" is never taken: one of those before it always has a result
              16:32 `t5`
            warning[unreachable]: "t5" is never taken: one of those before it always has a result
              17:28 `t5`
            warning[unreachable]: merge "m4" has one node to choose from
              18:25 `t5`
              help: read that node instead
            error[unreachable]: case "nope" is never reached
              19:49 `"nope"`
              19:26 `s`: this is one of a, b and c
        "#]],
    );
}

#[test]
fn nodes_that_nothing_reads() {
    check(
        r#"input { q }
        template a { text "{{ input.q }}" }
        template b { text "{{ a }}" }
        template c { text "c" }
        output { o "{{ c }}" }"#,
        expect![[r#"
            warning[unused-node]: nothing reads template "b"
              4:18 `b`
        "#]],
    );
    check(
        "template a { text \"a\" }",
        expect![[r#"
            error[missing-argument]: graph "g" has no `output` block
              1:7 `g`
              help: `output` names the fields of the answer, such as `answer "{{ node }}"`
        "#]],
    );
    check(
        "output { }",
        expect![[r#"
            error[missing-argument]: graph "g" answers with no fields
              2:1 `output`
              help: `output` names the fields of the answer, such as `answer "{{ node }}"`
        "#]],
    );
}

#[test]
fn limits() {
    check(
        r#"timeout "1s"
        embed a { model minilm; text "x"; timeout "5s"; max-ongoing-requests 8; batch max-size=16; resources cpu=3; replicas min=2 }
        embed b { model minilm; text "x"; timeout "500ms"; resources cpu=1 gpu=0.75 memory="5GiB" }
        embed c { model minilm; text "x"; resources gpu=0.5 memory="4GiB" }
        output { o "{{ [a, b, c] }}" }"#,
        expect![[r#"
            error[resources]: the nodes take 8 cores, and the machine has 4 cores
              3:15 `a`: 2 replicas take 6 cores
              4:15 `b`: 1 core
              5:15 `c`: 1 core
            error[nested-timeout]: embed "a" may take 5s, longer than its whole graph
              3:51 `"5s"`
              2:9 `"1s"`: the graph may take 1s
            warning[batch-size]: a batch of 16 never fills: a replica holds 8 items at most
              3:96 `16`
              3:78 `8`: the most that a replica holds
              help: raise `max-ongoing-requests` or lower `max-size`
            error[resources]: the nodes take 1.25 GPUs, and the machine has 1 GPU
              4:15 `b`: 0.75 GPUs
              5:15 `c`: 0.5 GPUs
            error[resources]: the nodes take 9GiB of memory, and the machine has 8GiB of memory
              4:15 `b`: 5GiB of memory
              5:15 `c`: 4GiB of memory
        "#]],
    );
    let file = r#"
        server { timeout "2s" }
        model m { source "file:x" }
        graph g { embed a { model m; text "x"; timeout "5s" }; output { o "{{ a }}" } }
    "#;
    expect![[r#"
        error[nested-timeout]: embed "a" may take 5s, longer than its whole graph
          4:56 `"5s"`
          help: give the graph a `timeout` of its own; it is 2s
    "#]]
    .assert_eq(&problems_of_file(file));
}

#[test]
fn ten_mistakes_are_ten_diagnostics() {
    let file = r#"
model minilm { source "file:x" }
model minilm { source "file:y" }
index docs { path "docs.index"; model minilmm }
graph g route="/docs" {
    input { query; top-k type=integer default="many" }
    embed question { model minilm; text "{{ input.qury }}"; max-dealy "5ms" }
    search hits { index doks; vector "{{ question }}"; top-k "{{ input.query }}" }
    template a { text "{{ b | uper }}" }
    template b { text "{{ a }}" }
    template c { text "{{ hits" }
    output { answer "{{ a }} {{ c }}"; hits "{{ hits }}" }
}
"#;
    let diagnostics = check_file(file).unwrap_err();
    expect![[r#"
        error[wrong-type]: the default breaks the rules of its own field
          6:47 `"many"`
          6:20 `top-k`: the type of this field is integer
          help: write a value that a request could send
        error[unknown-option]: unknown option "max-dealy" for embed question
          7:61 `max-dealy`
          help: it has: model, endpoint, text, when, each, each-width, fallback, resources, batch, replicas, max-ongoing-requests, max-queued-requests, when-full, timeout, retry, breaker, hedge, cache, health-check-period, graceful-shutdown-timeout, recycle
        error[duplicate-name]: a second model is named "minilm"
          3:7 `minilm`
          2:7 `minilm`: the first one
        error[unknown-name]: unknown model "minilmm"
          4:39 `minilmm`
          help: did you mean "minilm"?
        error[duplicate-route]: route "/docs" belongs to the engine
          5:15 `"/docs"`
          help: the engine serves /docs and what is below it itself
        error[unknown-field]: no field "qury" in the request
          7:51 `qury`
          help: did you mean "query"?
        error[unknown-name]: unknown index "doks"
          8:25 `doks`
          help: did you mean "docs"?
        error[type-mismatch]: `top-k` of search "hits" takes an integer, not a text
          8:66 `input.query`: this is a text
          6:13 `query`: `input.query` is a text
        error[cycle]: nodes wait for each other: a → b → a
          9:27 `b`: "a" reads "b"
          10:27 `a`: "b" reads "a"
        error[unknown-name]: unknown filter "uper"
          9:31 `uper`
          help: did you mean "upper"?
        error[bad-template]: template does not compile
          11:27 `hits`: unexpected end of input, expected end of variable block
    "#]].assert_eq(&problems_of_file(file));
    assert_eq!(
        diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.is_error())
            .count(),
        11
    );
}

#[test]
fn the_examples_of_the_language_check() {
    let rag = include_str!("../../schema/tests/cases/rag.kdl");
    expect![[r#"
        warning[batch-size]: a batch of 32 never fills: a replica holds 16 items at most
          27:24 `32`
          29:30 `16`: the most that a replica holds
          help: raise `max-ongoing-requests` or lower `max-size`
    "#]]
    .assert_eq(&problems_of_file(rag));
}
