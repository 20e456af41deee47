//! Blocks that change hands.

use super::{prefixes::Content, *};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const ROWS: usize = 64;
const WINDOW: usize = 70;

fn shape(windows: &[Option<usize>]) -> KvShape {
    KvShape {
        kv_heads: 2,
        head_dim: 4,
        windows: windows.to_vec(),
    }
}

/// Bytes of a block in one layer.
const BLOCK_BYTES: usize = 2 * size_of::<f16>() * 2 * 4 * BLOCK;

#[test]
fn room_is_promised_for_the_longest_course() {
    let mut pool = KvPool::new(shape(&[None]), &Device::Cpu, 4 * BLOCK_BYTES, ROWS);
    assert!(pool.can_hold(4 * BLOCK) && !pool.can_hold(4 * BLOCK + 1));
    let long = pool.admit(3 * BLOCK).unwrap();
    assert!(pool.admit(2 * BLOCK).is_none());
    let short = pool.admit(BLOCK).unwrap();
    pool.release(long);
    assert!(pool.admit(3 * BLOCK).is_some());
    pool.release(short);
}

#[test]
fn a_window_bounds_what_a_long_sequence_holds() {
    let mut pool = KvPool::new(shape(&[Some(100), None]), &Device::Cpu, usize::MAX, ROWS);
    let mut sequence = pool.admit(10_000).unwrap();
    while sequence.len() + ROWS <= 10_000 {
        pool.extend(&mut sequence, ROWS).unwrap();
        pool.advance(&mut sequence, ROWS);
    }
    assert_eq!(pool.blocks[Span::Whole as usize].allocated, 312);
    assert_eq!(pool.blocks[Span::Sliding as usize].allocated, 6);
    assert!(pool.extend(&mut sequence, ROWS + 1).is_err());
    pool.release(sequence);
    assert_eq!(pool.bytes(), 0, "an empty pool gives its memory back");
}

/// Reads so many tokens of its prompt.
fn read(pool: &mut KvPool, sequence: &mut Sequence, mut tokens: usize) {
    while tokens > 0 {
        let rows = tokens.min(ROWS);
        pool.extend(sequence, rows).unwrap();
        pool.advance(sequence, rows);
        tokens -= rows;
    }
}

/// A sequence that has read the prompt, and how many tokens of it others had read.
fn reader(pool: &mut KvPool, prompt: &[u32], adapter: Option<u64>) -> (Sequence, usize) {
    let mut sequence = pool.admit(prompt.len()).unwrap();
    sequence.reads(prompt.to_vec(), adapter);
    let cached = pool.resume(&mut sequence);
    read(pool, &mut sequence, prompt.len() - cached);
    (sequence, cached)
}

/// Blocks of the same token each.
fn prompt(blocks: &[u32]) -> Vec<u32> {
    let block = |token: &u32| [*token; BLOCK];
    blocks.iter().flat_map(block).collect()
}

fn cached(pool: &mut KvPool, prompt: &[u32], adapter: Option<u64>) -> usize {
    let (sequence, cached) = reader(pool, prompt, adapter);
    pool.release(sequence);
    cached / BLOCK
}

#[test]
fn a_prompt_goes_on_where_others_have_read() {
    let mut pool = KvPool::new(shape(&[None]), &Device::Cpu, usize::MAX, ROWS).keeping(usize::MAX);
    assert_eq!(cached(&mut pool, &prompt(&[1, 2, 3]), None), 0);
    // The last token is read in any case.
    assert_eq!(cached(&mut pool, &prompt(&[1, 2, 3]), None), 2);
    assert_eq!(cached(&mut pool, &prompt(&[1, 2, 3, 9]), None), 3);
    assert_eq!(cached(&mut pool, &prompt(&[1, 2, 7]), None), 2);
    assert_eq!(cached(&mut pool, &prompt(&[2, 3, 9]), None), 0);
    assert_eq!(
        cached(&mut pool, &[prompt(&[1]), vec![2; 5]].concat(), None),
        1
    );
    // What an adapter has read is another thing.
    assert_eq!(cached(&mut pool, &prompt(&[1, 2, 3]), Some(4)), 0);
    assert_eq!(cached(&mut pool, &prompt(&[1, 2, 3]), Some(4)), 2);
    assert_eq!(cached(&mut pool, &prompt(&[1, 2, 3]), Some(5)), 0);
}

#[test]
fn a_window_needs_its_own_blocks() {
    // A position sees the three blocks before it.
    let mut pool =
        KvPool::new(shape(&[None, Some(70)]), &Device::Cpu, usize::MAX, ROWS).keeping(usize::MAX);
    let long = prompt(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(cached(&mut pool, &long, None), 0);
    let branch = prompt(&[1, 2, 3, 4, 5, 90, 91]);
    assert_eq!(cached(&mut pool, &branch, None), 5);
    // Those of the first two blocks have been unused for longest.
    for _ in 0..2 {
        pool.evict(Span::Sliding);
    }
    let longer = [long.clone(), vec![9]].concat();
    assert_eq!(cached(&mut pool, &longer, None), 8);
    let early = prompt(&[1, 2, 92]);
    assert_eq!(cached(&mut pool, &early, None), 0);
    assert_eq!(cached(&mut pool, &early, None), 2, "it has put them back");
}

#[test]
fn prompts_that_are_read_at_once_come_together() {
    let mut pool =
        KvPool::new(shape(&[None, Some(70)]), &Device::Cpu, usize::MAX, ROWS).keeping(usize::MAX);
    let mut two = [7, 8].map(|last| {
        let mut sequence = pool.admit(5 * BLOCK).unwrap();
        sequence.reads(prompt(&[1, 2, 3, last]), None);
        sequence
    });
    for sequence in &mut two {
        read(&mut pool, sequence, BLOCK);
    }
    assert_eq!(two[0].list(Span::Whole), two[1].list(Span::Whole));
    read(&mut pool, &mut two[0], 3 * BLOCK);
    assert_eq!(pool.resume(&mut two[1]), 2 * BLOCK);
    assert_eq!(two[0].list(Span::Whole)[..3], *two[1].list(Span::Whole));
    let [first, second] = two;
    pool.release(first);
    assert_eq!(second.len(), 3 * BLOCK);
    pool.release(second);
}

#[test]
fn what_is_kept_makes_room() {
    let mut pool =
        KvPool::new(shape(&[None]), &Device::Cpu, 4 * BLOCK_BYTES, ROWS).keeping(usize::MAX);
    assert_eq!(cached(&mut pool, &prompt(&[1, 2, 3]), None), 0);
    // Its end goes first.
    assert_eq!(cached(&mut pool, &prompt(&[5, 6]), None), 0);
    assert_eq!(cached(&mut pool, &prompt(&[1, 2, 3]), None), 2);
    assert_eq!(cached(&mut pool, &prompt(&[7, 8, 9, 10]), None), 0);
    assert_eq!(cached(&mut pool, &prompt(&[1, 2]), None), 0);
}

#[test]
fn shared_blocks_take_room_once() {
    let mut pool =
        KvPool::new(shape(&[None]), &Device::Cpu, 6 * BLOCK_BYTES, ROWS).keeping(usize::MAX);
    let three = |last| prompt(&[1, 2, 3, last])[..3 * BLOCK + 1].to_vec();
    let (first, _) = reader(&mut pool, &three(4), None);
    // Four blocks are held; another four fit only because three are the same.
    assert!(pool.admit(4 * BLOCK).is_none());
    pool.release(first);
    let (first, read) = reader(&mut pool, &three(5), None);
    assert_eq!(read, 3 * BLOCK);
    let mut second = pool.admit(2 * BLOCK).unwrap();
    second.reads(prompt(&[1, 2]), None);
    assert_eq!(pool.resume(&mut second), BLOCK);
    assert!(pool.admit(BLOCK).is_some(), "4 + 1 + 1 blocks");
    pool.release(first);
    pool.release(second);
}

#[test]
fn memory_beyond_what_is_kept_is_given_back() {
    let kept = 3 * BLOCK_BYTES;
    let mut pool = KvPool::new(shape(&[None]), &Device::Cpu, usize::MAX, ROWS).keeping(kept);
    let (long, _) = reader(&mut pool, &prompt(&[1; 40]), None);
    pool.release(long);
    assert_eq!(pool.bytes(), kept);
    assert_eq!(cached(&mut pool, &prompt(&[1; 40]), None), 3);
}

/// A pool, and beside it what a simple mind knows of it.
struct Watched {
    pool: KvPool,
    sequences: Vec<Reader>,
    memory: [HashMap<u32, Content>; 2],
    /// All that was ever read, block by block.
    known: HashSet<Content>,
    window: Option<usize>,
    forgets: bool,
}

struct Reader {
    sequence: Sequence,
    adapter: Option<u64>,
    tokens: Vec<u32>,
    prompt: usize,
}

impl Reader {
    fn content(&self, end: usize) -> Content {
        (self.adapter, self.tokens[..end].to_vec())
    }
}

impl Watched {
    fn admit(&mut self, blocks: &[u32], rest: usize, adapter: Option<u64>, more: usize) {
        let mut tokens = prompt(blocks);
        tokens.extend(vec![3; rest]);
        let prompt = tokens.len();
        // Generated tokens, which could be anything.
        tokens.extend((0..more).map(|i| i as u32 % 3));
        let Some(mut sequence) = self.pool.admit(tokens.len()) else {
            assert!(!self.sequences.is_empty() || !self.pool.can_hold(tokens.len()));
            return;
        };
        sequence.reads(tokens[..prompt].to_vec(), adapter);
        self.sequences.push(Reader {
            sequence,
            adapter,
            tokens,
            prompt,
        });
    }

    fn resume(&mut self, who: usize) {
        let reader = &mut self.sequences[who];
        let before = reader.sequence.len();
        let read = self.pool.resume(&mut reader.sequence);
        assert_eq!(reader.sequence.len(), before + read);
        let mut expected = 0;
        while before.is_multiple_of(BLOCK)
            && before + expected + BLOCK < reader.prompt
            && self
                .known
                .contains(&reader.content(before + expected + BLOCK))
        {
            expected += BLOCK;
        }
        assert!(read <= expected);
        assert!(self.forgets || read == expected, "{read} of {expected}");
    }

    fn read(&mut self, who: usize, rows: usize) {
        let reader = &mut self.sequences[who];
        let start = reader.sequence.len();
        let rows = rows.min(reader.tokens.len() - start);
        self.pool.extend(&mut reader.sequence, rows).unwrap();
        for position in start..start + rows {
            for span in Span::ALL {
                let block = reader.sequence.list(span)[position / BLOCK];
                let content = reader.content(position + 1);
                self.memory[span as usize].insert(block, content);
            }
        }
        self.pool.advance(&mut reader.sequence, rows);
        for end in (BLOCK..=reader.prompt.min(start + rows)).step_by(BLOCK) {
            self.known.insert(reader.content(end));
        }
    }

    fn release(&mut self, who: usize) {
        let reader = self.sequences.swap_remove(who);
        self.pool.release(reader.sequence);
        if self.sequences.is_empty() {
            // Blocks may have been numbered anew: those of nodes hold what they say.
            self.memory = Default::default();
            for (span, block, content) in self.pool.prefixes.contents() {
                self.memory[span as usize].insert(block, content);
            }
        }
    }

    fn check(&self) {
        assert!(self.pool.bytes() <= self.pool.max_bytes);
        assert!(self.pool.kept() <= self.pool.kept_bytes);
        for (span, block, content) in self.pool.prefixes.contents() {
            assert_eq!(self.memory[span as usize][&block], content);
        }
        for span in Span::ALL {
            let index = span as usize;
            let blocks = &self.pool.blocks[index];
            let mut held = HashSet::new();
            let mut promised = 0;
            for reader in &self.sequences {
                let length = reader.sequence.len();
                let list = reader.sequence.list(span);
                let gone = reader.sequence.gone[index];
                promised += reader.sequence.reserved[index] - (list.len() - gone);
                let window = self.window.filter(|_| index == 1).unwrap_or(usize::MAX);
                assert!(blocks.layers == 0 || gone <= (length + 1).saturating_sub(window) / BLOCK);
                held.extend(&list[gone..]);
                let read = gone..length.div_ceil(BLOCK);
                for (index_of_block, block) in read.clone().zip(&list[gone..]) {
                    let end = length.min((index_of_block + 1) * BLOCK);
                    assert_eq!(self.memory[index][block], reader.content(end));
                }
            }
            let mut all: Vec<u32> = blocks.free.clone();
            all.extend(&held);
            let nodes = self.pool.prefixes.contents();
            let nodes = nodes.into_iter().filter(|(of, ..)| *of == span);
            let idle: Vec<u32> = nodes
                .map(|(_, block, _)| block)
                .filter(|block| !held.contains(block))
                .collect();
            assert_eq!(idle.len(), self.pool.prefixes.idle()[index]);
            all.extend(idle);
            all.sort_unstable();
            assert_eq!(all, (0..blocks.allocated).collect::<Vec<_>>());
            if span == Span::Whole {
                assert_eq!(blocks.reserved, held.len() + promised);
            }
        }
    }
}

/// What happens to a pool.
#[derive(Debug, Clone)]
enum Event {
    Admit(Vec<u32>, usize, Option<u64>, usize),
    Resume(usize),
    Read(usize, usize),
    Release(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let blocks = prop::collection::vec(0u32..2, 0..9);
    let adapter = prop::option::of(0u64..2);
    prop_oneof![
        2 => (blocks, 1usize..BLOCK, adapter, 0usize..80)
            .prop_map(|(blocks, rest, adapter, more)| Event::Admit(blocks, rest, adapter, more)),
        3 => (0usize..6).prop_map(Event::Resume),
        // Mostly as `generate` does it, in whole blocks.
        4 => (0usize..6, 1usize..3).prop_map(|(who, blocks)| Event::Read(who, blocks * BLOCK)),
        2 => (0usize..6, 1usize..ROWS).prop_map(|(who, rows)| Event::Read(who, rows)),
        1 => (0usize..6).prop_map(Event::Release),
    ]
}

/// Whatever sequences do, what they see is what they have read, no block is in two hands that do not
/// know of each other, none is lost, and memory is bounded.
fn blocks_have_their_owners(
    windows: &[Option<usize>],
    max_blocks: usize,
    kept_blocks: usize,
    events: Vec<Event>,
) {
    let bytes = |blocks: usize| blocks.saturating_mul(BLOCK_BYTES);
    let pool = KvPool::new(shape(windows), &Device::Cpu, bytes(max_blocks), ROWS)
        .keeping(bytes(kept_blocks));
    let mut watched = Watched {
        pool,
        sequences: Vec::new(),
        memory: Default::default(),
        known: HashSet::new(),
        window: windows.iter().copied().flatten().next(),
        forgets: max_blocks < usize::MAX,
    };
    for event in events {
        let there = watched.sequences.len();
        match event {
            Event::Admit(blocks, rest, adapter, more) if there < 6 => {
                watched.admit(&blocks, rest, adapter, more);
            }
            Event::Resume(who) if who < there => watched.resume(who),
            Event::Read(who, rows) if who < there => watched.read(who, rows),
            Event::Release(who) if who < there => watched.release(who),
            _ => continue,
        }
        watched.check();
    }
    while !watched.sequences.is_empty() {
        watched.release(0);
        watched.check();
    }
}

proptest! {
    #[test]
    fn blocks_have_their_owners_with_a_window(
        events in prop::collection::vec(event(), 1..200),
        kept in 0usize..60,
    ) {
        blocks_have_their_owners(&[Some(WINDOW), None, Some(WINDOW)], 60, kept, events);
    }

    #[test]
    fn blocks_have_their_owners_without_one(
        events in prop::collection::vec(event(), 1..200),
        kept in 0usize..40,
    ) {
        blocks_have_their_owners(&[None, None], 40, kept, events);
    }

    #[test]
    fn blocks_have_their_owners_in_windows_alone(
        events in prop::collection::vec(event(), 1..200),
        kept in 0usize..40,
    ) {
        blocks_have_their_owners(&[Some(WINDOW)], 40, kept, events);
    }

    /// Where nothing has to go, all that was read of a prompt's beginning is found.
    #[test]
    fn nothing_is_read_twice_while_there_is_room(
        events in prop::collection::vec(event(), 1..200),
        window in prop::option::of(Just(WINDOW)),
    ) {
        blocks_have_their_owners(&[None, window], usize::MAX, usize::MAX, events);
    }
}
