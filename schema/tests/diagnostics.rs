//! Golden tables: what is said about each kind of mistake, and where.

use expect_test::{Expect, expect};
use schema::{Source, SourceId, parse};

/// Each problem with its code, the text that each label underlines, and its help.
fn problems(text: &str) -> String {
    let source = Source {
        id: SourceId(0),
        name: "test.kdl".to_owned(),
        text: text.to_owned(),
    };
    let (_, diagnostics) = parse(&source, &|name| {
        (name == "SET").then(|| "secret".to_owned())
    });
    let mut shown = String::new();
    for diagnostic in diagnostics {
        shown += &format!("{}: {}\n", diagnostic.code, diagnostic.message);
        for label in &diagnostic.labels {
            let underlined = &text[label.span.range()];
            shown += &format!("    {underlined:?} {}\n", label.text);
        }
        if let Some(help) = diagnostic.help {
            shown += &format!("    help: {help}\n");
        }
    }
    shown
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(&problems(text));
}

/// A file around options of an `embed` node.
fn check_node(options: &str, expected: Expect) {
    let text = format!("graph g {{\n    embed e {{\n        {options}\n    }}\n}}\n");
    check(&text, expected);
}

#[test]
fn misspelt_and_unknown_options() {
    check_node(
        "model m; text a; batch max-szie=3 max-dealy=\"5ms\"; tiemout \"2s\"; colour blue",
        expect![[r#"
            unknown-option: unknown option "max-szie" for batch
                "max-szie" 
                help: did you mean "max-size"?
            unknown-option: unknown option "max-dealy" for batch
                "max-dealy" 
                help: did you mean "max-wait"?
            unknown-option: unknown option "tiemout" for embed e
                "tiemout" 
                help: did you mean "timeout"?
            unknown-option: unknown option "colour" for embed e
                "colour" 
                help: it has: model, endpoint, text, when, each, each-width, fallback, resources, batch, replicas, max-ongoing-requests, max-queued-requests, when-full, timeout, retry, breaker, hedge, cache, health-check-period, graceful-shutdown-timeout, recycle
        "#]],
    );
    check(
        "sever { listen \"a:1\" }\nmodle m\nwibble",
        expect![[r#"
            unknown-option: unknown block "sever" for the file
                "sever" 
                help: did you mean "server"?
            unknown-option: unknown option "modle" for the file
                "modle" 
                help: did you mean "model"?
            unknown-option: unknown option "wibble" for the file
                "wibble" 
                help: it has: include, server, model, index, graph
        "#]],
    );
    check(
        "graph g { embde e { text a }; ouptut { a 1 } }",
        expect![[r#"
            unknown-option: unknown block "embde" for graph g
                "embde" 
                help: did you mean "embed"?
            unknown-option: unknown block "ouptut" for graph g
                "ouptut" 
                help: did you mean "output"?
        "#]],
    );
}

#[test]
fn repeated_options() {
    check_node(
        "model m; text a; text b; batch max-size=1 { max-size 2 }; batch max-size=3",
        expect![[r#"
            repeated-option: `text` is written twice in embed e
                "text" again here
                "text" first here
                help: keep one of them
            repeated-option: `max-size` is written twice in batch
                "max-size" again here
                "max-size" first here
                help: keep one of them
            repeated-option: `batch` is written twice in embed e
                "batch" again here
                "batch" first here
                help: keep one of them
        "#]],
    );
    check(
        "server { timeout \"1s\" }\nserver",
        expect![[r#"
            repeated-option: `server` is written twice in the file
                "server" again here
                "server" first here
                help: keep one of them
        "#]],
    );
}

#[test]
fn missing_options() {
    check(
        "model\nmodel m\nindex i\ngraph g { search s; generate a { model } }",
        expect![[r#"
            missing-option: model has no `name`
                "model" 
                help: write `model NAME`
            missing-option: model has no `source`
                "model" 
                help: add `source`
            missing-option: model m has no `source`
                "model" 
                help: add `source`
            missing-option: index i has none of `path`, `qdrant`, `milvus`, `pgvector`
                "index" 
                help: write one of them
            missing-option: search s has no `index`
                "search" 
                help: add `index`: the index
            missing-option: model has no `name`
                "model" 
                help: write `model NAME`
        "#]],
    );
    check(
        "graph g { switch s { case a; default }; merge m; python p; http h; infer i; fallback }",
        expect![[r#"
            missing-option: nothing says when the case "a" holds
                "a" 
                help: add `when` to the case, or `on` to the switch
            missing-option: `default` has no value
                "default" 
                help: write a text after it
            missing-option: merge m has no `from`
                "merge" 
                help: add `from`: the nodes, in order of preference
            missing-option: python p has no `file`
                "python" 
                help: add `file`: the file
            missing-option: python p has none of `function`, `class`
                "python" 
                help: write one of them
            missing-option: http h has no `url`
                "http" 
                help: add `url`: the address. Its host is fixed by the file, or one of `allow-host`
            missing-option: infer i has no `url`
                "infer" 
                help: add `url`: the server's addresses: `http://` and `https://` for REST, `grpc://` and `grpcs://` for gRPC. Load is spread over them
            missing-option: infer i has no `model`
                "infer" 
                help: add `model`: the model's name there
            missing-option: infer i has no `input`
                "infer" 
                help: add `input`
            unknown-option: unknown option "fallback" for graph g
                "fallback" 
                help: it has: route, timeout, input, embed, search, rerank, generate, template, switch, merge, split, http, python, infer, output
        "#]],
    );
    check_node(
        "model m; text a; fallback; recycle; each-width 3",
        expect![[r#"
        missing-option: `fallback` has neither a value nor a node
            "fallback" 
            help: write `fallback "text"` or `fallback node=name`
        missing-option: `recycle` does not say when
            "recycle" 
            help: add `requests`, `age` or `memory-growth`
        missing-option: `each-width` without `each`
            "each-width" 
            help: add `each`, or remove `each-width`
    "#]],
    );
}

#[test]
fn wrong_types_units_and_ranges() {
    check_node(
        "model m; text a; timeout 5; timeout; max-queued-requests \"many\"; max-ongoing-requests 0",
        expect![[r#"
            wrong-unit: a duration needs a unit
                "5" 
                help: write a duration such as "5s"; units: us, ms, s, m, h, d
            repeated-option: `timeout` is written twice in embed e
                "timeout" again here
                "timeout" first here
                help: keep one of them
            wrong-type: expected a whole number, found a text
                "\"many\"" this is a text
                help: write a whole number
            out-of-range: 0 is out of range for `max-ongoing-requests`
                "0" 
                help: the least is 1
        "#]],
    );
    check_node(
        r#"model m; text a; timeout "5 sec"; batch max-size=-1 max-wait=5ms; resources cpu="a" gpu=#inf memory=512"#,
        expect![[r##"
            wrong-unit: "5 sec" is not a duration
                "\"5 sec\"" 
                help: write a duration such as "5s"; units: us, ms, s, m, h, d
            out-of-range: -1 is out of range
                "-1" 
                help: it cannot be negative
            syntax-error: `5ms` is not a number
                "5ms" 
                help: put it in quotes if a text is meant: "5ms"
            wrong-type: expected a number, found a text
                "\"a\"" this is a text
                help: write a number
            out-of-range: inf is out of range
                "#inf" 
                help: write a finite number
            wrong-unit: a size needs a unit
                "512" 
                help: write a size such as "512MiB"; units: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB
        "##]],
    );
    check_node(
        r#"model m; text a; replicas min=4 max=2 initial=9 policy="raj"; hedge after="95"; retry max=99 on=nothing"#,
        expect![[r#"
            out-of-range: fewest replicas are more than most replicas
                "4" 
                "2" the most
                help: make `min` at most `max`
            unknown-value: "raj" is not known here
                "\"raj\"" 
                help: did you mean "ray"?
            wrong-unit: "95" is not a percentile from p50 to p99.9
                "\"95\"" 
                help: write one such as "p95"
            out-of-range: 99 is out of range for `max`
                "99" 
                help: the most is 10
            unknown-value: "nothing" is not known here
                "nothing" 
                help: it is one of: unavailable, timeout, failed
        "#]],
    );
    check_node(
        "model m; text a; cache ttl=\"1000000d\" max-bytes=\"99999999TiB\"; breaker errors=1.5; recycle requests=99999999999999999999999",
        expect![[r#"
            out-of-range: the duration is too long
                "\"1000000d\"" 
                help: the most is ten years
            out-of-range: the size is too large
                "\"99999999TiB\"" 
                help: the most is 8192TiB
            out-of-range: 1.5 is out of range for `errors`
                "1.5" 
                help: the most is 1
            out-of-range: 99999999999999999999999 is out of range
                "99999999999999999999999" 
                help: it is too large
        "#]],
    );
    check(
        "graph g { generate a { model m; prompt x; temperature -1; top-p 1.5; max-tokens 0 }; split s { text a; max-chars 5; overlap 5 } }",
        expect![[r#"
            out-of-range: -1 is out of range for `temperature`
                "-1" 
                help: it is 0 to 100
            out-of-range: 1.5 is out of range for `top-p`
                "1.5" 
                help: it is 0 to 1
            out-of-range: 0 is out of range for `max-tokens`
                "0" 
                help: the least is 1
            out-of-range: a piece repeats as many characters as it has
                "5" 
                "5" most characters of a piece
                help: make `overlap` smaller than `max-chars`
        "#]],
    );
}

#[test]
fn input_fields_with_rules_that_do_not_fit() {
    check(
        r#"graph g {
    input {
        a type=string min=1
        b type=integer min=5 max=1 one-of=x
        c type=integer default="x"
        d type=strnig
        e type=string of=string
        f default=3 optional=#true
        1g
        h type=string default="abc" { one-of a b }
    }
}"#,
        expect![[r#"
            conflicting-options: `min` is a rule for a number
                "min" 
                help: remove it, or make the field a number
            out-of-range: no value of "b" fits both limits
                "b" 
                help: make the least smaller than the most
            conflicting-options: `one-of` is a rule for a string
                "one-of" 
                help: remove it, or make the field a string
            wrong-type: the default breaks the rules of its own field
                "\"x\"" 
                "c" the type of this field is integer
                help: write a value that a request could send
            unknown-value: "strnig" is not known here
                "strnig" 
                help: did you mean "string"?
            conflicting-options: `of` is the type of a list's elements
                "string" 
                help: make the type a list, or remove `of`
            wrong-type: the default breaks the rules of its own field
                "3" 
                "f" the type of this field is text
                help: write a value that a request could send
            conflicting-options: `default` and `optional` exclude each other
                "optional" 
                "default" the other one
                help: keep one of them
            syntax-error: `1g` is not a number
                "1g" 
                help: put it in quotes if a text is meant: "1g"
            wrong-type: the default breaks the rules of its own field
                "\"abc\"" 
                "h" the type of this field is text
                help: write a value that a request could send
        "#]],
    );
}

#[test]
fn names() {
    check(
        "model \"a b\" { source \"file:a\" }\ngraph g { template input { text a }; template ünder { text a }; template -x { text a } }",
        expect![[r#"
            bad-name: "a b" cannot be a name
                "\"a b\"" 
                help: a name has letters a to z, digits, `-` and `_`, and begins with a letter
            reserved-name: a node cannot be called "input"
                "input" this means something else in templates
                help: choose another name
            bad-name: "ünder" cannot be a name
                "ünder" 
                help: a name has letters a to z, digits, `-` and `_`, and begins with a letter
            bad-name: "-x" cannot be a name
                "-x" 
                help: a name has letters a to z, digits, `-` and `_`, and begins with a letter
        "#]],
    );
}

#[test]
fn secrets_and_templates_where_they_cannot_be() {
    check(
        "server { api-key (env)\"UNSET\" (env)\"SET\" (evn)\"SET\"; max-body (env)\"SET\"; listen \"{{ input.x }}\" }",
        expect![[r#"
            missing-variable: the environment variable "UNSET" is not set
                "\"UNSET\"" 
                help: set it where the engine is started, or correct its name
            unknown-annotation: `(evn)` cannot stand here
                "evn" 
                help: the only annotation is `(env)`, before the name of an environment variable
            unknown-annotation: `(env)` cannot stand here
                "env" 
                help: only texts such as addresses, paths and keys are read from the environment
            template-not-allowed: a template cannot stand here
                "\"{{ input.x }}\"" this is read once, when the file is loaded
                help: write a constant
        "#]],
    );
    check_node(
        "model m; text (env)\"SET\"",
        expect![[r#"
        unknown-annotation: `(env)` cannot stand here
            "env" 
            help: only texts such as addresses, paths and keys are read from the environment
    "#]],
    );
}

#[test]
fn conflicts_and_superfluous_things() {
    check_node(
        "model m; endpoint \"http://a\"; text a b; timeout \"1s\" x=1; when a { b }; 5",
        expect![[r#"
            conflicting-options: `model` and `endpoint` exclude each other
                "endpoint" 
                "model" the other one
                help: keep one of them
            unexpected-value: `text` takes one value
                "b" a second one
                help: remove it
            unexpected-value: `timeout` has no options of its own
                "x" 
                help: remove it
            unexpected-value: `when` has no block of its own
                "b" 
                help: remove it
            syntax-error: a name must stand here
                "5" 
                help: a name is a word, or a text in quotes
        "#]],
    );
    check(
        "graph g { generate a { model m; prompt x; user y }; template t { text a; replicas min=2; timeout \"1s\" }; template u { text a; fallback a node=b } }",
        expect![[r#"
            no-pool: `replicas` means nothing on a template node, which has no pool
                "replicas" 
                help: it runs within the request itself; remove the option
            no-pool: `timeout` means nothing on a template node, which has no pool
                "timeout" 
                help: it runs within the request itself; remove the option
            conflicting-options: `fallback` has both a value and a node
                "b" 
                "a" the value
                help: keep one of them
        "#]],
    );
    check(
        "graph g h route=\"rag\"\n(a)graph i",
        expect![[r#"
        unexpected-value: graph g does not take this value
            "h" 
            help: remove it, or write it as `name=value`
        bad-route: "rag" is not a route
            "\"rag\"" 
            help: a route begins with `/` and has letters, digits, `/`, `-`, `_`, `.`
        unknown-annotation: a name has no annotation: `(a)`
            "a" 
            help: only a value can be read from the environment: `(env)"NAME"`
    "#]],
    );
}

#[test]
fn eight_bits_are_for_processors() {
    check(
        "model m { source \"file:m\"; device \"cuda:0\"; dtype int8 }",
        expect![[r#"
            conflicting-options: `dtype=int8` is for models on the processor
                "int8" 
                help: leave `dtype` out where `device` is a GPU
        "#]],
    );
}

#[test]
fn a_type_without_its_word() {
    check(
        "graph g { input { tags \"list<string>\" optional=#true } }",
        expect![[r#"
            unexpected-value: tags does not take this value
                "\"list<string>\"" 
                help: write a type as `type=string`, or remove it
        "#]],
    );
}

#[test]
fn quotes_within_the_text_of_a_template() {
    let text = |text: &str| format!("graph g {{ template t {{ text {text} }} }}");
    check(
        &text(r#""{{ a == "x" }} and {{ f("b c", "d") }}""#),
        expect![[r##"
            syntax-error: a quote ends this text in the middle of its template
                "\"{{ a == \"x\" }} and {{ f(\"b c\", \"d\") }}\"" 
                "\"" this one
                help: write 'single quotes' within a template, or the whole text as #"…"#
        "##]],
    );
    for written in [
        r#""{{ default("") }}""#,
        r#""{% if a["b"] %}{{ c }}{% endif %}""#,
        r#""{{ a["é/ü"] ~ f("[") }} é""#,
    ] {
        let found = problems(&text(written));
        let says = found.contains("a quote ends this text in the middle of its template");
        assert!(
            says && found.matches("-error:").count() == 1,
            "{written}: {found}"
        );
    }
    check(
        &text(r#""{{ a["b" }""#),
        expect![[r#"
        syntax-error: a space is missing here
            "b" 
            help: values are separated by white space
        syntax-error: a space is missing here
            "\" }\"" 
            help: values are separated by white space
    "#]],
    );
    check(
        &text(r#""{{ a "b"c"#),
        expect![[r#"
            syntax-error: a block is never closed
                "{" 
                help: close it with `}`
            syntax-error: a block is never closed
                "{" 
                help: close it with `}`
            syntax-error: a space is missing here
                "b" 
                help: values are separated by white space
            syntax-error: a string is never closed
                "\"" opened here
                help: close it with `"`
            syntax-error: a space is missing here
                "\"c } }" 
                help: values are separated by white space
        "#]],
    );
    check(
        &text("\"{{ a[\"b\"] }}ä\n"),
        expect![[r#"
            syntax-error: a space is missing here
                "b" 
                help: values are separated by white space
            syntax-error: a string is never closed
                "\"" opened here
                help: close it with `"`
            syntax-error: a space is missing here
                "\"] }}ä" 
                help: values are separated by white space
        "#]],
    );
    check(
        &text(r#""{{ a }}"b"#),
        expect![[r#"
        syntax-error: a space is missing here
            "b" 
            help: values are separated by white space
    "#]],
    );
}

#[test]
fn addresses_that_cannot_be_served() {
    check(
        "server { listen \"0.0.0.0:8000\"; admin \"10.0.0.1:8000\" }",
        expect![[r#"
            missing-option: `listen` can be reached from other machines, and there is no `api-key`
                "\"0.0.0.0:8000\"" 
                help: add `api-key (env)"NAME"` to `server`, or listen on 127.0.0.1
            conflicting-options: `listen` and `admin` cannot be the same address
                "\"10.0.0.1:8000\"" 
                "\"0.0.0.0:8000\"" the other one
                help: give `admin` a port of its own
        "#]],
    );
    // Whether there is a key is known, even if not which.
    check(
        "server { listen \"0.0.0.0:8000\"; api-key (env)\"NOT_SET\" }",
        expect![[r#"
            missing-variable: the environment variable "NOT_SET" is not set
                "\"NOT_SET\"" 
                help: set it where the engine is started, or correct its name
        "#]],
    );
    for good in [
        "listen \"127.0.0.1:0\"; admin \"127.0.0.1:0\"",
        "listen \"[::1]:8000\"; admin \"[::1]:8001\"",
        "listen \"10.0.0.1:8000\"; admin \"10.0.0.2:8000\"; api-key k",
        "listen \"0.0.0.0:8000\"; admin \"[::1]:8000\"; api-key k",
        "listen \"somewhere:8000\"",
        "listen \"127.0.0.1:9000\"",
    ] {
        assert_eq!(problems(&format!("server {{ {good} }}")), "", "{good}");
    }
}

#[test]
fn sources_of_which_nothing_can_be_had() {
    for (uri, says) in [
        ("", "a source begins with"),
        ("hf:", "ORG/NAME"),
        ("pip:foo", "#PATH"),
        ("s3://b/../x", "needs a path without"),
        ("http://host/m.gguf", "write https:"),
    ] {
        let found = problems(&format!("model m {{ source \"{uri}\" }}"));
        let expected = "unknown-value: this is not a source of models\n";
        assert!(
            found.starts_with(expected) && found.contains(says),
            "{found}"
        );
    }
    check(
        "model m { source }",
        expect![[r#"
        missing-option: source has no `uri`
            "source" 
            help: write `source URI`
    "#]],
    );
    check(
        "model m { source \"file:a\"; adapters \"s3:\"; }",
        expect![[r#"
            unknown-value: this is not a source of models
                "adapters \"s3:\"" 
                help: s3: needs s3://BUCKET/PATH
        "#]],
    );
}

#[test]
fn addresses_devices_and_sources() {
    check(
        "server { listen \"8000\"; admin \"localhost:99999\" }\nmodel m { source \"gemma\" sha256=\"12\"; device gpu; dtype f16 }\nindex i { path a; qdrant \"u\" }",
        expect![[r#"
            wrong-type: "8000" is not an address
                "\"8000\"" 
                help: write a host and a port, such as "127.0.0.1:8000"
            wrong-type: "localhost:99999" is not an address
                "\"localhost:99999\"" 
                help: write a host and a port, such as "127.0.0.1:8000"
            unknown-value: this is not a source of models
                "\"gemma\"" 
                help: a source begins with file:, hf:, pip:, s3:, gs:, az: or https:
            wrong-type: a SHA-256 digest has 64 hexadecimal digits
                "\"12\"" 
                help: `sha256sum FILE` prints it
            unknown-value: "gpu" is not a device
                "gpu" 
                help: write "cpu", or "cuda:0" for the first GPU
            unknown-value: "f16" is not known here
                "f16" 
                help: it is one of: auto, f32, int8
            conflicting-options: `path` and `qdrant` exclude each other
                "qdrant" 
                "path" the other one
                help: keep one of them
            missing-option: qdrant has no `collection`
                "qdrant" 
                help: add `collection`: the collection's name
            unknown-value: "u" is not an address of a server
                "\"u\"" 
                help: write one such as "http://localhost:6333"
        "#]],
    );
}

#[test]
fn broken_syntax() {
    check(
        "model m { source \"file:a\n}\nserver { listen \"a:1\" }",
        expect![[r#"
        syntax-error: a string is never closed
            "\"" opened here
            help: close it with `"`
    "#]],
    );
    check(
        "model m { source \"file:a\"",
        expect![[r#"
        syntax-error: a block is never closed
            "{" 
            help: close it with `}`
    "#]],
    );
    check(
        "}\nmodel = \"a\" { source \"file:\\q\\u{110000}\" }",
        expect![[r##"
        syntax-error: no block is open here
            "}" 
            help: remove this `}`
        syntax-error: there is no key before this `=`
            "=" 
            help: write `key=value` for a property, or `name value` on a line of its own
        syntax-error: `\q` is not an escape
            "\\q" 
            help: write `\\` for a backslash, or a string without escapes: `#"…"#`
        syntax-error: an escape does not name a character
            "\\u{110000}" 
            help: write one to six hexadecimal digits, such as `\u{1F600}`
    "##]],
    );
    check(
        "server { timeout 5s; max-body 1.5.2 }\n{ a }",
        expect![[r#"
            syntax-error: `5s` is not a number
                "5s" 
                help: put it in quotes if a text is meant: "5s"
            syntax-error: `1.5.2` is not a number
                "1.5.2" 
                help: put it in quotes if a text is meant: "1.5.2"
            syntax-error: a name must stand here
                "{" 
                help: write the block's name before its `{`
        "#]],
    );
    check(
        "graph g { input { a optional=true; b optional=#yes } } /* never",
        expect![[r##"
            syntax-error: `true` must be written `#true`
                "true" 
                help: put it in quotes if the text is meant
            syntax-error: `#yes` is not a keyword
                "#yes" 
                help: the keywords are #true, #false, #null, #inf, #-inf and #nan
            syntax-error: a comment is never closed
                "/*" opened here
                help: close it with `*/`; comments nest, so each `/*` needs one
        "##]],
    );
    check(
        "model m { source \"\"\"file:a\"\"\" }",
        expect![[r#"
            syntax-error: the text of a multi-line string begins on the line after its quotes
                "\"\"\"" something follows these quotes
                help: break the line after `"""`, or write one quote on each side
        "#]],
    );
    check(
        "model m {\n source \"\"\"\n   a\n b\n   \"\"\"\n}",
        expect![[r#"
            syntax-error: a line of a multi-line string is indented less than its closing quotes
                " b" this line
                help: each line begins with the same white space as the line of the closing quotes
        "#]],
    );
    check(
        "model m { source \"\"\"\n   a\"\"\" }",
        expect![[r#"
        syntax-error: the closing quotes of a multi-line string stand alone on their line
            "\"" text stands before these quotes
            help: break the line before them
    "#]],
    );
    check(
        "model [m] { source #\"file:a\" }",
        expect![[r##"
            syntax-error: `[` cannot stand here
                "[" 
                help: put text with such characters in quotes
            syntax-error: `]` cannot stand here
                "]" 
                help: put text with such characters in quotes
            syntax-error: a block is never closed
                "{" 
                help: close it with `}`
            syntax-error: a string is never closed
                "#\"" opened here
                help: close it with `"#`
        "##]],
    );
    check(
        "model m\u{202E} { source \"file:a\u{0}\" }",
        expect![[r#"
        syntax-error: the character U+202E is not allowed in a file
            "\u{202e}" it is invisible
            help: remove it, or write it as an escape in a string, such as `\u{7F}`
        syntax-error: the character U+0000 is not allowed in a file
            "\0" it is invisible
            help: remove it, or write it as an escape in a string, such as `\u{7F}`
    "#]],
    );
    check(
        "model m {} 5 {}\nmodel\"a\" \"b\"\"c\"\n/-",
        expect![[r#"
            missing-option: model m has no `source`
                "model" 
                help: add `source`
            syntax-error: a value stands after the block of its node
                "5" 
                help: write it before the `{`, or end the line after the `}`
            syntax-error: a node has one block
                "{" 
                help: end the line after the `}` before
            missing-option: model a has no `source`
                "model" 
                help: add `source`
            syntax-error: a space is missing here
                "\"a\"" 
                help: values are separated by white space
            unexpected-value: model a does not take this value
                "\"b\"" 
                help: remove it, or write it as `name=value`
            syntax-error: a space is missing here
                "\"c\"" 
                help: values are separated by white space
            syntax-error: a node is missing here
                "" 
                help: write its name
        "#]],
    );
    check(
        "model (env \"m\" ()b (x)\nmodel x \\ y",
        expect![[r#"
            missing-option: model has no `source`
                "model" 
                help: add `source`
            unknown-annotation: `(env)` cannot stand here
                "env" 
                help: only texts such as addresses, paths and keys are read from the environment
            syntax-error: an annotation is not complete
                "\"m\"" 
                help: write `(env)"NAME"`, or put text with parentheses in quotes
            syntax-error: an annotation is not complete
                ")" 
                help: write `(env)"NAME"`, or put text with parentheses in quotes
            unexpected-value: model does not take this value
                "b" 
                help: remove it, or write it as `name=value`
            syntax-error: a value is missing here
                "\n" 
                help: write a word, a text in quotes, a number, `#true` or `#false`
            missing-option: model x has no `source`
                "model" 
                help: add `source`
            syntax-error: a `\` that continues a line stands at its end
                "\\" 
                help: remove it, or break the line after it
            unexpected-value: model x does not take this value
                "y" 
                help: remove it, or write it as `name=value`
        "#]],
    );
    check(
        "model m a= =b 5=3",
        expect![[r#"
            missing-option: model m has no `source`
                "model" 
                help: add `source`
            syntax-error: a value is missing here
                "=" 
                help: write a word, a text in quotes, a number, `#true` or `#false`
            unexpected-value: model m does not take this value
                "b" 
                help: remove it, or write it as `name=value`
            syntax-error: the key of a property must be a word
                "5" 
                help: put it in quotes
        "#]],
    );
}

#[test]
fn rollouts() {
    let rollout = |inside: &str| format!("server {{ rollout {{ {inside} }} }}\n");
    let texts = [
        "",
        "canary; blue-green",
        "canary sticky=\"x user\" max-errors=0.01 { step \"5%\"; step \"5%\"; step \"120%\"; step }",
        "shadow share=\"101%\" sticky=x",
        "blue-gren",
    ];
    let problems = texts.map(|text| problems(&rollout(text))).join("--\n");
    expect![[r#"
        missing-option: rollout has none of `canary`, `blue-green`, `shadow`
            "rollout" 
            help: write one of them
        --
        conflicting-options: `canary` and `blue-green` exclude each other
            "blue-green" 
            "canary" the other one
            help: keep one of them
        --
        unknown-value: "x user" is not the name of a header
            "\"x user\"" 
            help: write one such as "x-user-id"
        wrong-unit: a share needs a unit
            "0.01" 
            help: write a share such as "5%"; units: %
        out-of-range: a step of 5% cannot stand here
            "\"5%\"" 
            help: steps ascend, and the largest is "100%"
        out-of-range: a step of 120% cannot stand here
            "\"120%\"" 
            help: steps ascend, and the largest is "100%"
        missing-option: step has no `share`
            "step" 
            help: write `step SHARE`
        --
        out-of-range: "101%" is out of range for `share`
            "\"101%\"" 
            help: the most is "100%"
        unknown-option: unknown option "sticky" for shadow
            "sticky" 
            help: it has: share, max-ongoing-requests
        --
        missing-option: rollout has none of `canary`, `blue-green`, `shadow`
            "rollout" 
            help: write one of them
        unknown-option: unknown option "blue-gren" for rollout
            "blue-gren" 
            help: did you mean "blue-green"?
    "#]]
    .assert_eq(&problems);
}

#[test]
fn addresses_of_tensors() {
    check(
        "graph g {\n    infer s {\n        url \"ftp://a\" \"grpc://a:1/x\" \"grpc://\"; model m; input X 1\n    }\n}\n",
        expect![[r#"
            unknown-value: "ftp://a" is no address of a server
                "\"ftp://a\"" 
                help: write one such as "http://localhost:8000" or "grpc://localhost:8001"
            unknown-value: "grpc://a:1/x" is no address of a server
                "\"grpc://a:1/x\"" 
                help: write one such as "http://localhost:8000" or "grpc://localhost:8001"
            conflicting-options: the addresses of a node are all of REST or all of gRPC
                "\"grpc://a:1/x\"" 
                help: make a node of its own for this one
            unknown-value: "grpc://" is no address of a server
                "\"grpc://\"" 
                help: write one such as "http://localhost:8000" or "grpc://localhost:8001"
        "#]],
    );
    check(
        "graph g {\n    infer s {\n        url \"grpcs://a:1/\" \"grpc://b\"; model m; input X 1\n    }\n}\n",
        expect![""],
    );
}
