//! A changed file changes what runs, and no request notices: nothing is lost, nothing is answered
//! twice, and a mistake in the file keeps what runs. One property a file.
//!
//! `ENGINE_RELOADS=100` makes as many reloads, under load and for leaks, and prints what it measures
//! (with `--nocapture`); the default is small.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

mod addresses;
mod blue_green;
mod broken;
mod canary;
mod code;
mod editors;
mod kept;
mod kit;
mod leaks;
mod load;
mod models;
mod orders;
mod pause;
mod shadow;
mod sticky;
