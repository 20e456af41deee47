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
        "input.query",
        "input.k",
        "input.maybe",
        "input.lane",
        "input.texts",
        "input.texts[0]",
        "input.any.thing[3]",
        "header.x_lora_id",
        "header.x_lora_id | default('qa')",
        "question",
        "question[0]",
        "vectors",
        "hits",
        "hits[0]",
        "hits[-1].score",
        "hits[:3]",
        "hits[0].metadata",
        "hits | map(attribute='id') | list",
        "hits | map(attribute='metadata.title') | list",
        "hits | length",
        "hits | first",
        "hits | map(attribute='text') | join(', ')",
        "hits | selectattr('score', 'gt', 0.5) | list",
        "hits | sort(attribute='score', reverse=true)",
        "hits | batch(2)",
        "hits | tojson",
        "hits | json",
        "hits | map(attribute='score') | sum",
        "hits | map(attribute='text') | map('upper') | list",
        "answer",
        "answer | trim",
        "lane",
        "lane == 'fast'",
        "1",
        "1.5",
        "-2",
        "'x'",
        "true",
        "none",
        "[1, 2]",
        "[1, 'a']",
        "(1, 2)",
        "{'a': 1}",
        "{'a': 1}.a",
        "[]",
        "input.k + 1",
        "input.k / 2",
        "input.k * 1.5",
        "input.query ~ 1",
        "input.query + 'x'",
        "'ab' * 3",
        "[1] + [2.5]",
        "input.k > 3",
        "1 < input.k < 5",
        "not input.k",
        "input.k in [1, 2]",
        "input.query is defined",
        "1 if input.k else 2.5",
        "'a' if input.k else 1",
        "'a' if input.k",
        "'a' if input.k else none",
        "input.query or 'x'",
        "input.maybe or 'x'",
        "input.maybe if input.maybe else 'x'",
        "input.maybe | default('x')",
        "input.maybe is none and input.k",
        "range(3)",
        "dict(a=1)",
        "input.k | int",
        "input.query | int",
        "input.k | float",
        "input.k | round(1)",
        "input.k | abs",
        "input.query | split(' ')",
        "input.texts | unique | list",
        "input.texts | reverse",
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
    expect![[r#"
        input.query                                        text
        input.k                                            integer
        input.maybe                                        text or none
        input.lane                                         one of a, b
        input.texts                                        list of text
        input.texts[0]                                     text
        input.any.thing[3]                                 any
        header.x_lora_id                                   text or none
        header.x_lora_id | default('qa')                   text
        question                                           vector of 384
        question[0]                                        number
        vectors                                            list of vector of 384
        hits                                               documents
        hits[0]                                            document
        hits[-1].score                                     number
        hits[:3]                                           documents
        hits[0].metadata                                   map
        hits | map(attribute='id') | list                  list of text
        hits | map(attribute='metadata.title') | list      list of any
        hits | length                                      integer
        hits | first                                       document
        hits | map(attribute='text') | join(', ')          text
        hits | selectattr('score', 'gt', 0.5) | list       documents
        hits | sort(attribute='score', reverse=true)       documents
        hits | batch(2)                                    list of documents
        hits | tojson                                      text
        hits | json                                        text
        hits | map(attribute='score') | sum                number
        hits | map(attribute='text') | map('upper') | list list of text
        answer                                             stream of text
        answer | trim                                      text
        lane                                               one of fast, slow, other
        lane == 'fast'                                     boolean
        1                                                  integer
        1.5                                                number
        -2                                                 integer
        'x'                                                text
        true                                               boolean
        none                                               any or none
        [1, 2]                                             list of integer
        [1, 'a']                                           list of any
        (1, 2)                                             list of integer
        {'a': 1}                                           map
        {'a': 1}.a                                         integer
        []                                                 list of any
        input.k + 1                                        integer
        input.k / 2                                        number
        input.k * 1.5                                      number
        input.query ~ 1                                    text
        input.query + 'x'                                  text
        'ab' * 3                                           text
        [1] + [2.5]                                        list of number
        input.k > 3                                        boolean
        1 < input.k < 5                                    boolean
        not input.k                                        boolean
        input.k in [1, 2]                                  boolean
        input.query is defined                             boolean
        1 if input.k else 2.5                              number
        'a' if input.k else 1                              any
        'a' if input.k                                     text or none
        'a' if input.k else none                           text or none
        input.query or 'x'                                 text
        input.maybe or 'x'                                 text
        input.maybe if input.maybe else 'x'                text
        input.maybe | default('x')                         text
        input.maybe is none and input.k                    any
        range(3)                                           list of integer
        dict(a=1)                                          map
        input.k | int                                      integer
        input.query | int                                  integer
        input.k | float                                    number
        input.k | round(1)                                 integer
        input.k | abs                                      integer
        input.query | split(' ')                           list of text
        input.texts | unique | list                        list of text
        input.texts | reverse                              list of text
    "#]]
    .assert_eq(&lines);
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
        template slow when="{{ not (input.lane == 'fast') }}" { text "{{ input.query }}" }
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
    let lines: String = nodes
        .nodes()
        .map(|(_, node)| format!("{}: {}\n", *node.decl.id, node.output))
        .collect();
    expect![[r#"
        a: vector of 384
        b: list of vector of 128
        c: list of vector of 384
        d: vector of 384 or none
        e: vector of 384 or none
        f: documents or none
        g: documents
        h: list of documents
        i: text
        j: documents or none
        fast: text or none
        slow: text or none
        all: text
        some: any
        k: stream of text
        l: list of text
        m: list of text
        n: any
        o: list of text
        p: list of vector of 384 or none
        r: stream of text
    "#]]
    .assert_eq(&lines);
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
        expect![[r#"
            error[type-mismatch]: `text` of embed "question" takes a text or a list of text, not a number
              3:49 `input.n`: this is a number
              2:16 `n`: `input.n` is a number
            error[type-mismatch]: `vector` of search "hits" takes a vector of 384, not a text
              4:46 `input.query`: this is a text
              2:9 `query`: `input.query` is a text
              15:7 `docs`: index "docs" holds vectors of 384
            error[type-mismatch]: `top-k` of search "hits" takes an integer, not a number
              4:73 `input.n`: this is a number
              2:16 `n`: `input.n` is a number
            error[type-mismatch]: `query` of rerank "top" takes a text, not documents
              5:46 `hits`: this is documents
              4:16 `hits`: `hits` is documents
            error[type-mismatch]: `documents` of rerank "top" takes documents or a list of text or a list of map, not a vector of 384
              5:70 `question`: this is a vector of 384
              3:15 `question`: `question` is a vector of 384
            error[type-mismatch]: `keep` of rerank "top" takes an integer, not a text
              5:89 `"5 of them"`: this is a text
            error[type-mismatch]: `prompt` of generate "answer" takes a text, not documents
              6:51 `top`: this is documents
              5:16 `top`: `top` is documents
            error[type-mismatch]: `max-tokens` of generate "answer" takes an integer, not a text
              6:71 `"many"`: this is a text
            error[type-mismatch]: `temperature` of generate "answer" takes a number, not a text
              6:95 `input.texts | first`: this is a text
              2:50 `texts`: `input.texts` is a list of text
            error[type-mismatch]: `stop` of generate "answer" takes a text, not an integer
              6:125 `5`: this is an integer
            error[type-mismatch]: `text` of split "pieces" takes a text, not a number
              7:33 `top[0].score`: this is a number
              5:16 `top`: `top` is documents
            error[type-mismatch]: `filter` of search "more" takes a map, not a list of text
              8:72 `input.texts`: this is a list of text
              2:50 `texts`: `input.texts` is a list of text
            error[type-mismatch]: `top-k` of search "more" takes an integer, not a text
              8:95 `"{{ input.flag }} "`: this is a text
              help: a template keeps the type of its value only if it is one `{{ expression }}` and nothing else
        "#]],
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
        expect![[r#"
            error[dimension-mismatch]: `vector` of search "hits" takes a vector of 384, not a vector of 128
              4:46 `question`: this is a vector of 128
              3:15 `question`: `question` is a vector of 128
              12:7 `docs`: index "docs" holds vectors of 384
        "#]],
    );
    expect![[r#"
        error[dimension-mismatch]: model "minilm" makes vectors of 384, and index "a" holds vectors of 100
          3:35 `minilm`: vectors of 384
          3:54 `100`: vectors of 100
    "#]].assert_eq(&kit::problems_of_file(
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
            l "{{ input.query[0] }}"
        }"#,
        expect![[r#"
            error[type-mismatch]: cannot add a text and an integer
              4:19 `input.query + 1`
              help: `~` joins values as text
            error[type-mismatch]: `-` takes a number, not a text
              5:19 `input.query`
            error[type-mismatch]: `-` takes a number, not a list of text
              6:20 `input.texts`
            error[type-mismatch]: `length` takes a list, not an integer
              7:29 `length`
            error[type-mismatch]: cannot loop over an integer
              8:28 `input.k`
            warning[none-possible]: `input.maybe` may be none, which `+` fails on
              9:19 `input.maybe`
              help: say what it is then, such as `input.maybe | default(0)`
            error[type-mismatch]: an integer has no elements
              12:19 `input.k[0]`
            error[type-mismatch]: a slice takes a number, not a text
              13:31 `'a'`
            error[type-mismatch]: an integer cannot be sliced
              14:19 `input.k`
            error[type-mismatch]: a text has no elements
              15:19 `input.query[0]`
              help: the first letter of a text is `[:1]`
        "#]],
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
        expect![[r#"
            error[type-mismatch]: `each` of embed "a" takes a list, not a text
              3:26 `input.query`: this is a text
              2:9 `query`: `input.query` is a text
            error[unknown-field]: no field "id" in a text
              4:72 `id`
            error[unknown-name]: unknown name "item"
              6:42 `item`
              help: only the arguments of a node with `each` have an `item`
            error[unknown-name]: unknown name "item"
              7:51 `item`
              help: only the arguments of a node with `each` have an `item`
            error[type-mismatch]: `each` of embed "f" takes a list, not a text
              8:22 `"over {{ input.texts }}"`: this is a text
        "#]],
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
        expect![[r#"
            error[type-mismatch]: the fallback of embed "a" takes a vector of 384, not a text
              3:68 `"none"`: this is a text
            error[type-mismatch]: the fallback of search "b" takes documents, not a text
              4:72 `c`: this is a text
              5:18 `c`: template "c" yields a text
        "#]],
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
        expect![[r#"
            warning[none-possible]: search "hits" is skipped where `top-k` is none
              3:71 `input.k`
              2:16 `k`: `input.k` is an integer or none
              help: say what it is then with `| default(…)`
            error[type-mismatch]: `prompt` of generate "answer" takes a text, not documents
              5:51 `hits`: this is documents
              3:16 `hits`: `hits` is documents or none
            warning[none-possible]: generate "answer" is skipped where `temperature` is none
              5:77 `input.t`
              2:47 `t`: `input.t` is a number or none
              help: say what it is then with `| default(…)`
        "#]],
    );
}
