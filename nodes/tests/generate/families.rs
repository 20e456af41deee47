//! The Llama and Qwen families, on tiny random models: numbers and tokens are those of transformers.

use super::*;
use nodes::model::decoder::Message;
use std::time::Duration;

#[derive(Deserialize)]
struct Tiny {
    cases: Vec<Family>,
}

#[derive(Deserialize)]
struct Family {
    name: String,
    prompts: Vec<Prompt>,
    #[serde(default)]
    chat: Vec<u32>,
}

#[derive(Deserialize)]
struct Prompt {
    prompt: String,
    tokens: Vec<u32>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

/// Activations in eight bits cost a hundredth; the logits of these models span some 20.
const TOLERANCE: f32 = 0.25;

#[test]
fn token_ids_are_those_of_transformers() {
    for family in read::<Tiny>("tiny.json").cases {
        let model = tiny(&family.name);
        for case in &family.prompts {
            let tokens = model.tokenizer.encode(&case.prompt).unwrap();
            assert_eq!(tokens, case.tokens, "{}: {:?}", family.name, case.prompt);
        }
    }
}

#[test]
fn logits_are_those_of_transformers() {
    for family in read::<Tiny>("tiny.json").cases {
        let mut bench = Bench::new(tiny(&family.name));
        for case in &family.prompts {
            for part in [MAX_ROWS, 3, 1] {
                let logits = bench.read(&case.tokens, part, None);
                let difference = difference(&logits, &case.logits);
                let name = &family.name;
                println!("{name} in parts of {part}: {difference}");
                assert!(
                    difference <= TOLERANCE,
                    "{name} {:?}: {difference}",
                    case.prompt
                );
            }
            // The first token; later ones part where two logits are close.
            let first = bench.greedy(&case.tokens, 1)[0] as usize;
            let (ours, theirs) = (case.logits[first], case.logits[case.greedy[0] as usize]);
            assert!(theirs - ours <= 2.0 * TOLERANCE, "{}: {first}", family.name);
        }
    }
}

#[test]
fn a_chat_is_written_as_its_template_says() {
    let message = |role: &str, content: &str| Message {
        role: role.to_owned(),
        content: content.to_owned(),
    };
    let messages = [message("system", "Be brief. "), message("user", "It's 12?")];
    let mut chats = 0;
    for family in read::<Tiny>("tiny.json").cases {
        if family.chat.is_empty() {
            continue;
        }
        chats += 1;
        let model = tiny(&family.name);
        let text = model.render_chat(&messages, Duration::ZERO).unwrap();
        let tokens = model.tokenizer.encode_rendered(&text).unwrap();
        assert_eq!(tokens, family.chat, "{}: {text:?}", family.name);
    }
    assert_eq!(chats, 2);
    let error = gemma().render_chat(&messages, Duration::ZERO).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model has no chat template: give it a prompt and not messages"
    );
}

/// Cut short or with single bytes changed, a file is an error or another model, and never a panic.
#[test]
fn a_damaged_file_is_an_error_and_no_panic() {
    let whole = fs::read(golden("tiny-qwen3.gguf")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let load = |bytes: &[u8]| {
        fs::write(file.path(), bytes).unwrap();
        LanguageModel::load(file.path(), &real_models::device()).map(drop)
    };
    load(&whole).unwrap();
    for length in (0..whole.len()).step_by(whole.len() / 60) {
        load(&whole[..length]).unwrap_err();
    }
    let header = 6000;
    for place in (4..header).step_by(13) {
        for bit in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[place] ^= bit;
            // What it is may be anything; that it comes back is what counts.
            let _ = load(&bytes);
        }
    }
}
