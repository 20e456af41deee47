//! How far downloads are, for whoever wants to show it.

/// Is told of downloads. The engine draws bars; [`Silent`] does nothing.
pub trait Progress: Send + Sync {
    /// A download begins; `total` is its size in bytes, where it is known.
    fn start(&self, name: &str, total: Option<u64>) -> Box<dyn Transfer>;
}

/// One download under way. Dropped without [`Transfer::finish`], it has failed or was given up.
pub trait Transfer: Send {
    /// So many bytes are there. Starts above 0 where a download is resumed, and goes back to 0
    /// where it has to start over.
    fn at(&mut self, bytes: u64);

    /// All of it is there.
    fn finish(self: Box<Self>);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _name: &str, _total: Option<u64>) -> Box<dyn Transfer> {
        Box::new(Silent)
    }
}

impl Transfer for Silent {
    fn at(&mut self, _bytes: u64) {}

    fn finish(self: Box<Self>) {}
}
