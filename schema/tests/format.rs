//! The layout of files.

use expect_test::{Expect, expect};
use schema::{Source, SourceId, format, parse};

fn source(text: &str) -> Source {
    Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: text.to_owned(),
    }
}

/// Formats `text` and checks the result, that formatting it again changes nothing, and that both
/// declare the same.
fn check(text: &str, expected: Expect) {
    let formatted = format(&source(text)).expect("the text is valid");
    expected.assert_eq(&formatted);
    assert_stable(text, &formatted);
}

fn assert_stable(text: &str, formatted: &str) {
    let again = format(&source(formatted)).expect("formatting keeps the text valid");
    assert_eq!(again, formatted, "formatting again changes the text");
    let environment = |name: &str| Some(name.to_owned());
    let (before, _) = parse(&source(text), &environment);
    let (after, _) = parse(&source(formatted), &environment);
    assert_eq!(before, after, "formatting changes what the file says");
}

#[test]
fn the_examples_keep_what_they_say() {
    for text in [
        include_str!("cases/rag.kdl"),
        include_str!("cases/kinds.kdl"),
    ] {
        let formatted = format(&source(text)).expect("the examples are valid");
        assert_stable(text, &formatted);
    }
}

#[test]
fn blocks_and_blank_lines() {
    check(
        "\n\n// top\nserver{listen \"a:1\"\n\n\n\n  admin   \"b:2\" // why\n\n}\nmodel m {source \"file:x\";device cpu;}\ngraph g{}\ngraph h {\n}",
        expect![[r#"
            // top
            server {
                listen "a:1"

                admin "b:2" // why
            }
            model m { source "file:x"; device cpu }
            graph g {}
            graph h {}
        "#]],
    );
    check(
        "graph g { input { a; b type=integer } ; template t { text a\n } }",
        expect![[r#"
            graph g {
                input { a; b type=integer }
                template t {
                    text a
                }
            }
        "#]],
    );
    check(
        "a;b;c // last\nd; // d's own\n",
        expect![[r#"
        a
        b
        c // last
        d // d's own
    "#]],
    );
}

#[test]
fn comments_stay_where_they_are() {
    check(
        "server { // about the server\n  // about listening\n  listen \"a:1\" /* here */ /* and here */\n  /* several\n     lines */\n  admin /* x */ \"b:2\"\n  // the end\n}\n// the very end",
        expect![[r#"
            server { // about the server
                // about listening
                listen "a:1" /* here */ /* and here */
                /* several
                 lines */
                admin /* x */ "b:2"
                // the end
            }
            // the very end
        "#]],
    );
    check(
        "a /*1*/ b /*2*/ = /*3*/ ( /*4*/ t /*5*/ ) /*6*/ 5",
        expect![[r#"
            a /*1*/ b /*2*/=/*3*/ (/*4*/ t /*5*/)/*6*/ 5
        "#]],
    );
}

#[test]
fn what_is_switched_off_stays_so() {
    check(
        "/- server { listen \"a:1\" }\n/-\nmodel m\ngraph g /- h /-route=\"/x\" /- { a; b } { /- input { a }\n}\n/- // why\nmodel n",
        expect![[r#"
            /-server { listen "a:1" }
            /-model m
            graph g /-h /-route="/x" /-{ a; b } {
                /-input { a }
            }
            /- // why
            model n
        "#]],
    );
}

#[test]
fn long_lines_stay_broken() {
    check(
        "graph g {\n embed e {\n replicas min=1 \\\n max=4 \\ // why\n   initial=2\n batch \\\n\n timeout \"1s\" \\ // gone\n\n}\n}",
        expect![[r#"
            graph g {
                embed e {
                    replicas min=1 \
                        max=4 \ // why
                        initial=2
                    batch
                    timeout "1s" // gone
                }
            }
        "#]],
    );
}

#[test]
fn multi_line_strings_move_and_keep_their_content() {
    check(
        "graph g {\ntemplate t {\n  text \"\"\"\n    a\n      b\n\n    \\tc \\\"\\\"\\\"\n    \"\"\"\n}\ntemplate u { text #\"\"\"\n\ta\\\n\n\t  b\"\n\t\"\"\"# }\ntemplate v { text \"\"\"\n  a \\\n     b\n  \"\"\" }\n}\n",
        expect![[r##"
            graph g {
                template t {
                    text """
                        a
                          b

                        \tc \"\"\"
                        """
                }
                template u {
                    text #"""
                        a\

                          b"
                        """#
                }
                template v {
                    text """
              a \
                 b
              """
                }
            }
        "##]],
    );
}

#[test]
fn broken_syntax_is_not_touched() {
    let problems = format(&source("server {")).expect_err("the block is never closed");
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].code, "syntax-error");
}

#[test]
fn nothing_stays_nothing() {
    check("", expect![[""]]);
    check("  \n\n", expect![[""]]);
}
