//! `engine reference`: the language reference, from the declarations that the decoder uses.

use super::Failure;

/// Print the reference of the language as Markdown.
#[derive(Debug, clap::Args)]
pub struct Reference {}

impl Reference {
    pub fn execute(self) -> Result<(), Failure> {
        print!("{}", schema::reference());
        Ok(())
    }
}
