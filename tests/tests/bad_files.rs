//! What a person sees who makes mistakes in a file: the messages and exit codes of the real binary.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use tests::{run_command, write_graph};

fn check(text: &str) -> (i32, String) {
    let (_folder, path) = write_graph(text);
    let output = run_command(&["check", path.to_str().unwrap()]);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn ten_mistakes_are_reported_at_once() {
    let (code, shown) = check(
        r#"
server { listen "127.0.0.1:8000"; colour "red" }
model minilm { source "file:minilm"; source-code "x" }
graph g route="/g" timeout="5 parsecs" {
    input {
        query type=strin
        top-k type=integer default=20 min=1 max=100
    }
    embed question { model minilmm; text "{{ input.qery }}" }
    search hits { index docs; vector "{{ question }}"; top-k "many" }
    template a { text "{{ b }}" }
    template b { text "{{ a | uper }}" }
    template b { text "twice" }
    output { hits "{{ hitz }}" }
}
"#,
    );
    assert_eq!(code, 2);
    let codes = [
        "unknown-option",
        "wrong-unit",
        "unknown-value",
        "unknown-name",
        "unknown-field",
        "type-mismatch",
        "cycle",
        "duplicate-name",
    ];
    for wanted in codes {
        assert!(shown.contains(wanted), "{wanted} is missing in:\n{shown}");
    }
    let problems = shown.matches("\u{d7}").count();
    assert!(problems >= 10, "{problems} problems in:\n{shown}");
    for guess in ["minilm", "string", "query", "upper", "hits"] {
        assert!(
            shown.contains(&format!("did you mean \"{guess}\"")),
            "{guess} in:\n{shown}"
        );
    }
}

#[test]
fn the_place_inside_of_a_template_is_shown() {
    let (code, shown) = check(
        "graph g {\n    template a {\n        text \"\"\"\n            first\n            {{ nothing }}\n            \"\"\"\n    }\n    output {\n        a \"{{ a }}\"\n    }\n}\n",
    );
    assert_eq!(code, 2);
    assert!(shown.contains("graph.kdl:5:16"), "{shown}");
}

#[test]
fn json_is_for_scripts() {
    let (_folder, path) = write_graph("graph g { output { a \"{{ b }}\" } }\n");
    let output = run_command(&["check", "--json", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["diagnostics"][0]["code"], "unknown-name");
    assert_eq!(report["diagnostics"][0]["labels"][0]["line"], 1);
}

#[test]
fn hostile_text_is_refused_quickly() {
    let deep = "a {".repeat(100_000);
    let dashes = "a /-{ ".repeat(10_000);
    let garbage: String = (0..60_000_u32)
        .map(|i| char::from((i * 7 % 127) as u8))
        .collect();
    for text in [deep, dashes, garbage] {
        let (code, shown) = check(&text);
        assert_eq!(code, 2, "{}", &shown[..shown.len().min(500)]);
        assert!(
            !shown.contains("panicked"),
            "{}",
            &shown[..shown.len().min(500)]
        );
    }
}

#[test]
fn a_missing_file_an_include_of_itself_and_a_missing_variable() {
    let output = run_command(&["check", "no/such/file.kdl"]);
    assert_eq!(output.status.code(), Some(2));
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(shown.contains("cannot read no/such/file.kdl"), "{shown}");
    let (code, shown) = check("include \"graph.kdl\"\n");
    assert_eq!(code, 2);
    assert!(shown.contains("includes itself"), "{shown}");
    let (code, shown) = check("server { api-key (env)\"ENGINE_TEST_UNSET\" }\n");
    assert_eq!(code, 2);
    assert!(shown.contains("ENGINE_TEST_UNSET"), "{shown}");
}

#[test]
fn usage_errors_have_their_own_exit_code() {
    assert_eq!(run_command(&["runn"]).status.code(), Some(1));
    assert_eq!(run_command(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_source_of_which_nothing_can_be_had_is_refused() {
    let (code, shown) = check("model a { source \"https://host/models/\" }\n");
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("is one file that ends in .gguf"), "{shown}");
    // What the environment says is not shown.
    let file = "model a { source (env)\"CARGO_MANIFEST_DIR\" }\n";
    let (code, shown) = check(file);
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("this is not a source"), "{shown}");
    assert!(!shown.contains(env!("CARGO_MANIFEST_DIR")), "{shown}");
}

#[test]
fn a_public_address_without_a_key_is_refused() {
    let graph = "graph g { template a { text \"x\" }\n output { a \"{{ a }}\" } }\n";
    let public = format!("server {{ listen \"0.0.0.0:0\" }}\n{graph}");
    let (_folder, public) = write_graph(&public);
    let (_folder, local) = write_graph(graph);
    for arguments in [
        &["check", public.to_str().unwrap()][..],
        &["run", public.to_str().unwrap()],
        &["run", local.to_str().unwrap(), "--listen", "0.0.0.0:0"],
    ] {
        let output = run_command(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let shown = String::from_utf8(output.stderr).unwrap();
        assert!(shown.contains("api-key"), "{arguments:?}: {shown}");
    }
}

#[test]
fn what_is_not_built_yet_is_refused_and_not_ignored() {
    let (_folder, path) = write_graph(
        "graph g {\n    http a { url \"http://127.0.0.1:1\"; resources gpu=1; replicas min=0 }\n    \
         output { a \"{{ a }}\" }\n}\n",
    );
    for command in ["run", "bench"] {
        let output = run_command(&[command, path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let shown = String::from_utf8(output.stderr).unwrap();
        assert!(
            shown.contains("not-built-yet") && shown.contains("resources gpu"),
            "{command}: {shown}"
        );
    }
}

#[test]
fn a_file_without_a_graph_is_not_served() {
    let (_folder, path) = write_graph("server { listen \"127.0.0.1:0\" }\n");
    let output = run_command(&["run", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(shown.contains("no-graph"), "{shown}");
}
