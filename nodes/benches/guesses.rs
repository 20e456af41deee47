//! How much faster a text alone is made when its next tokens are guessed: `cargo bench -p nodes --bench
//! guesses -- [THREADS]`.
//!
//! The prompts are made of the pages in `docs/`: questions over passages and headlines, with the
//! examples' adapters, and passages that go on. Each text is made with guesses and without, in turns.

#[path = "../tests/real_models/mod.rs"]
mod real_models;

use nodes::{
    Arguments, Context, Finish, Generate, Input, Node, NodeError, Value,
    adapter::{Adapter, Adapters},
    generate::GenerateOptions,
    model::decoder::LanguageModel,
};
use std::{collections::BTreeMap, env, error::Error, fs, path::Path, sync::Arc};
use tokio::{
    runtime,
    time::{Duration, Instant},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const PROMPTS: usize = 12;
const TOKENS: i64 = 64;

fn main() -> Outcome<()> {
    // Cargo asks every target for its tests, and adds `--bench` to the arguments.
    if env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let threads = env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let threads = threads.unwrap_or(2);
    let model = Arc::new(LanguageModel::load(
        &real_models::gemma(),
        &real_models::device(),
    )?);
    let shelf = Arc::new(Shelf::of_examples(&model)?);
    let node = |guess| {
        let options = GenerateOptions {
            threads,
            guess,
            ..GenerateOptions::default()
        };
        Generate::start("generate", Arc::clone(&model), shelf.clone(), &options)
    };
    let nodes = [node(false)?, node(true)?];
    let sections = sections()?;
    println!("Gemma 3 270M on {threads} threads, one text at a time, tokens/s after the first");
    println!("                          without    guessing  ratio  guessed");
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    type Prompt = fn(&[(String, String)], usize) -> (String, Option<&'static str>);
    let kinds: [(&str, Prompt); 4] = [
        ("answer over 1 passage", |all, i| question(all, i, 1)),
        ("answer over 3 passages", |all, i| question(all, i, 3)),
        ("headline", |all, i| {
            (format!("Text: {}\nHeadline:", all[i].1), Some("headline"))
        }),
        ("passage that goes on", |all, i| (all[i].1.clone(), None)),
    ];
    for (name, prompt) in kinds {
        let mut sums = [Sum::default(), Sum::default()];
        for index in 0..PROMPTS {
            let (prompt, adapter) = prompt(&sections, index * sections.len() / PROMPTS);
            for (node, sum) in nodes.iter().zip(&mut sums) {
                runtime.block_on(sum.add(node, &prompt, adapter))?;
            }
        }
        let [plain, guessing] = &sums;
        println!(
            "{name:24} {:8.1}    {:8.1}   {:4.2}   {:5.2}",
            plain.rate(),
            guessing.rate(),
            guessing.rate() / plain.rate(),
            f64::from(guessing.guessed) / f64::from(guessing.made.max(1)),
        );
    }
    Ok(())
}

/// Headings and the first paragraph under each, of all pages.
fn sections() -> Outcome<Vec<(String, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut pages: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    pages.sort_by_key(|page| page.path());
    let mut sections = Vec::new();
    for page in pages
        .iter()
        .filter(|page| page.path().extension() == Some("md".as_ref()))
    {
        for section in fs::read_to_string(page.path())?.split("\n## ").skip(1) {
            let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
            let paragraph = text.trim_start().split("\n\n").next().unwrap_or_default();
            if paragraph.len() > 100 && paragraph.starts_with(char::is_alphabetic) {
                sections.push((heading.to_owned(), paragraph.replace('\n', " ")));
            }
        }
    }
    Ok(sections)
}

/// A question after so many passages, of which one tells the answer.
fn question(
    all: &[(String, String)],
    index: usize,
    passages: usize,
) -> (String, Option<&'static str>) {
    let passages: String = (index..index + passages)
        .map(|index| &all[index % all.len()])
        .map(|(heading, text)| format!("[{}] {text}\n", heading.to_lowercase()))
        .collect();
    let about = &all[index].0;
    (
        format!("{passages}Question: What is said of {about}?\nAnswer:"),
        Some("qa"),
    )
}

/// What some texts took.
#[derive(Default)]
struct Sum {
    time: Duration,
    made: u32,
    guessed: u32,
}

impl Sum {
    async fn add(&mut self, node: &Generate, prompt: &str, adapter: Option<&str>) -> Outcome<()> {
        let arguments = Arguments::from_iter([
            ("prompt", Value::text(prompt)),
            ("adapter", adapter.map_or(Value::None, Value::text)),
            ("max-tokens", Value::Integer(TOKENS)),
        ]);
        let context = Context::default();
        let answer = node.run(vec![Input { arguments, context }]).await.pop();
        let Some(Value::Stream(mut stream)) = answer.transpose()? else {
            return Err("no stream".into());
        };
        stream.next().await.transpose()?;
        let began = Instant::now();
        let (_, finish): (_, Finish) = stream.collect().await?;
        self.time += began.elapsed();
        self.made += finish.completion_tokens.saturating_sub(1);
        self.guessed += finish.guessed_tokens;
        Ok(())
    }

    fn rate(&self) -> f64 {
        f64::from(self.made) / self.time.as_secs_f64()
    }
}

struct Shelf(BTreeMap<&'static str, Arc<Adapter>>);

impl Shelf {
    fn of_examples(model: &LanguageModel) -> Outcome<Self> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let base = model.decoder.adapter_base();
        let mut adapters = BTreeMap::new();
        for (name, folder) in [
            ("qa", "rag/adapters/qa"),
            ("headline", "adapters/adapters/headline"),
        ] {
            let adapter = Adapter::load(name, &examples.join(folder), &base)?;
            adapters.insert(name, Arc::new(adapter));
        }
        Ok(Self(adapters))
    }
}

impl Adapters for Shelf {
    fn get(&self, name: &str) -> Result<Arc<Adapter>, NodeError> {
        self.0
            .get(name)
            .cloned()
            .ok_or_else(|| NodeError::NotFound {
                what: "adapter",
                name: name.to_owned(),
            })
    }
}
