//! What a call takes and gives.

use crate::kit::{ask, file, input, say, start, try_start};
use nodes::{NodeError, Running, Value};
use std::sync::Arc;

const ECHO: &str = "
def echo(x=None):
    return x
";

#[tokio::test]
async fn a_function_is_called_with_keyword_arguments() {
    let folder = file("def add(first, second=2):\n    return first + second\n");
    let node = start(&folder, r#"function "add""#).await;
    assert_eq!(node.running(), Running::OneItem);
    assert_eq!(say(&node, &[("first", Value::Integer(1))]).await, "3");
    let both = [("first", Value::text("a")), ("second", Value::text("b"))];
    assert_eq!(say(&node, &both).await, r#""ab""#);
    let wrong = say(&node, &[("third", Value::None)]).await;
    assert!(wrong.contains("unexpected keyword argument"), "{wrong}");
}

#[tokio::test]
async fn every_value_goes_there_and_back() {
    let node = start(&file(ECHO), r#"function "echo""#).await;
    for json in [
        "null",
        "true",
        "-3",
        "0.1",
        r#""ü\n""#,
        "[]",
        "{}",
        "[1,2.5,\"x\",null]",
        "[0.1,0.2,0.3,0.4,0.5]",
        r#"{"a":{"b":[1,[2]]}}"#,
        "[9223372036854775807,-9223372036854775808]",
    ] {
        let value = Value::from_json(json.as_bytes()).unwrap();
        assert_eq!(say(&node, &[("x", value)]).await, json);
    }
    let vector: Arc<[f32]> = (0..384).map(|n| n as f32 / 7.0).collect();
    match ask(&node, &[("x", Value::Vector(Arc::clone(&vector)))]).await {
        Ok(Value::Vector(back)) => assert_eq!(back, vector),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn python_gets_what_it_expects_and_refuses_what_a_graph_does_not_know() {
    let folder = file(
        "
import array, dataclasses, collections

@dataclasses.dataclass
class Point:
    x: int
    y: float

def what(x):
    return type(x).__name__

def make(x):
    return {
        'point': Point(1, 2.5),
        'tuple': (1, 'a'),
        'ordered': collections.OrderedDict(b=1, a=2),
        'bytes': b'abc',
        'set': {1},
        'huge': 1 << 70,
        'key': {1: 2},
        'surrogate': '\\ud800',
        'ints': array.array('i', [1, 2]),
    }[x]

def deep(x):
    inner = []
    for _ in range(1000):
        inner = [inner]
    return inner
",
    );
    let what = start(&folder, r#"function "what""#).await;
    let document = nodes::Document {
        id: "a".into(),
        text: "b".into(),
        score: 0.5,
        metadata: Arc::default(),
    };
    for (value, name) in [
        (Value::Vector([1.0].into()), "array"),
        (Value::list([]), "list"),
        (Value::Document(document), "dict"),
        (Value::Number(1.0), "float"),
        (Value::Integer(1), "int"),
    ] {
        assert_eq!(say(&what, &[("x", value)]).await, format!("{name:?}"));
    }
    let make = start(&folder, r#"function "make""#).await;
    for (name, made) in [
        ("point", r#"{"x":1,"y":2.5}"#),
        ("tuple", r#"[1,"a"]"#),
        ("ordered", r#"{"b":1,"a":2}"#),
        ("ints", "[1,2]"),
        ("bytes", "a graph has no value for a builtins.bytes"),
        ("set", "a graph has no value for a builtins.set"),
        ("huge", "is no 64-bit integer"),
        ("key", "the key 1 of a dict is no str"),
        ("surrogate", "surrogates not allowed"),
    ] {
        let said = say(&make, &[("x", Value::text(name))]).await;
        assert!(said.contains(made), "{name}: {said}");
    }
    let deep = start(&folder, r#"function "deep""#).await;
    let said = say(&deep, &[("x", Value::None)]).await;
    assert!(said.contains("nested more than 128 deep"), "{said}");
}

#[tokio::test]
async fn a_class_is_made_once() {
    let folder = file(
        "
class Counter:
    def __init__(self):
        self.count = 0
    def __call__(self, by):
        self.count += by
        return self.count
",
    );
    let node = start(&folder, r#"class "Counter""#).await;
    for total in ["2", "4", "6"] {
        assert_eq!(say(&node, &[("by", Value::Integer(2))]).await, total);
    }
}

#[tokio::test]
async fn an_exception_is_its_items_error_with_its_traceback() {
    let folder = file("def half(x):\n    return 1 / x\n");
    let node = start(&folder, r#"function "half""#).await;
    let batch = [0, 2].map(|x| input(&[("x", Value::Integer(x))]));
    let answers = node.run(batch.to_vec()).await;
    assert_eq!(answers[1].as_ref().unwrap().as_number(), Some(0.5));
    let Err(NodeError::Failed { reason, source }) = &answers[0] else {
        panic!("{answers:?}");
    };
    assert_eq!(reason, "ZeroDivisionError: division by zero");
    let traceback = source.as_ref().unwrap().to_string();
    assert!(
        traceback.contains("code.py\", line 2, in half"),
        "{traceback}"
    );
    assert!(!traceback.contains("engine worker"), "{traceback}");
}

#[tokio::test]
async fn a_batch_is_one_call_with_lists() {
    let folder = file(
        "
calls = 0
def double(x, note=None):
    global calls
    calls += 1
    if 'boom' in x:
        raise ValueError('boom')
    return [ValueError('odd') if one == 'odd' else f'{one}{one}{calls}' for one in x]
async def later(x):
    return [one + '!' for one in x]
def short(x):
    return x[1:]
",
    );
    let node = start(&folder, r#"function "double"; batch max-size=8"#).await;
    assert_eq!(node.running(), Running::OneBatch);
    let batch = |texts: &[&str]| -> Vec<_> {
        let items = texts.iter().map(|text| input(&[("x", Value::text(*text))]));
        items.collect()
    };
    let said = |answers: Vec<Result<Value, NodeError>>| -> Vec<String> {
        let texts = answers.into_iter().map(|answer| match answer {
            Ok(value) => value.as_text().unwrap().to_string(),
            Err(error) => error.to_string(),
        });
        texts.collect()
    };
    let answers = said(node.run(batch(&["a", "odd", "b"])).await);
    assert_eq!(answers, ["aa1", "ValueError: odd", "bb1"]);
    let answers = said(node.run(batch(&["a", "boom"])).await);
    assert_eq!(answers, ["ValueError: boom", "ValueError: boom"]);
    let node = start(&folder, r#"function "later"; batch max-size=8"#).await;
    assert_eq!(node.running(), Running::OneBatch);
    assert_eq!(said(node.run(batch(&["a", "b"])).await), ["a!", "b!"]);
    let node = start(&folder, r#"function "short"; batch max-size=8"#).await;
    let answers = said(node.run(batch(&["a", "b"])).await);
    assert!(
        answers[0].contains("has 2 items, and 1 results"),
        "{answers:?}"
    );
}

#[tokio::test]
async fn coroutines_run_beside_each_other() {
    // The first waits for the second, which could not run behind it.
    let folder = file(
        "
import asyncio
met = None
async def meet(x):
    global met
    met = met or asyncio.Event()
    if x == 'first':
        await asyncio.wait_for(met.wait(), 60)
    else:
        met.set()
    return x
",
    );
    let node = start(&folder, r#"function "meet""#).await;
    assert_eq!(node.running(), Running::ManyItems);
    let first = [("x", Value::text("first"))];
    let second = [("x", Value::text("second"))];
    let (first, second) = tokio::join!(say(&node, &first), say(&node, &second));
    assert_eq!((&*first, &*second), (r#""first""#, r#""second""#));
}

#[tokio::test]
async fn generators_stream() {
    let folder = file(
        "
import asyncio
closed = []
def words(x):
    try:
        for word in x.split():
            yield word + ' '
    finally:
        closed.append(x)
async def later(x):
    for word in x.split():
        await asyncio.sleep(0)
        yield word + ' '
def endless(x):
    if x == 'closed':
        return closed
    def pieces():
        try:
            while True:
                yield 'x'
        finally:
            closed.append(x)
    return pieces()
def broken(x):
    yield 'a'
    raise ValueError('b')
def wrong(x):
    yield 1
",
    );
    for name in ["words", "later"] {
        let node = start(&folder, &format!("function {name:?}")).await;
        let Ok(Value::Stream(mut stream)) = ask(&node, &[("x", Value::text("a b c"))]).await else {
            panic!("no stream");
        };
        assert_eq!(&*stream.next().await.unwrap().unwrap(), "a ");
        assert_eq!(stream.collect().await.unwrap().0, "b c ");
        assert_eq!(say(&node, &[("x", Value::text(""))]).await, r#""""#);
    }
    let node = start(&folder, r#"function "broken""#).await;
    let Ok(Value::Stream(mut stream)) = ask(&node, &[("x", Value::None)]).await else {
        panic!("no stream");
    };
    assert_eq!(&*stream.next().await.unwrap().unwrap(), "a");
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "ValueError: b");
    let node = start(&folder, r#"function "wrong""#).await;
    let said = say(&node, &[("x", Value::None)]).await;
    assert!(said.contains("yields pieces of text, not a int"), "{said}");
    // A text that nobody reads on is closed, and the worker is free for the next item.
    let node = start(&folder, r#"function "endless""#).await;
    let stream = ask(&node, &[("x", Value::text("e"))]).await.unwrap();
    assert!(matches!(stream, Value::Stream(_)));
    drop(stream);
    assert_eq!(
        say(&node, &[("x", Value::text("closed"))]).await,
        r#"["e"]"#
    );
}

#[tokio::test]
async fn the_result_is_held_against_returns() {
    let code = "def vector(x):\n    return [float(n) for n in range(x)] if x else 'none'\n";
    let node = start(&file(code), r#"function "vector"; returns vector"#).await;
    let three = ask(&node, &[("x", Value::Integer(3))]).await.unwrap();
    assert!(matches!(three, Value::Vector(_)), "{three:?}");
    let said = say(&node, &[("x", Value::Integer(0))]).await;
    assert!(said.contains("expected vector, got text"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_loaded_says_why() {
    let folder = file("import nothing_of_this_name\ndef f(): ...\n");
    let error = try_start(&folder, r#"function "f""#).await.err().unwrap();
    assert!(
        error
            .to_string()
            .contains("No module named 'nothing_of_this_name'"),
        "{error}"
    );
    let folder = file("x = 1\nclass C: ...\nimport sys\ndef f(): ...\n");
    for (options, says) in [
        (r#"function "g""#, "has no attribute 'g'"),
        (r#"function "x""#, "`x` cannot be called"),
        (r#"class "C""#, "the class `C` has no `__call__`"),
    ] {
        let error = try_start(&folder, options).await.err().unwrap().to_string();
        assert!(error.contains(says), "{options}: {error}");
    }
    let folder = file("import os\nos._exit(3)\n");
    let error = try_start(&folder, r#"function "f""#).await.err().unwrap();
    assert!(error.to_string().contains("exit status: 3"), "{error}");
}
