//! Names that templates and declarations use: found, or explained.

mod kit;

use expect_test::{Expect, expect};
use kit::{problems, problems_of_file};

fn check(body: &str, expected: Expect) {
    expected.assert_eq(&problems(body));
}

#[test]
fn a_misspelt_node_is_guessed() {
    check(
        r#"input { query }
        embed question { model minilm; text "{{ input.query }}" }
        search hits { index docs; vector "{{ qestion }}" }
        output { hits "{{ hits }}" }"#,
        expect![[r#"
            error[unknown-name]: unknown name "qestion"
              4:46 `qestion`
              help: did you mean "question"?
        "#]],
    );
}

#[test]
fn a_field_of_the_request_without_input_is_explained() {
    check(
        r#"input { query }; output { a "{{ query }}" }"#,
        expect![[r#"
        error[unknown-name]: unknown name "query"
          2:33 `query`
          help: a field of the request is written `input.query`
    "#]],
    );
}

#[test]
fn unknown_fields_are_guessed_or_listed() {
    check(
        r#"input { query; top-k type=integer default=5 }
        search hits { index docs; text "{{ input.qury }}"; top-k "{{ input.top-k }}" }
        output {
            a "{{ hits[0].txt }}"
            b "{{ hits[0].metadata.title }}"
            c "{{ hits.id }}"
            d "{{ input.query.upper }}"
            e "{{ hits | map(attribute='scor') | list }}"
            f "{{ input['top-k'] }}"
            g "{{ header['X-Lora-Id'] }}"
            h "{{ {'x': 1}.y }}"
            i "{{ input.nothing_like_it }}"
        }"#,
        expect![[r#"
            error[unknown-field]: no field "qury" in the request
              3:50 `qury`
              help: did you mean "query"?
            error[unknown-name]: "input.top-k" is a subtraction here
              3:70 `input.top-k`
              help: in templates a "-" in a name is written "_": `input.top_k`
            error[unknown-field]: no field "txt" in a document
              5:27 `txt`
              help: did you mean "text"?
            error[unknown-field]: no field "id" in documents
              7:24 `id`
              help: one element is `[0]`; the fields of all are `| map(attribute='id') | list`
            error[unknown-field]: no field "upper" in a text
              8:31 `upper`
              help: there is a filter of that name: `| upper`
            error[unknown-field]: no field "scor" in a document
              9:40 `'scor'`
              help: did you mean "score"?
            error[unknown-field]: no field "top-k" in the request
              10:25 `'top-k'`
              help: in templates a "-" in a name is written "_": `input.top_k`
            error[unknown-field]: no header is named "X-Lora-Id" in templates
              11:26 `'X-Lora-Id'`
              help: headers are lower case with "_" for "-": `header.x_lora_id`
            error[unknown-field]: no field "y" in a map
              12:28 `y`
              help: it has x
            error[unknown-field]: no field "nothing_like_it" in the request
              13:25 `nothing_like_it`
              help: it has query and top_k
        "#]],
    );
}

#[test]
fn names_with_a_hyphen_are_explained() {
    check(
        r#"input { query }
        search the-hits { index docs; text "{{ input.query }}" }
        output {
            a "{{ the-hits }}"
            b "{{ the-hits[0].text }}"
            c "{{ the-hits | length }}"
            d "{% for h in the-hits %}{{ h.id }}{% endfor %}"
            e "{{ the_hits[0].id }}"
        }"#,
        expect![[r#"
            error[unknown-name]: "the-hits" is a subtraction here
              5:19 `the-hits`
              help: in templates a "-" in a name is written "_": `the_hits`
            error[unknown-name]: "the-hits" is a subtraction here
              6:19 `the-hits`
              help: in templates a "-" in a name is written "_": `the_hits`
            error[unknown-name]: "the-hits" is a subtraction here
              7:19 `the-hits`
              help: in templates a "-" in a name is written "_": `the_hits`
            error[unknown-name]: "the-hits" is a subtraction here
              8:28 `the-hits`
              help: in templates a "-" in a name is written "_": `the_hits`
        "#]],
    );
}

#[test]
fn a_subtraction_of_known_names_is_one() {
    check(
        r#"input { a type=integer; b type=integer; a-b type=integer }
        output { x "{{ input.a - input.b }}"; y "{{ input.a-input.b }}" }"#,
        expect![],
    );
}

#[test]
fn filters_tests_functions_and_methods() {
    check(
        r#"input { query }
        output {
            a "{{ input.query | upcase }}"
            b "{{ input.query | uper }}"
            c "{{ input.query is definde }}"
            d "{{ rang(3) }}"
            e "{{ length(input.query) }}"
            f "{{ input.query.upper() }}"
            g "{{ input.query | list | map('uper') | list }}"
            h "{{ input.query | list | select('evn') | list }}"
            i "{{ input() }}"
            j "{{ loop.index }} {{ item }}"
        }"#,
        expect![[r#"
            error[unknown-name]: unknown filter "upcase"
              4:33 `upcase`
            error[unknown-name]: unknown filter "uper"
              5:33 `uper`
              help: did you mean "upper"?
            error[unknown-name]: unknown test "definde"
              6:34 `definde`
              help: did you mean "defined"?
            error[unknown-name]: unknown function "rang"
              7:19 `rang`
              help: did you mean "range"?
            error[unknown-name]: unknown function "length"
              8:19 `length`
              help: "length" is a filter: write `x | length`
            error[unknown-name]: values have no methods, so no "upper"
              9:31 `upper`
              help: there is a filter of that name: `input.query | upper`
            error[unknown-name]: unknown filter "uper"
              10:44 `'uper'`
              help: did you mean "upper"?
            error[unknown-name]: unknown test "evn"
              11:47 `'evn'`
              help: did you mean "even"?
            error[type-mismatch]: "input" is not a function
              12:19 `input`
            error[unknown-name]: unknown name "loop"
              13:19 `loop`
              help: only the body of {% for %} has a `loop`
            error[unknown-name]: unknown name "item"
              13:36 `item`
              help: only the arguments of a node with `each` have an `item`
        "#]],
    );
}

#[test]
fn variables_of_a_template_have_scopes() {
    check(
        r#"input { query }
        search hits { index docs; text "{{ input.query }}" }
        output {
            good """
                {% set n = hits | length %}{{ n }}
                {% for hit in hits if hit.score > 0.5 %}{{ loop.index }}/{{ n }} {{ hit.id }}{% else %}none{% endfor %}
                {% with a = 1, b = n %}{{ a + b }}{% endwith %}
                {% set text %}x{% endset %}{{ text | upper }}
                {% filter upper %}{{ input.query }}{% endfilter %}
                {% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}
                {% for key, value in {'a': 1} | items %}{{ key }}{{ value }}{% endfor %}
                """
            bad """
                {% for hit in hits %}{{ hit.idd }}{% endfor %}{{ hit }}
                {% with a = 1 %}{{ a }}{% endwith %}{{ a }}
                {{ later }}{% set later = 1 %}
                """
        }"#,
        expect![[r#"
            error[unknown-field]: no field "idd" in a document
              15:45 `idd`
              help: did you mean "id"?
            error[unknown-name]: unknown name "hit"
              15:66 `hit`
              help: did you mean "hits"?
            error[unknown-name]: unknown name "a"
              16:56 `a`
            error[unknown-name]: unknown name "later"
              17:20 `later`
        "#]],
    );
}

#[test]
fn two_of_one_name() {
    check(
        r#"input { top-k; top_k }
        template a-b { text "{{ input.top_k }}" }
        template a_b { text "x" }
        template a-b { text "y" }
        output { x "{{ a_b }}"; x "again" }"#,
        expect![[r#"
            error[duplicate-name]: a second field of the request is named "top_k"
              2:16 `top_k`
              2:9 `top-k`: the first one
              help: "-" and "_" are the same in names
            error[duplicate-name]: a second node is named "a_b"
              4:18 `a_b`
              3:18 `a-b`: the first one
              help: "-" and "_" are the same in names
            error[duplicate-name]: a second node is named "a-b"
              5:18 `a-b`
              3:18 `a-b`: the first one
            error[duplicate-name]: a second field of the answer is named "x"
              6:33 `x`
              6:18 `x`: the first one
        "#]],
    );
    let file = r#"
        model m { source "file:a" }
        model m { source "file:b" }
        index i { path "x"; model n }
        graph g { input { q }; search s { index j; text "{{ input.q }}" }; output { a "{{ s }}" } }
        graph g { output { a 1 } }
        graph docs { output { a 1 } }
        graph h route="/v1/x" { output { a 1 } }
        graph i route="/g/" { output { a 1 } }
    "#;
    expect![[r#"
        error[duplicate-name]: a second model is named "m"
          3:15 `m`
          2:15 `m`: the first one
        error[unknown-name]: unknown model "n"
          4:35 `n`
          help: there is m
        error[unknown-name]: unknown index "j"
          5:49 `j`
          help: there is i
        error[duplicate-name]: a second graph is named "g"
          6:15 `g`
          5:15 `g`: the first one
        error[duplicate-route]: route "/docs" belongs to the engine
          7:15 `docs`
          help: the engine serves /docs and what is below it itself
        error[duplicate-route]: route "/v1/x" belongs to the engine
          8:23 `"/v1/x"`
          help: the engine serves /v1 and what is below it itself
        error[duplicate-route]: a second graph is served at "/g/"
          9:23 `"/g/"`
          5:15 `g`: the first one
    "#]]
    .assert_eq(&problems_of_file(file));
}

#[test]
fn adapters_that_are_named_are_there() {
    let file = |models: &str, adapter: &str| {
        format!(
            r#"{models}
            graph g {{
                input {{ text }}
                generate answer {{ model tuned adapter="{adapter}"; prompt "{{{{ input.text }}}}" }}
                output {{ answer "{{{{ answer }}}}" }}
            }}"#
        )
    };
    let tuned = r#"model tuned { source "file:m"; adapters "adapters/" }"#;
    for good in ["qa", "legal", "{{ input.text }}"] {
        assert_eq!(problems_of_file(&file(tuned, good)), "", "{good}");
    }
    expect![[r#"
        error[unknown-name]: model "tuned" has no adapter "leagl"
          4:55 `"leagl"`
          help: did you mean "legal"?
    "#]]
    .assert_eq(&problems_of_file(&file(tuned, "leagl")));
    expect![[r#"
        error[unknown-name]: model "tuned" has no adapter "summary"
          4:55 `"summary"`
          help: there is legal and qa
    "#]]
    .assert_eq(&problems_of_file(&file(tuned, "summary")));
    expect![[r#"
        error[unknown-name]: model "tuned" has no adapters
          4:55 `"qa"`
          1:7 `tuned`: it is declared here
          help: name their folder in the model: `adapters "adapters/"`
    "#]]
    .assert_eq(&problems_of_file(&file(
        r#"model tuned { source "file:m" }"#,
        "qa",
    )));
    // Without a folder, those that are declared are all; what is not known is not guessed at.
    let declared =
        r#"model tuned { source "file:m"; adapter own { source "file:a" }; adapters pin=qa }"#;
    expect![[r#"
        error[unknown-name]: model "tuned" has no adapter "qa"
          1:78 `qa`
          help: there is own
        error[unknown-name]: model "tuned" has no adapter "qa"
          4:55 `"qa"`
          help: there is own
    "#]]
    .assert_eq(&problems_of_file(&file(declared, "qa")));
    let elsewhere = file(tuned, "any").replace("tuned", "other");
    assert_eq!(problems_of_file(&elsewhere), "");
    let twice = r#"model tuned {
        source "file:m"
        adapter own { source "file:a" }
        adapter own { source "file:b" }
    }"#;
    expect![[r#"
        error[duplicate-name]: a second adapter is named "own"
          4:17 `own`
          3:17 `own`: the first one
    "#]]
    .assert_eq(&problems_of_file(&file(twice, "own")));
}

#[test]
fn nodes_named_in_clauses() {
    check(
        r#"template a { text "a"; fallback node=stanby }
        template standby { text "b" }
        merge m { from a standbye }
        output { x "{{ m }}" }"#,
        expect![[r#"
            error[unknown-name]: unknown node "stanby"
              2:38 `stanby`
              help: did you mean "standby"?
            error[unknown-name]: unknown node "standbye"
              4:26 `standbye`
              help: did you mean "standby"?
        "#]],
    );
}

#[test]
fn a_template_that_does_not_compile_is_shown_at_the_place() {
    check(
        r#"input { query }
        output {
            a "{{ input.query | }}"
            b "{{ input.query "
            c "{% for x in input %}{{ x }}"
            d "{% macro m() %}{% endmacro %}"
            e "{{ 'open }}"
            f "line one\n{{ input..query }}"
            g """
                first
                  {{ ) }}
                """
            h "{% if input.query %}a{% break %}{% endif %}"
        }"#,
        expect![[r#"
            error[bad-template]: template does not compile
              4:33 `}}`: unexpected end of variable block, expected identifier
            error[bad-template]: template does not compile
              5:25 `query`: unexpected end of input, expected end of variable block
            error[bad-template]: template does not compile
              6:41 `}}`: unexpected end of input, expected end of block
            error[bad-template]: a template of a graph stands for itself: it has no macros
              7:19 `macro m() %}{% endmacro`
            error[bad-template]: template does not compile
              8:26 `}`: unexpected end of string
            error[bad-template]: template does not compile
              9:35 `.`: unexpected `.`, expected identifier or integer
            error[bad-template]: template does not compile
              12:22 `)`: unexpected `)`
            error[bad-template]: template does not compile
              14:40 `break`: 'break' must be placed inside a loop
        "#]],
    );
}

#[test]
fn what_a_python_file_does_not_define_is_guessed() {
    check(
        r#"input { query type=string }
        python a { file "rewrite.py"; class "QueryReWriter"; arguments { q "{{ input.query }}" } }
        python b { file "gone.py"; function "f" }
        python c { file "not-looked-at.py"; function "f" }
        output { a "{{ a }}"; b "{{ b }}"; c "{{ c }}" }"#,
        expect![[r#"
            error[unknown-name]: rewrite.py has no class `QueryReWriter`
              3:45 `"QueryReWriter"`
              help: did you mean "QueryRewriter"?
            error[unreadable-file]: cannot read gone.py: no such file
              4:25 `"gone.py"`
        "#]],
    );
}

#[test]
fn a_host_that_a_request_chooses_must_be_allowed() {
    check(
        r#"input { host type=string; path type=string }
        http a { url "https://{{ input.host }}/x" }
        http b { url "https://fixed.example{{ input.path }}" }
        http c { url "https://{{ input.host }}/x"; allow-host "one.example" }
        http d { url "https://fixed.example/{{ input.path }}"; result "{{ body. }}" }
        output { a "{{ a }}"; b "{{ b }}"; c "{{ c }}"; d "{{ d }}" }"#,
        expect![[r#"
            error[missing-option]: the host of this address is not fixed
              3:22 `"https://{{ input.host }}/x"`
              help: write the host out, or name those it may be with `allow-host`
            error[missing-option]: the host of this address is not fixed
              4:22 `"https://fixed.example{{ input.path }}"`
              help: write the host out, or name those it may be with `allow-host`
            error[bad-template]: template does not compile
              6:81 `}}`: unexpected end of variable block, expected identifier or integer
        "#]],
    );
}
