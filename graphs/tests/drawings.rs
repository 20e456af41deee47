//! Drawings, as files that a person can look at.

mod kit;

use expect_test::{ExpectFile, expect_file};
use graphs::{Graph, show};
use kit::check_file;
use std::sync::Arc;

fn router() -> Arc<Graph> {
    let program = check_file(include_str!("cases/router.kdl")).expect("the case is good");
    Arc::clone(&program.graphs()[0])
}

fn check(drawing: &str, expected: ExpectFile) {
    expected.assert_eq(drawing);
}

#[test]
fn text() {
    check(&show::text(&router()), expect_file!["golden/router.txt"]);
}

#[test]
fn dot() {
    check(&show::dot(&router()), expect_file!["golden/router.dot"]);
}

#[test]
fn mermaid() {
    check(&show::mermaid(&router()), expect_file!["golden/router.mmd"]);
}

#[test]
fn svg() {
    check(&show::svg(&router()), expect_file!["golden/router.svg"]);
}

#[test]
fn a_long_chain_is_drawn_in_time() {
    // A node that everything reads makes arrows that pass through every layer.
    let node = |n: usize| {
        format!(
            "template n{n} {{ text \"{{{{ n{} }}}} {{{{ n0 }}}}\" }}\n",
            n - 1
        )
    };
    let nodes: String = (1..400).map(node).collect();
    let body = format!("template n0 {{ text \"x\" }}\n{nodes}output {{ a \"{{{{ n399 }}}}\" }}");
    let program = kit::program(&body);
    let svg = show::svg(&program.graphs()[0]);
    assert_eq!(svg.matches("<rect").count(), 400 + 3);
}
