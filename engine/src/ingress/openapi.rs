//! The OpenAPI 3.1 document of a program, derived from what its graphs declare.

use graphs::{Graph, Program};
use schema::{InputField, Type};
use serde_json::{Map, Value, json};

/// The document of all graphs.
pub fn document(program: &Program) -> Value {
    let graphs = program.graphs().iter();
    let paths = graphs.map(|graph| {
        (
            graph.route().to_owned(),
            json!({ "post": operation(graph) }),
        )
    });
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": "engine", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths.collect::<Map<_, _>>(),
        "components": {
            "schemas": { "Document": document_schema(), "Problem": problem_schema() },
        },
    });
    if !program.server().api_keys.is_empty() {
        document["components"]["securitySchemes"] =
            json!({ "key": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "key": [] }]);
    }
    document
}

fn operation(graph: &Graph) -> Value {
    let output = output(graph);
    json!({
        "operationId": graph.id().as_str(),
        "requestBody": {
            "required": graph.input().iter().any(is_required),
            "content": { "application/json": { "schema": input(graph) } },
        },
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {
                    "application/json": { "schema": output },
                    "text/event-stream": { "schema": {
                        "type": "string",
                        "description": "Events `delta` ({field, text}), `output` (the whole \
                            answer), `done`, or `error` (a problem). Sent if `accept` asks for it.",
                    } },
                },
            },
            "default": {
                "description": "Why there is no answer.",
                "content": { "application/problem+json": {
                    "schema": { "$ref": "#/components/schemas/Problem" },
                } },
            },
        },
    })
}

fn input(graph: &Graph) -> Value {
    let fields = graph.input().iter();
    let properties = fields.map(|field| (field.id.value.in_template(), property(field)));
    let properties: Map<_, _> = properties.collect();
    let required = graph.input().iter().filter(|field| is_required(field));
    let required: Vec<_> = required.map(|field| field.id.value.in_template()).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn is_required(field: &InputField) -> bool {
    field.default.is_none() && !field.optional
}

fn property(field: &InputField) -> Value {
    let mut schema = of_type(&field.value_type.value);
    let is_list = matches!(field.value_type.value, Type::List(_) | Type::Vector(_));
    let (shortest, longest) = match is_list {
        true => ("minItems", "maxItems"),
        false => ("minLength", "maxLength"),
    };
    let default = field.default.as_ref().map(|default| {
        serde_json::to_value(nodes::Value::from(&default.value)).unwrap_or_default()
    });
    let one_of = (!field.one_of.is_empty()).then(|| json!(field.one_of));
    let rules = [
        (
            "description",
            field.description.as_ref().map(|text| json!(text)),
        ),
        ("default", default),
        ("minimum", field.min.map(number)),
        ("maximum", field.max.map(number)),
        (shortest, field.min_length.map(|length| json!(length))),
        (longest, field.max_length.map(|length| json!(length))),
        ("enum", one_of),
    ];
    for (rule, value) in rules {
        if let Some(value) = value {
            schema[rule] = value;
        }
    }
    if field.optional {
        return json!({ "anyOf": [schema, { "type": "null" }] });
    }
    schema
}

/// A limit as a person would write it: `1`, not `1.0`.
fn number(limit: f64) -> Value {
    match nodes::Value::Number(limit).as_integer() {
        Some(integer) => json!(integer),
        None => json!(limit),
    }
}

fn output(graph: &Graph) -> Value {
    let fields = graph.output().iter();
    let properties = fields.map(|field| (field.name.to_string(), of_type(&field.value_type)));
    let names: Vec<_> = graph.output().iter().map(|field| &*field.name).collect();
    json!({
        "type": "object",
        "properties": properties.collect::<Map<_, _>>(),
        "required": names,
    })
}

fn of_type(value_type: &Type) -> Value {
    match value_type {
        Type::Any => json!({}),
        Type::Text | Type::TextStream => json!({ "type": "string" }),
        Type::Choice(cases) => json!({ "type": "string", "enum": cases }),
        Type::Number => json!({ "type": "number" }),
        Type::Integer => json!({ "type": "integer" }),
        Type::Boolean => json!({ "type": "boolean" }),
        Type::Vector(size) => {
            let mut schema = json!({ "type": "array", "items": { "type": "number" } });
            if let Some(size) = size {
                schema["minItems"] = json!(size);
                schema["maxItems"] = json!(size);
            }
            schema
        }
        Type::Document => json!({ "$ref": "#/components/schemas/Document" }),
        Type::List(element) => json!({ "type": "array", "items": of_type(element) }),
        Type::Record(fields) => {
            let fields = fields.iter();
            let properties = fields.map(|(name, field)| (name.in_template(), of_type(field)));
            json!({ "type": "object", "properties": properties.collect::<Map<_, _>>() })
        }
        Type::Map => json!({ "type": "object" }),
        Type::Option(some) => json!({ "anyOf": [of_type(some), { "type": "null" }] }),
    }
}

fn document_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "text": { "type": "string" },
            "score": { "type": "number" },
            "metadata": { "type": "object" },
        },
        "required": ["id", "text"],
    })
}

fn problem_schema() -> Value {
    let error = json!({
        "type": "object",
        "properties": { "field": { "type": "string" }, "reason": { "type": "string" } },
    });
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "graph": { "type": "string" },
            "node": { "type": "string" },
            "request_id": { "type": "string" },
            "errors": { "type": "array", "items": error },
        },
        "required": ["type", "title", "status", "detail"],
    })
}
