//! Files that are meant to hurt: no panic, no overflow, no time without end.

mod kit;

use kit::{graph_file, problems};
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

/// Bytes of a hostile file.
const SIZE: usize = 64 << 10;

/// Repeats `part` up to the size of a hostile file.
fn filled(part: &str) -> String {
    part.repeat(SIZE / part.len())
}

/// Checks a graph body and says how long that took of this thread's own time, without what other
/// work took the processor away for; the whole time where the system does not tell.
fn time(body: &str) -> Duration {
    let document = kit::document(&graph_file(body));
    let start = (own_time(), SystemTime::now());
    let _ = graphs::check(document, &kit::facts());
    match (start.0, own_time()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => start.1.elapsed().unwrap_or(Duration::MAX),
    }
}

fn own_time() -> Option<Duration> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = statistics.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// A field of the answer with this template.
fn answer(template: &str) -> String {
    format!("output {{ a ##\"{template}\"## }}")
}

#[test]
fn long_chains_are_refused_and_do_not_overflow_the_stack() {
    let chains = [
        format!("{{{{ {}1 }}}}", filled("-")),
        format!("{{{{ {}1 }}}}", filled("not ")),
        format!("{{{{ 1{} }}}}", filled("+1")),
        format!("{{{{ input{} }}}}", filled(".a")),
        format!("{{{{ input{} }}}}", filled("[0]")),
        format!("{{{{ input{} }}}}", filled("|trim")),
        format!("{{{{ input{} }}}}", filled("()")),
        format!("{{{{ 1{} }}}}", filled(" if 1 else 1")),
        format!("{{{{ {} }}}}", filled("(")),
        format!("{{{{ {} }}}}", filled("[")),
        format!("{{{{ {} }}}}", filled("{1:")),
        format!("{{% if 1 %}}{}{{% endif %}}", filled("{% elif 1 %}")),
        filled("{% if 1 %}"),
        filled("{% for a in b %}"),
        format!("{{{{ 1 {} }}}}", filled("is defined ")),
        format!("{{{{ {}1 }}}}", filled("1 < ")),
    ];
    for chain in &chains {
        let found = problems(&answer(chain));
        assert!(
            found.contains("error[bad-template]"),
            "{} {found}",
            &chain[..40]
        );
    }
}

#[test]
fn types_do_not_grow_without_bound() {
    let node = |n: usize| {
        format!(
            "template n{n} {{ text \"{{{{ {{'a': n{0}, 'b': n{0}}} }}}}\" }}\n",
            n - 1
        )
    };
    let nodes: String = (1..200).map(node).collect();
    let body = format!("template n0 {{ text \"x\" }}\n{nodes}output {{ a \"{{{{ n199 }}}}\" }}");
    kit::program(&body);
    let set = "{% set a = {'x': a, 'y': a} %}".repeat(200);
    kit::program(&answer(&format!("{{% set a = 1 %}}{set}{{{{ a }}}}")));
    let list = "{% set a = [a] %}".repeat(1000);
    kit::program(&answer(&format!("{{% set a = 1 %}}{list}{{{{ a }}}}")));
}

/// The bound is generous; what it excludes is work that grows with the square of a file's size.
#[test]
fn large_files_are_checked_in_time() {
    let chain: String = (1..1500)
        .map(|n| format!("template n{n} {{ text \"{{{{ n{} }}}}\" }}\n", n - 1))
        .collect();
    let ring: String = (0..1500)
        .map(|n| {
            format!(
                "template n{n} {{ text \"{{{{ n{} }}}}\" }}\n",
                (n + 1) % 1500
            )
        })
        .collect();
    let cases: String = (0..2500).map(|n| format!("case \"c{n}\"; ")).collect();
    let lanes: String = (0..600)
        .map(|n| format!("template n{n} when=\"{{{{ s == 'c{n}' }}}}\" {{ text \"x\" }}\n"))
        .collect();
    let fields: String = (0..2000).map(|n| format!("f{n};")).collect();
    let reads: String = (0..2000).map(|n| format!("{{{{ input.f{n} }}}}")).collect();
    let unknown: String = (0..3000)
        .map(|n| format!("{{{{ unknown_{n} }}}}"))
        .collect();
    let files = [
        format!("template n0 {{ text \"x\" }}\n{chain} output {{ a \"{{{{ n1499 }}}}\" }}"),
        format!("{ring} output {{ a \"{{{{ n0 }}}}\" }}"),
        format!("switch s on=\"x\" {{ {cases} }}\n{lanes} output {{ a \"{{{{ s }}}}\" }}"),
        format!("input {{ {fields} }}\noutput {{ a \"{reads}\" }}"),
        format!("{chain} output {{ a \"{unknown}\" }}"),
        answer(&filled("{% set a = 1 %}{{ a }}")),
        answer(&filled("{{ header.a }} ")),
        answer(&format!("{{{{ [{}] }}}}", filled("1, "))),
        answer(&format!("{{{{ {{{}}} }}}}", filled("'a': 1, "))),
        answer(&format!("{{{{ '{}' }}}}", filled("x"))),
    ];
    for file in &files {
        let took = time(file);
        assert!(
            took < Duration::from_millis(250),
            "{took:?} for {}",
            &file[..60]
        );
    }
}

/// Words of which templates are made, put together without sense.
fn nonsense() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-",
        "if",
        "else",
        "elif",
        "endif",
        "for",
        "in",
        "endfor",
        "set",
        "endset",
        "with",
        "endwith",
        "filter",
        "endfilter",
        "do",
        "and",
        "or",
        "not",
        "is",
        "input",
        "input.q",
        "hits",
        "item",
        "loop",
        "x",
        ".",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ":",
        "|",
        "~",
        "+",
        "*",
        "==",
        "!=",
        "<",
        "=",
        "'a'",
        "1",
        "2.5",
        "none",
        "true",
        "trim",
        "map",
        "length",
        "default",
        "range",
        "raw",
        "endraw",
        "é",
        "\u{1F980}",
        " ",
        "\n",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a template says: the check comes to an end, and every place is inside the file, so
    /// that it can be shown.
    #[test]
    fn nonsense_is_checked_and_its_places_can_be_shown(template in nonsense(), tagged in any::<bool>()) {
        let template = if tagged { format!("{{{{ {template} }}}}") } else { template };
        let body = format!(
            "input {{ q; k type=integer optional=#true }}\n\
             search hits {{ index docs; text \"{{{{ input.q }}}}\" }}\n\
             template t each=\"{{{{ hits }}}}\" {{ text ##\"\"\"\n{template}\n\"\"\"## }}\n\
             output {{ a \"{{{{ t }}}}\" }}",
        );
        problems(&body);
    }
}
