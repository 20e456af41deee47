//! Adapters on Gemma: logits are those of PEFT, and rows with several adapters do not mix.

use super::*;

#[test]
fn logits_with_an_adapter_are_those_of_peft() {
    let mut bench = Bench::new(gemma());
    let shelf = Shelf::of_examples(&bench.model);
    for case in read::<Cases>("adapters.json").generate {
        let adapter = shelf.get(case.adapter.as_deref().unwrap()).unwrap();
        let logits = bench.read(&case.tokens, MAX_ROWS, Some(&adapter));
        let ours: Vec<f32> = case.top_ids.iter().map(|&id| logits[id]).collect();
        let with = difference(&ours, &case.top_logits);
        println!("{:?}: {with}", case.prompt);
        assert!(with <= logit_tolerance(), "{:?}: {with}", case.prompt);
        let bare = bench.read(&case.tokens, MAX_ROWS, None);
        let ours: Vec<f32> = case.top_ids.iter().map(|&id| bare[id]).collect();
        let without = difference(&ours, &case.top_logits);
        assert!(
            without > 1.5 * LOGIT_TOLERANCE,
            "the adapter changes nothing: {without}"
        );
    }
}

#[test]
fn a_mixed_batch_gives_each_what_it_gets_alone() {
    let mut bench = Bench::new(gemma());
    let shelf = Shelf::of_examples(&bench.model);
    let cases = read::<Cases>("adapters.json").generate;
    let choices = [
        None,
        Some(shelf.get("qa").unwrap()),
        Some(shelf.get("headline").unwrap()),
    ];
    let adapters: Vec<Option<Arc<Adapter>>> =
        choices.iter().cycle().take(cases.len()).cloned().collect();
    let alone: Vec<[Vec<f32>; 3]> = cases
        .iter()
        .map(|case| {
            let read = |adapter: &Option<_>| bench.read(&case.tokens, MAX_ROWS, adapter.as_ref());
            choices.each_ref().map(read)
        })
        .collect();
    let mut sequences: Vec<Sequence> = cases.iter().map(|_| bench.sequence()).collect();
    // Of each prompt all but the last tokens, of different numbers; then the rest of all at once.
    let mut cut = Vec::new();
    for (index, (case, sequence)) in cases.iter().zip(&mut sequences).enumerate() {
        let read = case.tokens.len() - 1 - 7 * (index % 3);
        bench.step(&mut [SequenceRows {
            sequence,
            tokens: &case.tokens[..read],
            adapter: adapters[index].as_ref(),
            logits: Wanted::Nothing,
            guessed: 0,
        }]);
        cut.push(read);
    }
    let mut rows: Vec<SequenceRows<'_>> = sequences
        .iter_mut()
        .zip(&cases)
        .enumerate()
        .map(|(index, (sequence, case))| SequenceRows {
            sequence,
            tokens: &case.tokens[cut[index]..],
            adapter: adapters[index].as_ref(),
            logits: Wanted::All,
            guessed: 0,
        })
        .collect();
    let together = bench.step(&mut rows);
    // On a GPU the rows of a part and single ones are off each in its own way.
    let bound = match has_kernels(&real_models::device()) {
        true => LOGIT_TOLERANCE,
        false => 2.0 * CANDLE_TOLERANCE,
    };
    for (index, (alone, together)) in alone.iter().zip(&together).enumerate() {
        for (choice, alone) in alone.iter().enumerate() {
            let difference = difference(alone, together);
            let own = choice == index % 3;
            assert_eq!(
                difference <= bound,
                own,
                "{:?} with choice {choice}: {difference}",
                cases[index].prompt
            );
        }
    }
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let other = tiny("llama").decoder.adapter_base();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/rag/adapters/qa");
    let error = Adapter::load("qa", &folder, &other)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"qa\"") && error.contains("gemma-3-270m"),
        "{error}"
    );
}
