//! The crate `kdl` as the judge of this parser: both read the same texts in the same way.
//!
//! The crate is not used to read files, because it can be brought to take exponential time and to
//! overflow the stack, takes more than 50 ms for 64 KiB of valid text (104 ms for `a;` repeated),
//! and yields nothing at all of a text with a mistake.

use super::{Node, Value, tree};
use crate::{Source, SourceId, problems::Problems};
use kdl::{KdlDocument, KdlValue};
use proptest::prelude::*;

/// The tree as this crate reads it; nothing if there is a problem.
fn ours(text: &str) -> Option<String> {
    let source = Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: text.to_owned(),
    };
    let mut problems = Problems::default();
    let nodes = tree(&source, &mut problems);
    let mut shown = String::new();
    show_ours(&nodes, &mut shown);
    problems.is_empty().then_some(shown)
}

fn show_ours(nodes: &[Node], shown: &mut String) {
    for node in nodes {
        let annotation = node.annotation.as_ref().map(|text| text.value.as_str());
        *shown += &format!("{annotation:?}{:?}", node.name.value);
        for entry in &node.entries {
            let key = entry.key.as_ref().map(|key| key.value.as_str());
            let annotation = entry.annotation.as_ref().map(|text| text.value.as_str());
            let value = match &entry.value {
                Value::Text(text) => format!("{:?}", text.text),
                Value::Integer(value) => format!("{value}"),
                Value::Float(value) => format!("{value:?}f"),
                Value::Boolean(value) => format!("{value}"),
                Value::Null => "null".to_owned(),
            };
            *shown += &format!(" {key:?}={annotation:?}{value}");
        }
        if let Some(children) = &node.children {
            *shown += " {";
            show_ours(children, shown);
            *shown += "}";
        }
        *shown += ";";
    }
}

/// The tree as the crate `kdl` reads it; nothing if there is a problem.
fn theirs(text: &str) -> Option<String> {
    let mut shown = String::new();
    show_theirs(&KdlDocument::parse_v2(text).ok()?, &mut shown);
    Some(shown)
}

fn show_theirs(document: &KdlDocument, shown: &mut String) {
    for node in document.nodes() {
        let annotation = node.ty().map(|ty| ty.value());
        *shown += &format!("{annotation:?}{:?}", node.name().value());
        for entry in node.entries() {
            let key = entry.name().map(|name| name.value());
            let annotation = entry.ty().map(|ty| ty.value());
            let value = match entry.value() {
                KdlValue::String(text) => format!("{text:?}"),
                KdlValue::Integer(value) => format!("{value}"),
                KdlValue::Float(value) => format!("{value:?}f"),
                KdlValue::Bool(value) => format!("{value}"),
                KdlValue::Null => "null".to_owned(),
            };
            *shown += &format!(" {key:?}={annotation:?}{value}");
        }
        if let Some(children) = node.children() {
            *shown += " {";
            show_theirs(children, shown);
            *shown += "}";
        }
        *shown += ";";
    }
}

/// A value of any form.
fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "-",
        "--x",
        "+a",
        ".a",
        "-.b",
        "ünder",
        "a-b_c",
        "a,b",
        "\"\"",
        "\"a b\"",
        "\"\\n\\t\\\\\\\"\"",
        "\"\\u{1F600}\\s\\b\\f\"",
        "\"a \\   \n  b\"",
        "#\"a\\n\"#",
        "##\"a\"#b\"##",
        "\"\"\"\n  a\n    b\n\n  c\n  \"\"\"",
        "\"\"\"\n\"\"\"",
        "\"\"\"\n\n\"\"\"",
        "\"\"\"\n\ta \"quoted\" \\\"\"\" b\n\t\"\"\"",
        "#\"\"\"\n a\\n\n  \"b\n \"\"\"#",
        "\"\"\"\r\n  a\r\n  b\r\n  \"\"\"",
        "\"\"\"\n  a \\\n     b\n  c\n  \"\"\"",
        "\"\"\"\n  \\n  \n \t \n  \"\"\"",
        "#true",
        "#false",
        "#null",
        "#inf",
        "#-inf",
        "0",
        "-1",
        "+2",
        "1_000",
        "0xFf",
        "-0b1_0",
        "0o17",
        "1.5",
        "-2.5e10",
        "1e-3",
        "1_0.0_1E+2",
        "(t)a",
        "( t )1",
        "(\"a b\") \"c\"",
    ])
    .prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "node", "\"a b\"", "#\"raw\"#", "é", "-x", "(t)n"])
        .prop_map(str::to_owned)
}

fn space() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        " ",
        " ",
        " ",
        "\t  ",
        " /* c */ ",
        " \\\n ",
        " \\ // c\n\t",
        "\u{3000}",
    ])
    .prop_map(str::to_owned)
}

fn entry() -> impl Strategy<Value = String> {
    let property = (name(), value()).prop_map(|(name, value)| match name.starts_with('(') {
        true => value,
        false => format!("{name}={value}"),
    });
    let entry = prop_oneof![2 => value(), 1 => property];
    (space(), prop::bool::weighted(0.1), entry)
        .prop_map(|(space, off, entry)| format!("{space}{}{entry}", if off { "/-" } else { "" }))
}

fn end() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "\n",
        "\n",
        ";",
        "; ",
        " // c\n",
        "\r\n",
        "\n\n  ",
        "\n/* /* c */ */\n",
        "\u{85}",
    ])
    .prop_map(str::to_owned)
}

/// A valid document.
fn nodes() -> impl Strategy<Value = String> {
    let leaf = (name(), prop::collection::vec(entry(), 0..4))
        .prop_map(|(name, entries)| name + &entries.concat());
    let node = leaf.prop_recursive(3, 24, 4, |inner| {
        let head = (name(), prop::collection::vec(entry(), 0..3));
        let children = prop::collection::vec((inner, end()), 0..4);
        (
            head,
            children,
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.1),
        )
            .prop_map(|((name, entries), children, node_off, block_off)| {
                let children: String = children
                    .into_iter()
                    .map(|(node, end)| node + &end)
                    .collect();
                let off = |off: bool| if off { "/-" } else { "" };
                format!(
                    "{}{name}{} {}{{ {children} }}",
                    off(node_off),
                    entries.concat(),
                    off(block_off)
                )
            })
    });
    prop::collection::vec((node, end()), 0..5)
        .prop_map(|nodes| nodes.into_iter().map(|(node, end)| node + &end).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_documents_are_the_same_tree(text in nodes()) {
        let ours = ours(&text);
        prop_assert!(ours.is_some(), "refused here: {text}");
        let theirs = theirs(&text);
        // The crate refuses some valid texts with `/-`, such as `a { /-b { }; }`.
        if theirs.is_some() || !text.contains("/-") {
            prop_assert_eq!(ours, theirs);
        }
    }
}
