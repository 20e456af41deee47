//! A prompt that begins like an earlier one is answered as if it had been read from its beginning: to the
//! bit by our kernels, and nearly so by candle's, which take another way for one row than for many.

use super::*;

impl Bench {
    /// The logits after a prompt, of which others may have read a part, and how much of it they had.
    fn read_on(
        &mut self,
        tokens: &[u32],
        part: usize,
        adapter: Option<&Arc<Adapter>>,
    ) -> (Vec<f32>, usize) {
        let mut sequence = self.sequence();
        sequence.reads(tokens.to_vec(), adapter.map(|adapter| adapter.id()));
        let cached = self.cache.resume(&mut sequence);
        let mut logits = Vec::new();
        for tokens in tokens[cached..].chunks(part) {
            logits = self.next(&mut sequence, tokens, 0, adapter);
        }
        self.cache.release(sequence);
        (logits.pop().unwrap(), cached)
    }

    fn keeping(model: Arc<LanguageModel>) -> Self {
        let mut bench = Bench::new(model);
        bench.cache = bench.model.decoder.cache(1 << 30, MAX_ROWS);
        bench.cache = bench.cache.keeping(1 << 30);
        bench
    }
}

fn assert_same(a: &[f32], b: &[f32], what: &str) {
    assert!(is_same(a, b), "{what}");
}

/// Tokens that part after so many.
fn branch(tokens: &[u32], head: usize, more: usize) -> Vec<u32> {
    let tail = (0..more as u32).map(|i| 1000 + i * 7919 % 20_000);
    tokens[..head].iter().copied().chain(tail).collect()
}

/// Heads on both sides of the window of 512, in parts of several sizes.
#[test]
fn logits_are_the_same_to_the_bit() {
    let long: Long = read("long.json");
    let shelf = Shelf::of_examples(&gemma());
    let adapter = shelf.get("qa").unwrap();
    for adapter in [None, Some(&adapter)] {
        let mut kept = Bench::keeping(gemma());
        kept.read_on(&long.tokens, 256, adapter);
        for (head, more, part) in [
            (32, 1, 256),
            (64, 40, 64),
            (500, 3, 96),
            (512, 100, 256),
            (1024, 33, 32),
        ] {
            let prompt = branch(&long.tokens, head, more);
            let (warm, cached) = kept.read_on(&prompt, part, adapter);
            assert_eq!(cached, head / 32 * 32);
            let (cold, nothing) = Bench::keeping(gemma()).read_on(&prompt, 256, adapter);
            assert_eq!(nothing, 0);
            assert_same(
                &warm,
                &cold,
                &format!("{head} and {more} tokens, parts of {part}"),
            );
        }
    }
}

/// Whatever an adapter has read is of no use to another, nor to the bare model.
#[test]
fn adapters_do_not_share() {
    let shelf = Shelf::of_examples(&gemma());
    let adapters = [None, Some("qa"), Some("headline")];
    let adapters = adapters.map(|name| name.map(|name| shelf.get(name).unwrap()));
    let prompt = branch(&[2; 100], 100, 20);
    let mut kept = Bench::keeping(gemma());
    for adapter in &adapters {
        let (logits, cached) = kept.read_on(&prompt, 256, adapter.as_ref());
        assert_eq!(cached, 0);
        let alone = Bench::new(gemma()).read(&prompt, 256, adapter.as_ref());
        assert_same(&logits, &alone, "alone");
    }
    for adapter in &adapters {
        assert_eq!(kept.read_on(&prompt, 256, adapter.as_ref()).1, 96);
    }
}

/// Families without a window.
#[test]
fn other_families_go_on_as_well() {
    for name in ["llama3", "qwen2", "qwen3"] {
        let prompt: Vec<u32> = (0..150).map(|i| 3 + i * 7 % 200).collect();
        let mut kept = Bench::keeping(tiny(name));
        let (cold, _) = kept.read_on(&prompt, 64, None);
        let (warm, cached) = kept.read_on(&prompt, 64, None);
        assert_eq!(cached, 128);
        assert_same(&warm, &cold, name);
    }
}

async fn text(node: &Generate, prompt: &str, adapter: Option<&str>) -> (String, Finish) {
    let adapter = adapter.map_or(Value::None, Value::text);
    let arguments = [
        ("prompt", Value::text(prompt)),
        ("adapter", adapter),
        ("max-tokens", Value::Integer(12)),
    ];
    by_node(node, Arguments::from_iter(arguments)).await
}

/// Requests of a retrieval pipeline, one by one and all at once, while the cache is too small for
/// all that they have in common.
#[tokio::test]
async fn texts_are_the_same_with_a_cache_and_without() {
    let options = |prefix_bytes| GenerateOptions {
        threads: 2,
        prefix_bytes,
        cache_bytes: 64 << 20,
        ..GenerateOptions::default()
    };
    let fact = |i: usize| {
        format!(
            "[item-{i}] The boat number {i} sails at {} o'clock.\n",
            i % 12
        )
    };
    let item = |index: usize| {
        let facts: String = (0..6).map(|i| fact(i + 20 * (index % 3))).collect();
        let prompt = format!("{facts}Question: When does the boat {index} sail?\nAnswer:");
        (prompt, [None, Some("qa")][index / 3 % 2])
    };
    let plain = start(gemma(), &options(0));
    let mut alone = Vec::new();
    for index in 0..12 {
        let (prompt, adapter) = item(index);
        let (text, finish) = text(&plain, &prompt, adapter).await;
        assert_eq!(finish.cached_tokens, 0);
        alone.push((text, finish.prompt_tokens));
    }
    let kept = Arc::new(start(gemma(), &options(16 << 20)));
    for round in 0..2 {
        let asked = (0..12).map(|index| {
            let kept = Arc::clone(&kept);
            let (prompt, adapter) = item(index);
            tokio::spawn(async move { text(&kept, &prompt, adapter).await })
        });
        let asked: Vec<_> = asked.collect();
        let mut cached = 0;
        for (asked, (alone, prompt_tokens)) in asked.into_iter().zip(&alone) {
            let (text, finish) = asked.await.unwrap();
            assert_eq!(finish.prompt_tokens, *prompt_tokens);
            assert!(!has_kernels(&real_models::device()) || text == *alone);
            assert!(finish.cached_tokens < finish.prompt_tokens);
            cached += finish.cached_tokens;
        }
        assert!(cached > 0, "in round {round}");
    }
}
