//! Gemma 3 270M: tokens and logits are those of transformers on the same, dequantised file.

use super::*;

#[derive(Deserialize)]
struct Texts {
    cases: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: Vec<u32>,
}

#[test]
fn token_ids_are_those_of_transformers() {
    let tokenizer = &gemma().tokenizer;
    let hard: Texts = read("tokens.json");
    for case in hard.cases {
        assert_eq!(
            tokenizer.encode(&case.text).unwrap(),
            case.tokens,
            "{:?}",
            case.text
        );
    }
    for file in ["gemma.json", "adapters.json"] {
        for case in read::<Cases>(file).generate {
            assert_eq!(
                tokenizer.encode(&case.prompt).unwrap(),
                case.tokens,
                "{:?}",
                case.prompt
            );
        }
    }
}

#[test]
fn tokens_come_back_as_their_text() {
    let tokenizer = &gemma().tokenizer;
    for text in [
        "  two  spaces",
        "emoji 😀 ꙮ",
        "日本語、中文\n\n\tx\r\n",
        "<table> café",
    ] {
        let mut bytes = Vec::new();
        for token in tokenizer.encode(text).unwrap() {
            tokenizer.bytes(token, &mut bytes);
        }
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }
    assert!(tokenizer.is_end(1) && tokenizer.is_end(106) && !tokenizer.is_end(2));
}

#[test]
fn logits_are_those_of_transformers() {
    let mut bench = Bench::new(gemma());
    let mut all = Vec::new();
    for case in read::<Cases>("gemma.json").generate {
        let logits = bench.read(&case.tokens, MAX_ROWS, None);
        let ours: Vec<f32> = case.top_ids.iter().map(|&id| logits[id]).collect();
        let difference = difference(&ours, &case.top_logits);
        println!("{:?}: {difference}", case.prompt);
        all.push(difference);
    }
    all.sort_by(f32::total_cmp);
    let (half, worst) = (all[all.len() / 2], all[all.len() - 1]);
    assert!(
        half <= logit_tolerance() / 3.0,
        "half of the logits are off by {half}"
    );
    assert!(
        worst <= logit_tolerance(),
        "largest difference of a logit: {worst}"
    );
}

/// A token may part from the reference only where the reference's own margin is within what both of
/// its two best logits may be off.
#[test]
fn greedy_tokens_are_those_of_transformers_where_its_margin_allows() {
    let mut bench = Bench::new(gemma());
    let mut followed = 0;
    for case in read::<Cases>("gemma.json").generate {
        let made = bench.greedy(&case.tokens, case.greedy.len());
        let parted = made
            .iter()
            .zip(&case.greedy)
            .position(|(ours, theirs)| ours != theirs);
        if let Some(place) = parted {
            let margin = case.margin[place];
            assert!(
                margin <= 2.0 * logit_tolerance(),
                "{:?} parts at {place} in spite of a margin of {margin}",
                case.prompt
            );
        }
        followed += parted.unwrap_or(made.len());
    }
    println!("{followed} of {} tokens before parting", 20 * 64);
    // The rougher activations of a GPU part earlier.
    let expected = match has_kernels(&real_models::device()) {
        true => 20 * 64 * 2 / 5,
        false => 20 * 64 / 3,
    };
    assert!(
        followed >= expected,
        "only {followed} tokens before parting"
    );
}

/// A token of the reference's text is the best, or within the tolerance of it, at every place: also
/// after the texts would have parted.
#[test]
fn logits_along_the_reference_text_agree() {
    let mut bench = Bench::new(gemma());
    for case in read::<Cases>("gemma.json").generate {
        let mut sequence = bench.sequence();
        let mut unread = case.tokens.clone();
        for (place, &token) in case.greedy.iter().enumerate() {
            let logits = bench.step(&mut [SequenceRows {
                sequence: &mut sequence,
                tokens: &unread,
                adapter: None,
                logits: Wanted::All,
                guessed: 0,
            }]);
            let (_, best) = Scores::All(&logits[0]).likeliest().unwrap();
            let behind = best - logits[0][token as usize];
            let allowed = (2.0 * logit_tolerance() - case.margin[place]).max(0.0);
            assert!(
                behind <= allowed,
                "{:?} at {place}: {behind} behind",
                case.prompt
            );
            unread = vec![token];
        }
        bench.cache.release(sequence);
    }
}

#[derive(Deserialize)]
struct Long {
    window: usize,
    tokens: Vec<u32>,
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    position: usize,
    top_ids: Vec<usize>,
    top_logits: Vec<f32>,
}

/// Beyond the window, in parts of several sizes: the layers with a window see just so much, and the
/// blocks that they let go of are missed by nobody.
#[test]
fn a_text_longer_than_the_window_agrees_however_it_is_read() {
    let long: Long = read("long.json");
    assert_eq!(long.window, 512);
    let last = long.points.last().unwrap().position;
    assert!(last > 2 * long.window);
    let mut bench = Bench::new(gemma());
    for part in [256, 100, 33] {
        let mut sequence = bench.sequence();
        let mut points = long.points.iter();
        let mut next = points.next();
        let mut read = 0;
        while let Some(point) = next {
            // A part ends where logits are known.
            let end = (read + part).min(point.position + 1);
            let logits = bench.step(&mut [SequenceRows {
                sequence: &mut sequence,
                tokens: &long.tokens[read..end],
                adapter: None,
                logits: match end == point.position + 1 {
                    true => Wanted::All,
                    false => Wanted::Nothing,
                },
                guessed: 0,
            }]);
            read = end;
            if let Some(logits) = logits.first() {
                let ours: Vec<f32> = point.top_ids.iter().map(|&id| logits[id]).collect();
                let difference = difference(&ours, &point.top_logits);
                println!("parts of {part}, position {}: {difference}", point.position);
                assert!(
                    difference <= logit_tolerance(),
                    "at {}: {difference}",
                    point.position
                );
                next = points.next();
            }
        }
        bench.cache.release(sequence);
    }
}
