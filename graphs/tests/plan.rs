//! The plan's text for every kind of change.

mod kit;

use expect_test::{Expect, expect};
use graphs::{
    Content, Plan,
    plan::{Capacity, plan},
};
use kit::check_file;
use schema::Name;

const ADJUSTS: Capacity = Capacity {
    adjusts_pools: true,
    memory: Some(8 << 30),
};
const REPLACES: Capacity = Capacity {
    adjusts_pools: false,
    ..ADJUSTS
};

const FILE: &str = r#"
server { listen "127.0.0.1:8000"; max-body "1MiB" }
model minilm { source "hf:sentence-transformers/all-MiniLM-L6-v2" }
model gemma { source "file:gemma.gguf" }
index docs { path "docs.index"; model minilm }
graph rag route="/rag" {
    input {
        query type=string
    }
    embed question {
        model minilm
        text "{{ input.query }}"
        max-queued-requests 256
    }
    search hits { index docs; vector "{{ question }}"; top-k 5 }
    template shown { text "{{ hits | length }} hits" }
    generate answer {
        model gemma
        prompt "{{ shown }} {{ input.query }}"
        max-tokens 64
    }
    output {
        answer "{{ answer }}"
    }
}
graph echo {
    input { text type=string }
    template said { text "{{ input.text }}" }
    output { said "{{ said }}" }
}
"#;

fn between(before: &str, after: &str, capacity: Capacity) -> Plan {
    let checked = |text: &str| {
        let program = check_file(text);
        program.unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
    };
    plan(&checked(before), &checked(after), capacity)
}

/// The file with replacements, which must all be found.
fn edited(edits: &[(&str, &str)]) -> String {
    let mut text = FILE.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from} is not in:\n{text}");
        text = text.replacen(from, to, 1);
    }
    text
}

/// What differs from a plan that keeps everything, as text.
fn check_with(edits: &[(&str, &str)], capacity: Capacity, expected: Expect) {
    let plan = between(FILE, &edited(edits), capacity).to_string();
    let shown: Vec<_> = plan
        .lines()
        .filter(|line| !line.starts_with("keep"))
        .collect();
    expected.assert_eq(&(shown.join("\n") + "\n"));
}

fn check(edits: &[(&str, &str)], expected: Expect) {
    check_with(edits, ADJUSTS, expected);
}

#[test]
fn an_unchanged_file_keeps_everything() {
    expect![[r#"
        keep     model minilm
        keep     model gemma
        keep     index docs
        keep     graph rag
        keep       embed question
        keep       search hits
        keep       template shown
        keep       generate answer
        keep     graph echo
        keep       template said
        nothing changes
    "#]]
    .assert_eq(&between(FILE, FILE, ADJUSTS).to_string());
}

#[test]
fn comments_and_moved_lines_change_nothing() {
    let moved = [
        ("graph rag", "// better\n\n\ngraph rag"),
        ("; top-k 5", "\n top-k 5"),
    ];
    check(
        &moved,
        expect![[r#"
        nothing changes
    "#]],
    );
    assert!(between(FILE, &edited(&moved), ADJUSTS).is_empty());
}

#[test]
fn graphs_in_another_order_are_the_same() {
    let (rest, echo) = FILE.split_at(FILE.find("graph echo").unwrap());
    let at = rest.find("graph rag").unwrap();
    let (head, rag) = rest.split_at(at);
    let plan = between(FILE, &format!("{head}{echo}{rag}"), ADJUSTS);
    assert!(plan.is_empty(), "{plan}");
}

#[test]
fn server() {
    check(
        &[("127.0.0.1:8000", "127.0.0.1:9000")],
        expect![[r#"
        replace  listen: listen 127.0.0.1:8000 → 127.0.0.1:9000 (overlap)
        nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
    "#]],
    );
    check(
        &[("listen \"127", "admin \"127.0.0.1:7000\"; listen \"127")],
        expect![[r#"
            replace  admin: admin 127.0.0.1:8001 → 127.0.0.1:7000 (overlap)
            nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[("1MiB", "2MiB")],
        expect![[r#"
        adjust   server: max-body 1MiB → 2MiB
        nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
    "#]],
    );
    check(
        &[("max-body", "api-key (env)\"KEY\"; timeout \"5s\"; max-body")],
        expect![[r#"
            adjust   server: api-key changed, timeout 60s → 5s
            adjust   graph rag: timeout 60s → 5s
            adjust   graph echo: timeout 60s → 5s
            nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
}

#[test]
fn models() {
    check(
        &[(
            "hf:sentence-transformers/all-MiniLM-L6-v2",
            "hf:example/other",
        )],
        expect![[r#"
            replace  model minilm: source changed (overlap)
            replace    embed question: model minilm changed (overlap)
            nodes: 4 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        "#]],
    );
    check(
        &[("\"file:gemma.gguf\"", "\"file:gemma.gguf\"; max-tokens 512")],
        expect![[r#"
            replace  model gemma: max-tokens default → 512 (overlap)
            replace    generate answer: model gemma changed (overlap)
            nodes: 4 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        "#]],
    );
    check(
        &[(
            "\"file:gemma.gguf\"",
            "\"file:gemma.gguf\"; adapters \"adapters/\"",
        )],
        expect![[r#"
            replace  model gemma: adapters added (overlap)
            replace    generate answer: model gemma changed (overlap)
            nodes: 4 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        "#]],
    );
    check(
        &[(
            "model gemma {",
            "model spare { source \"hf:example/spare\" }\nmodel gemma {",
        )],
        expect![[r#"
            start    model spare
            nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[
            (
                "index docs {",
                "model small { source \"hf:example/small\" }\nindex docs {",
            ),
            ("model gemma\n", "model small\n"),
        ],
        expect![[r#"
            start    model small
            replace    generate answer: model gemma → small (overlap)
            nodes: 4 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        "#]],
    );
}

#[test]
fn indexes() {
    check(
        &[("docs.index", "other.index")],
        expect![[r#"
        replace  index docs: place changed (overlap)
        replace    search hits: index docs changed (overlap)
        nodes: 4 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
    "#]],
    );
    check(
        &[("docs.index\"", "docs.index\"; from \"documents/\"")],
        expect![[r#"
            replace  index docs: from added (overlap)
            replace    search hits: index docs changed (overlap)
            nodes: 4 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        "#]],
    );
}

#[test]
fn what_requests_bring_along_keeps_the_replicas() {
    check(
        &[("{{ shown }} {{ input.query }}", "Say: {{ shown }}")],
        expect![[r#"
            adjust     generate answer: prompt changed
            nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[("max-tokens 64", "max-tokens 32")],
        expect![[r#"
        adjust     generate answer: max-tokens 64 → 32
        nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
    "#]],
    );
    check(
        &[("max-tokens 64", "max-tokens 64; temperature 0.5")],
        expect![[r#"
            adjust     generate answer: temperature 0 → 0.5
            nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[("; top-k 5", "")],
        expect![[r#"
        adjust     search hits: top-k 5 → 10
        nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
    "#]],
    );
    check(
        &[(
            "model gemma\n",
            "model gemma adapter=\"{{ header.x_lora_id }}\"\n",
        )],
        expect![[r#"
            adjust     generate answer: adapter added
            nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[("{{ hits | length }} hits", "{{ hits | length }} found")],
        expect![[r#"
            adjust     template shown: text changed
            nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[(
            "max-tokens 64",
            "fallback \"sorry\"\nwhen \"{{ hits | length > 0 }}\"",
        )],
        expect![[r#"
            adjust     generate answer: max-tokens 64 → 256, when added, fallback added
            nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
}

#[test]
fn limits_are_adjusted_where_the_pool_can() {
    let edits = [(
        "max-queued-requests 256",
        "max-queued-requests 512; timeout \"2s\"",
    )];
    check(
        &edits,
        expect![[r#"
        adjust     embed question: max-queued-requests 256 → 512, timeout default → 2s
        nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
    "#]],
    );
    check_with(
        &edits,
        REPLACES,
        expect![[r#"
        replace    embed question: max-queued-requests 256 → 512, timeout default → 2s (overlap)
        nodes: 4 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
    "#]],
    );
}

#[test]
fn batches_scaling_and_care() {
    check(
        &[(
            "max-queued-requests 256",
            "batch max-size=8 max-wait=\"5ms\"",
        )],
        expect![[r#"
            adjust     embed question: batch max-size 32 → 8, batch max-wait 0ns → 5ms, max-queued-requests 256 → default
            nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[(
            "max-queued-requests 256",
            "max-queued-requests 256; replicas min=2 max=4 upscale-delay=\"5s\"",
        )],
        expect![[r#"
            adjust     embed question: replicas min 1 → 2, replicas max 1 → 4, upscale-delay 30s → 5s
            nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[(
            "max-queued-requests 256",
            "max-queued-requests 256; retry max=2; breaker; hedge; cache ttl=\"1m\"",
        )],
        expect![[r#"
            adjust     embed question: retry added, breaker added, hedge added, cache added
            nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check_with(
        &[(
            "max-queued-requests 256",
            "max-queued-requests 256; when-full too-many-requests",
        )],
        REPLACES,
        expect![[r#"
            adjust     embed question: when-full unavailable → toomanyrequests
            nodes: 4 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
}

#[test]
fn resources_need_other_replicas() {
    check(
        &[(
            "max-queued-requests 256",
            "max-queued-requests 256; resources cpu=2",
        )],
        expect![[r#"
            replace    embed question: resources cpu 1 → 2 (overlap)
            nodes: 4 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        "#]],
    );
}

#[test]
fn what_does_not_fit_twice_pauses() {
    let with = |memory: &str| {
        edited(&[(
            "max-tokens 64",
            &format!("resources cpu=1 memory=\"{memory}\""),
        )])
    };
    let plan = between(&with("5GiB"), &with("4GiB"), ADJUSTS).to_string();
    let line = plan.lines().find(|line| line.starts_with("replace"));
    expect!["replace    generate answer: resources memory 5GiB → 4GiB (pause)"]
        .assert_eq(line.unwrap());
    // What needs the same replicas needs no other place for them.
    let plan = between(
        &with("5GiB"),
        &with("5GiB").replace("top-k 5", "top-k 6"),
        ADJUSTS,
    );
    assert_eq!(plan.pauses().count(), 0);
}

#[test]
fn nodes_come_and_go() {
    check(
        &[
            (
                "    template shown",
                "    embed second { model minilm; text \"x\" }\n    template shown",
            ),
            (
                "answer \"{{ answer }}\"",
                "answer \"{{ answer }}\"\n second \"{{ second }}\"",
            ),
        ],
        expect![[r#"
            adjust   graph rag: output changed
            start      embed second
            nodes: 5 kept, 0 adjusted, 1 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[
            (
                "    template shown { text \"{{ hits | length }} hits\" }\n",
                "",
            ),
            ("{{ shown }}", "{{ hits | length }}"),
        ],
        expect![[r#"
            adjust     generate answer: prompt changed
            stop       shown
            nodes: 3 kept, 1 adjusted, 0 started, 0 replaced, 1 stopped
        "#]],
    );
}

#[test]
fn renamed_nodes_go_on() {
    check(
        &[
            ("embed question", "embed query"),
            ("{{ question }}", "{{ query }}"),
        ],
        expect![[r#"
            adjust     embed query: name question → query
            adjust     search hits: vector changed
            nodes: 3 kept, 2 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
}

#[test]
fn another_kind_under_the_same_name_is_another_node() {
    check(
        &[
            (
                "template shown { text \"{{ hits | length }} hits\" }",
                "split shown { text \"{{ input.query }}\" }",
            ),
            ("{{ shown }}", "{{ shown[0] }}"),
        ],
        expect![[r#"
            start      split shown
            adjust     generate answer: prompt changed
            stop       shown
            nodes: 3 kept, 1 adjusted, 1 started, 0 replaced, 1 stopped
        "#]],
    );
}

#[test]
fn graphs() {
    check(
        &[("route=\"/rag\"", "route=\"/ask\"")],
        expect![[r#"
        adjust   graph rag: route /rag → /ask
        nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
    "#]],
    );
    check(
        &[("route=\"/rag\"", "route=\"/rag\" timeout=\"5s\"")],
        expect![[r#"
            adjust   graph rag: timeout 60s → 5s
            nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[("query type=string", "query type=string min-length=1")],
        expect![[r#"
            adjust   graph rag: input changed
            nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[("answer \"{{ answer }}\"", "answer \"{{ answer }}!\"")],
        expect![[r#"
            adjust   graph rag: output changed
            nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    check(
        &[("graph rag", "graph ask")],
        expect![[r#"
        adjust   graph ask: name rag → ask
        nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
    "#]],
    );
    check(
        &[("graph echo", "graph other")],
        expect![[r#"
        start    graph other
        start      template said
        stop     graph echo
        stop       said
        nodes: 4 kept, 0 adjusted, 1 started, 0 replaced, 1 stopped
    "#]],
    );
    check(
        &[(
            "graph echo",
            "graph more { template a { text \"x\" }\n output { a \"{{ a }}\" } }\ngraph echo",
        )],
        expect![[r#"
            start    graph more
            start      template a
            nodes: 5 kept, 0 adjusted, 1 started, 0 replaced, 0 stopped
        "#]],
    );
}

#[test]
fn rollouts() {
    let canary = "rollout { canary { step \"5%\"; step \"12.5%\" } }";
    check(
        &[("max-body", &format!("{canary}; max-body"))],
        expect![[r#"
            adjust   server: rollout added
            nodes: 5 kept, 0 adjusted, 0 started, 0 replaced, 0 stopped
        "#]],
    );
    let shown = ["canary", "blue-green", "shadow share=\"20%\""].map(|way| {
        let with =
            |text: &str| text.replacen("max-body", &format!("rollout {{ {way} }}; max-body"), 1);
        let next = edited(&[("; top-k 5", "")]);
        between(&with(FILE), &with(&next), ADJUSTS).to_string()
    });
    let last = shown.iter().flat_map(|plan| plan.lines().last());
    expect![[r#"
        rollout: canary, 5%, 25%, 50%
        rollout: blue-green, waits for `engine promote`
        rollout: shadow, 20% of requests are copied, waits for `engine promote`
    "#]]
    .assert_eq(&last.map(|line| format!("{line}\n")).collect::<String>());
    // Nobody notices another address, so that there is nothing to roll out.
    let moved = "127.0.0.1:9000\"; rollout { blue-green }";
    let plan = between(FILE, &edited(&[("127.0.0.1:8000\"", moved)]), ADJUSTS);
    assert_eq!(plan.rollout, None);
}

/// Whether a function is given lists is settled when its worker starts.
#[test]
fn python_that_gets_batches_is_built_anew() {
    let with = |options: &str| {
        format!(
            r#"graph g {{
                input {{ query type=string }}
                python better {{
                    file "rewrite.py"; class "QueryRewriter"; returns string
                    arguments {{ query "{{{{ input.query }}}}" }}
                    {options}
                }}
                output {{ better "{{{{ better }}}}" }}
            }}"#
        )
    };
    let batch = with("batch max-size=4");
    let other = with("batch max-size=8");
    let plans = [(&with(""), &batch), (&batch, &other), (&batch, &with(""))]
        .map(|(before, after)| between(before, after, ADJUSTS).to_string());
    expect![[r#"
        keep     graph g
        replace    python better: batch added, batch max-size 32 → 4 (overlap)
        nodes: 0 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        keep     graph g
        adjust     python better: batch max-size 4 → 8
        nodes: 0 kept, 1 adjusted, 0 started, 0 replaced, 0 stopped
        keep     graph g
        replace    python better: batch removed, batch max-size 4 → 32 (overlap)
        nodes: 0 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
    "#]]
    .assert_eq(&plans.concat());
}

#[test]
fn files_that_changed_under_the_same_names() {
    const FILE: &str = r#"
model gemma { source "file:gemma.gguf" }
graph ask {
    input { query type=string }
    python better {
        file "rewrite.py"
        class "QueryRewriter"
        requirements "needs.txt"
        arguments { query "{{ input.query }}" }
        returns string
    }
    generate answer { model gemma; prompt "{{ better }}" }
    output { answer "{{ answer }}" }
}
"#;
    let over = |code: u64, needs: Option<u64>, weights: u64| {
        let needs = needs.map(|digest| ("needs.txt".to_owned(), digest));
        let content = Content {
            models: [(Name::new("gemma"), weights)].into(),
            files: [("rewrite.py".to_owned(), code)]
                .into_iter()
                .chain(needs)
                .collect(),
        };
        check_file(FILE).unwrap().with_content(content)
    };
    let changed = [
        over(2, Some(1), 1),
        over(1, Some(2), 1),
        over(1, Some(1), 2),
        over(2, Some(2), 2),
        // What is not known is no difference.
        over(1, None, 1),
        check_file(FILE).unwrap(),
    ];
    let before = over(1, Some(1), 1);
    let plans = changed.map(|after| plan(&before, &after, ADJUSTS).to_string());
    let shown = plans.iter().flat_map(|plan| plan.lines());
    let shown = shown.filter(|line| !line.starts_with("keep"));
    expect![[r#"
        replace    python better: python file changed (overlap)
        nodes: 1 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        replace    python better: requirements file changed (overlap)
        nodes: 1 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        replace  model gemma: files changed (overlap)
        replace    generate answer: model gemma changed (overlap)
        nodes: 1 kept, 0 adjusted, 0 started, 1 replaced, 0 stopped
        replace  model gemma: files changed (overlap)
        replace    python better: python file changed, requirements file changed (overlap)
        replace    generate answer: model gemma changed (overlap)
        nodes: 0 kept, 0 adjusted, 0 started, 2 replaced, 0 stopped
        nothing changes
        nothing changes
    "#]]
    .assert_eq(&shown.map(|line| format!("{line}\n")).collect::<String>());
}
