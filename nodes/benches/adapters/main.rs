//! What many adapters on one model cost: 200 of rank 8 asked for after Zipf's law with room for 16, a
//! cold load, a switch between warm ones, and a decoding step in which every row has another.
//!
//! `cargo bench -p nodes --bench adapters`; with `-- cache` or `-- decode` one half of it.

mod decode;
mod load;
mod shelf;

use load::Way;
use nodes::{
    adapter::Adapter,
    residency::{AdapterFolder, Loader as _, Policy, Residency},
};
use schema::ByteSize;
use shelf::{ADAPTERS, Shelf, name};
use std::{env, error::Error, time::Duration};
use tokio::time::Instant;

/// How many adapters there is room for.
const ROOM: u32 = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let asked: Vec<String> = env::args().skip(1).collect();
    // Cargo asks every target for its tests.
    if asked.iter().any(|argument| argument == "--list") {
        return Ok(());
    }
    let wants = |part: &str| {
        let parts = ["cache", "decode"];
        let named = asked.iter().any(|one| parts.contains(&one.as_str()));
        !named || asked.iter().any(|one| one == part)
    };
    if wants("cache") {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(cache())?;
    }
    if wants("decode") {
        decode::measure();
    }
    Ok(())
}

async fn cache() -> Result<(), Box<dyn Error>> {
    let shelf = Shelf::write()?;
    println!(
        "{ADAPTERS} adapters of rank 8, {:.2} MB each\n",
        shelf.bytes as f64 / 1e6
    );
    cold(&shelf)?;
    switch(&shelf).await?;
    println!(
        "\nZipf(1.0), room for {ROOM}      hit rate   p50, ms   p99, ms    loads  evictions  wrong"
    );
    for way in Way::ALL {
        let residency = residency(&shelf, Policy::new(ROOM, ByteSize(1 << 30)));
        let result = load::run(&shelf, &residency, way).await?;
        println!("{:28}{result}", way.name());
    }
    Ok(())
}

fn residency(shelf: &Shelf, policy: Policy) -> Residency<Adapter> {
    let loader = AdapterFolder::new(shelf.folder.path(), shelf.base.clone());
    Residency::new(loader, policy)
}

/// Reads every adapter once; its files were just written, so they are in memory.
fn cold(shelf: &Shelf) -> Result<(), Box<dyn Error>> {
    let loader = AdapterFolder::new(shelf.folder.path(), shelf.base.clone());
    let mut times = Vec::new();
    for number in 0..ADAPTERS {
        let begun = Instant::now();
        loader.load(&name(number))?;
        times.push(begun.elapsed());
    }
    println!("cold load, ms                {}", spread(&mut times, 1e3));
    Ok(())
}

/// Asks for warm adapters in turn.
async fn switch(shelf: &Shelf) -> Result<(), Box<dyn Error>> {
    let residency = residency(shelf, Policy::new(ROOM, ByteSize(1 << 30)));
    let names: Vec<String> = (0..ROOM as usize).map(name).collect();
    for name in &names {
        residency.get(name).await?;
    }
    let mut times = Vec::new();
    for turn in 0..20_000 {
        let begun = Instant::now();
        residency.get(&names[turn % names.len()]).await?;
        times.push(begun.elapsed());
    }
    println!("switch of a warm one, µs     {}", spread(&mut times, 1e6));
    Ok(())
}

/// Median and 99th percentile, and the most.
fn spread(times: &mut [Duration], unit: f64) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * unit;
    format!(
        "p50 {:.2}   p99 {:.2}   most {:.2}",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}
