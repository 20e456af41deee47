//! Which blocks of prompts are kept after use, and which of them go first.
//!
//! A tree: a node stands for the [`BLOCK`] tokens that follow those of its parent, and so for all tokens
//! from the prompt's first on, since what a layer keeps of a position depends on everything before it.
//! Each adapter has a tree of its own. Blocks are the edges of vLLM's automatic prefix caching, the
//! tree is that of Zheng et al. 2024, *SGLang* (RadixAttention); tokens are compared themselves and
//! not their hashes, so that no two prompts can be taken for each other.
//!
//! A node has a block of the layers that see all positions, and one of those with a window, which may go
//! before: it is of use only to prompts that part from this one within the window.
//!
//! Nothing here touches memory: blocks are numbers, and time is a count of what happened.

use super::{BLOCK, Span};
use std::collections::{BTreeMap, HashMap};

/// A node; numbers are never used twice.
pub(super) type NodeId = u64;

/// The prompt of a sequence, and the nodes of its blocks that were read so far.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) adapter: Option<u64>,
    pub(super) tokens: Vec<u32>,
    pub(super) nodes: Vec<NodeId>,
}

/// What comes before a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Parent {
    /// Nothing: it is the first of a prompt that is read with this adapter.
    Start(Option<u64>),
    Node(NodeId),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Edge {
    parent: Parent,
    tokens: [u32; BLOCK],
}

#[derive(Debug)]
struct Node {
    edge: Edge,
    /// By [`Span`]; that of all positions is there as long as the node.
    parts: [Option<Part>; 2],
}

/// A block of a node.
#[derive(Debug)]
struct Part {
    block: u32,
    /// Sequences that hold it.
    readers: usize,
    /// When the last of them let go of it.
    idle_since: u64,
}

/// A block that a sequence holds together with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) block: u32,
    /// Whether another held it already.
    pub(super) in_use: bool,
}

/// All nodes, and those that nobody holds, the longest unused first.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    nodes: HashMap<NodeId, Node>,
    edges: HashMap<Edge, NodeId>,
    idle: [BTreeMap<u64, NodeId>; 2],
    last_node: NodeId,
    clock: u64,
}

impl Prompt {
    fn edge(&self, index: usize, parent: Option<NodeId>) -> Option<Edge> {
        let tokens = self.tokens.get(index * BLOCK..(index + 1) * BLOCK)?;
        Some(Edge {
            parent: parent.map_or(Parent::Start(self.adapter), Parent::Node),
            tokens: tokens.try_into().ok()?,
        })
    }
}

impl Prefixes {
    /// The nodes that carry the prompt on where its own end, as far as a sequence can begin behind
    /// the last of them: at least one token is left to be read, and of the layers with a window those
    /// blocks are there that the next position sees, from `first_seen(blocks)` on.
    pub(super) fn follow(
        &self,
        prompt: &Prompt,
        first_seen: impl Fn(usize) -> usize,
    ) -> Vec<NodeId> {
        let start = prompt.nodes.len();
        let mut found: Vec<NodeId> = Vec::new();
        // How many of the nodes are of use, and the block from which on none is missing in a window.
        let (mut usable, mut whole_from) = (0, 0);
        while (start + found.len() + 1) * BLOCK < prompt.tokens.len() {
            let index = start + found.len();
            let parent = found.last().or(prompt.nodes.last()).copied();
            let node = prompt.edge(index, parent);
            let Some(&node) = node.and_then(|edge| self.edges.get(&edge)) else {
                break;
            };
            found.push(node);
            if !self.has(node, Span::Sliding) {
                whole_from = index + 1;
            }
            if first_seen(index + 1) >= whole_from {
                usable = found.len();
            }
        }
        found.truncate(usable);
        found
    }

    /// The node of the prompt's next block, made if there is none.
    pub(super) fn node(&mut self, prompt: &Prompt) -> Option<NodeId> {
        let edge = prompt.edge(prompt.nodes.len(), prompt.nodes.last().copied())?;
        if let Some(&node) = self.edges.get(&edge) {
            return Some(node);
        }
        self.last_node += 1;
        self.edges.insert(edge.clone(), self.last_node);
        let parts = [None, None];
        self.nodes.insert(self.last_node, Node { edge, parts });
        Some(self.last_node)
    }

    /// Has a sequence hold the node's block, or gives the node the sequence's `own` if it has none.
    pub(super) fn share(&mut self, node: NodeId, span: Span, own: u32) -> Shared {
        if let Some(shared) = self.hold(node, span) {
            return shared;
        }
        let part = Part {
            block: own,
            readers: 1,
            idle_since: 0,
        };
        if let Some(node) = self.nodes.get_mut(&node) {
            node.parts[span as usize] = Some(part);
        }
        Shared {
            block: own,
            in_use: false,
        }
    }

    /// Has a sequence hold the node's block, if it has one.
    pub(super) fn hold(&mut self, node: NodeId, span: Span) -> Option<Shared> {
        let part = self.part(node, span)?;
        let in_use = part.readers > 0;
        part.readers += 1;
        let (block, idle_since) = (part.block, part.idle_since);
        if !in_use {
            self.idle[span as usize].remove(&idle_since);
        }
        Some(Shared { block, in_use })
    }

    /// A sequence lets go of the node's block; whether it was the last. A sequence lets go of its last
    /// blocks first, so that a node is always older than what it follows.
    pub(super) fn leave(&mut self, node: NodeId, span: Span) -> bool {
        self.clock += 1;
        let now = self.clock;
        let Some(part) = self.part(node, span) else {
            return false;
        };
        part.readers -= 1;
        let last = part.readers == 0;
        if last {
            part.idle_since = now;
            self.idle[span as usize].insert(now, node);
        }
        last
    }

    /// How many blocks nobody holds.
    pub(super) fn idle(&self) -> [usize; 2] {
        [self.idle[0].len(), self.idle[1].len()]
    }

    /// Which span's blocks have been unused for longest.
    pub(super) fn oldest(&self) -> Option<Span> {
        let since = |span: &Span| self.idle[*span as usize].keys().next();
        let idle = Span::ALL.into_iter().filter(|span| since(span).is_some());
        idle.min_by_key(|span| since(span))
    }

    /// Forgets the span's block that has been unused for longest. Without a block of the layers that see
    /// all positions a node is of no use, so that its other block goes too.
    pub(super) fn evict(&mut self, span: Span) -> [Option<u32>; 2] {
        let Some((_, id)) = self.idle[span as usize].pop_first() else {
            return [None; 2];
        };
        if span == Span::Sliding {
            let part = self
                .nodes
                .get_mut(&id)
                .and_then(|node| node.parts[1].take());
            return [None, part.map(|part| part.block)];
        }
        let Some(node) = self.nodes.remove(&id) else {
            return [None; 2];
        };
        self.edges.remove(&node.edge);
        if let Some(part) = &node.parts[Span::Sliding as usize] {
            self.idle[Span::Sliding as usize].remove(&part.idle_since);
        }
        node.parts.map(|part| part.map(|part| part.block))
    }

    /// Numbers the span's blocks anew from 0 on while nobody holds any; gives their old numbers in
    /// order of the new ones.
    pub(super) fn renumber(&mut self, span: Span) -> Vec<u32> {
        let mut old = Vec::new();
        let parts = self.nodes.values_mut();
        for part in parts.filter_map(|node| node.parts[span as usize].as_mut()) {
            let new = old.len() as u32;
            old.push(std::mem::replace(&mut part.block, new));
        }
        old
    }

    fn has(&self, node: NodeId, span: Span) -> bool {
        let node = self.nodes.get(&node);
        node.is_some_and(|node| node.parts[span as usize].is_some())
    }

    fn part(&mut self, node: NodeId, span: Span) -> Option<&mut Part> {
        self.nodes.get_mut(&node)?.parts[span as usize].as_mut()
    }
}

/// With which adapter what was read, up to the end of a block.
#[cfg(test)]
pub(super) type Content = (Option<u64>, Vec<u32>);

#[cfg(test)]
impl Prefixes {
    /// Every block of every node, and what it holds.
    pub(super) fn contents(&self) -> Vec<(Span, u32, Content)> {
        let mut contents = Vec::new();
        for node in self.nodes.values() {
            let (mut tokens, mut edge) = (Vec::new(), &node.edge);
            let adapter = loop {
                tokens.splice(0..0, edge.tokens);
                match edge.parent {
                    Parent::Start(adapter) => break adapter,
                    Parent::Node(parent) => edge = &self.nodes[&parent].edge,
                }
            };
            for span in Span::ALL {
                if let Some(part) = &node.parts[span as usize] {
                    contents.push((span, part.block, (adapter, tokens.clone())));
                }
            }
        }
        contents
    }
}
