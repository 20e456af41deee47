//! Documents from JSON lines.

use super::{IndexError, Record, json};
use crate::Value;
use serde_json::{Map, Value as Json};
use std::io::{BufRead, Read};

/// Longest line that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// Reads one document a line: an object with `id` and `text`, a `vector` if it is embedded already,
/// and metadata, in an object `metadata` or as further fields. Empty lines are passed over.
///
/// After an error the next line may be read on; an error of the reader, or a line beyond 16 MiB,
/// ends it.
pub fn json_lines(mut reader: impl BufRead) -> impl Iterator<Item = Result<Record, IndexError>> {
    let mut number = 0u64;
    let mut over = false;
    std::iter::from_fn(move || {
        while !over {
            number += 1;
            let invalid =
                |reason: String| Err(IndexError::invalid(format!("line {number}: {reason}")));
            let mut line = Vec::new();
            match reader
                .by_ref()
                .take(LONGEST + 1)
                .read_until(b'\n', &mut line)
            {
                Ok(0) => return None,
                Ok(length) if length as u64 > LONGEST => {
                    over = true;
                    return Some(invalid(format!("it is longer than {LONGEST} bytes")));
                }
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => return Some(record(&line).or_else(invalid)),
                Err(error) => {
                    over = true;
                    return Some(invalid(error.to_string()));
                }
            }
        }
        None
    })
}

fn record(line: &[u8]) -> Result<Record, String> {
    let mut fields: Map<String, Json> = serde_json::from_slice(line).map_err(|error| {
        // The parser counts lines itself; here it always sees the first.
        let column = error.column();
        let error = error.to_string();
        let reason = error.split(" at line ").next().unwrap_or_default();
        format!("column {column}: {reason}")
    })?;
    let id = match fields.shift_remove("id") {
        Some(Json::String(id)) => id,
        Some(Json::Number(id)) => id.to_string(),
        Some(_) => return Err("\"id\" is neither a text nor a number".into()),
        None => return Err("there is no \"id\"".into()),
    };
    let text = match fields.shift_remove("text") {
        Some(Json::String(text)) => text,
        Some(_) => return Err("\"text\" is not a text".into()),
        None => return Err("there is no \"text\"".into()),
    };
    let vector = match fields.shift_remove("vector") {
        None | Some(Json::Null) => None,
        Some(vector) => Some(numbers(&vector).ok_or("\"vector\" is not a list of numbers")?),
    };
    let mut metadata = match fields.shift_remove("metadata") {
        None | Some(Json::Null) => crate::Map::new(),
        Some(Json::Object(metadata)) => json::map_from_json(metadata),
        Some(_) => return Err("\"metadata\" is not an object".into()),
    };
    for (name, value) in json::map_from_json(fields) {
        if metadata.contains_key(&name) {
            return Err(format!("{name:?} is there twice, once in \"metadata\""));
        }
        metadata.insert(name, value);
    }
    metadata.retain(|_, value| !matches!(value, Value::None));
    Ok(Record {
        id: id.into(),
        text: text.into(),
        metadata,
        vector,
    })
}

fn numbers(json: &Json) -> Option<Vec<f32>> {
    let values = json.as_array()?.iter();
    values
        .map(|value| value.as_f64().map(|value| value as f32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_records() {
        let lines = "{\"id\":\"a\",\"text\":\"x\",\"lang\":\"en\",\"metadata\":{\"year\":7},\"vector\":[1,0.5]}\n\n{\"id\":2,\"text\":\"\"}";
        let records: Vec<Record> = json_lines(lines.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((&*records[0].id, &*records[0].text), ("a", "x"));
        assert_eq!(records[0].vector, Some(vec![1.0, 0.5]));
        assert_eq!(
            json::write_map(&records[0].metadata).unwrap(),
            r#"{"year":7,"lang":"en"}"#
        );
        assert_eq!((&*records[1].id, &*records[1].text), ("2", ""));
    }

    #[test]
    fn mistakes_name_their_line() {
        let cases = [
            ("\n{", "line 2: column 1: EOF while parsing an object"),
            ("{\"text\":\"x\"}", "line 1: there is no \"id\""),
            (
                "{\"id\":[],\"text\":\"x\"}",
                "line 1: \"id\" is neither a text nor a number",
            ),
            ("{\"id\":\"a\"}", "line 1: there is no \"text\""),
            (
                "{\"id\":\"a\",\"text\":1}",
                "line 1: \"text\" is not a text",
            ),
            (
                "{\"id\":\"a\",\"text\":\"\",\"vector\":[1,\"x\"]}",
                "line 1: \"vector\" is not a list of numbers",
            ),
            (
                "{\"id\":\"a\",\"text\":\"\",\"metadata\":[]}",
                "line 1: \"metadata\" is not an object",
            ),
            (
                "{\"id\":\"a\",\"text\":\"\",\"y\":1,\"metadata\":{\"y\":2}}",
                "line 1: \"y\" is there twice, once in \"metadata\"",
            ),
            (
                "[1]",
                "line 1: column 0: invalid type: sequence, expected a map",
            ),
        ];
        for (lines, expected) in cases {
            let error = json_lines(lines.as_bytes()).find_map(Result::err).unwrap();
            assert_eq!(error.to_string(), expected);
        }
        let deep = "[".repeat(100_000);
        assert!(json_lines(deep.as_bytes()).next().unwrap().is_err());
        let long = vec![b' '; LONGEST as usize + 10];
        let mut long = json_lines(&long[..]);
        assert!(long.next().unwrap().is_err() && long.next().is_none());
    }
}
