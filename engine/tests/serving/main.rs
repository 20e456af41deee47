//! Graphs from KDL text to answers, with scripted nodes: the walk on a paused clock, and HTTP over
//! loopback sockets.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

mod adapters;
mod http;
mod kit;
mod pools;
mod walk;
