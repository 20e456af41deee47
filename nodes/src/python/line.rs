//! The engine's end of the socket to a worker: frames out of it, bytes into it, neither of which
//! waits. Whoever owns a line awaits [`Line::ready`] and then does what can be done at once, so that
//! an engine and a worker that both have much to say never wait for each other.

use super::{codec::Garbled, frame::Frame};
use bytes::{Buf as _, Bytes, BytesMut};
use std::{collections::VecDeque, io};
use tokio::{io::Interest, net::UnixStream};

/// What is read at once, in bytes.
const PART: usize = 64 << 10;

/// A socket with what came and what is to go.
pub(super) struct Line {
    socket: UnixStream,
    incoming: BytesMut,
    outgoing: VecDeque<Bytes>,
}

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("it closed its socket")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Garbled(#[from] Garbled),
}

impl Line {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            incoming: BytesMut::new(),
            outgoing: VecDeque::new(),
        }
    }

    /// Waits until there is something to read, or room for what is to go. Can be given up.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let interest = match self.outgoing.is_empty() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        self.socket.ready(interest).await.map(|_| ())
    }

    /// Sends bytes, now as far as there is room, and the rest as there comes more.
    pub(super) fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.outgoing.push_back(bytes);
        self.flush()
    }

    /// Sends what is to go, as far as there is room.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(first) = self.outgoing.front_mut() {
            match self.socket.try_write(first) {
                Ok(written) if written < first.len() => first.advance(written),
                Ok(_) => drop(self.outgoing.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes in what has come.
    pub(super) fn fill(&mut self) -> Result<(), Cut> {
        loop {
            self.incoming.reserve(PART);
            match self.socket.try_read_buf(&mut self.incoming) {
                Ok(0) => return Err(Cut::Closed),
                // Fewer than there was room for: there is no more for now.
                Ok(read) if read < PART => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next frame of what was taken in.
    pub(super) fn take(&mut self) -> Result<Option<Frame>, Garbled> {
        Frame::take(&mut self.incoming)
    }

    /// The next frame, waited for.
    pub(super) async fn next(&mut self) -> Result<Frame, Cut> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.ready().await?;
            self.flush()?;
            self.fill()?;
        }
    }
}
