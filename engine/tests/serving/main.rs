//! Graphs from KDL text to answers, with scripted nodes: the walk on a paused clock, and HTTP over
//! loopback sockets.

mod http;
mod kit;
mod walk;
