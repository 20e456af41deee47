//! What engine and worker say to each other: frames of a `u32` length, one letter, and a body.
//!
//! ```text
//! to the worker              from the worker
//! S start: a map             R ready: a map              F failed to start: what, traceback
//! C call: u64, u32 n,        V value: u64, u32, value    E error: u64, u32, what, traceback
//!   n maps without tags      P piece: u64, text          Z end of the pieces: u64
//! X cancel: u64
//! ```
//!
//! The `u64` is the number of a call, the `u32` an item of it. `worker/main.py` is the other half.

use super::codec::{Garbled, Reader, Writer};
use crate::{Arguments, NodeError, Value};
use bytes::{Buf as _, Bytes, BytesMut};

/// The longest frame from a worker, in bytes.
const MAX_FRAME: usize = 256 << 20;

/// What a worker says.
#[derive(Debug)]
pub(super) enum Frame {
    Ready(Value),
    Unready(Said),
    Value { call: u64, item: u32, value: Value },
    Error { call: u64, item: u32, said: Said },
    Piece { call: u64, text: String },
    End { call: u64 },
}

/// An exception of Python.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{traceback}")]
pub(super) struct Said {
    /// Its type and message.
    pub(super) what: String,
    pub(super) traceback: String,
}

impl Frame {
    /// Takes the next frame off what has come, if all of it has.
    pub(super) fn take(incoming: &mut BytesMut) -> Result<Option<Self>, Garbled> {
        let Some(head) = incoming.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length == 0 || length > MAX_FRAME {
            return Err(Garbled("a frame has an impossible length"));
        }
        if incoming.len() < 4 + length {
            incoming.reserve(4 + length - incoming.len());
            return Ok(None);
        }
        incoming.advance(4);
        Self::read(&incoming.split_to(length)).map(Some)
    }

    fn read(frame: &[u8]) -> Result<Self, Garbled> {
        let mut body = Reader(&frame[1..]);
        Ok(match frame[0] {
            b'R' => Frame::Ready(body.value()?),
            b'F' => Frame::Unready(Said::read(&mut body)?),
            b'V' => Frame::Value {
                call: body.u64()?,
                item: body.u32()?,
                value: body.value()?,
            },
            b'E' => Frame::Error {
                call: body.u64()?,
                item: body.u32()?,
                said: Said::read(&mut body)?,
            },
            b'P' => Frame::Piece {
                call: body.u64()?,
                text: body.text()?.to_owned(),
            },
            b'Z' => Frame::End { call: body.u64()? },
            _ => return Err(Garbled("a frame begins with an unknown letter")),
        })
    }
}

impl Said {
    fn read(body: &mut Reader<'_>) -> Result<Self, Garbled> {
        Ok(Self {
            what: body.text()?.to_owned(),
            traceback: body.text()?.to_owned(),
        })
    }
}

/// The source of a worker and its first frame.
pub(super) fn start(source: &str, order: &Value) -> Result<Bytes, NodeError> {
    let mut writer = Writer::default();
    writer.text(source)?;
    let mut body = Writer::default();
    body.byte(b'S');
    body.value(order)?;
    let mut bytes = writer.finish();
    bytes.extend(framed(body)?);
    Ok(bytes.into())
}

/// Has the items of a call answered.
pub(super) fn call(number: u64, items: &[Arguments]) -> Result<Bytes, NodeError> {
    let mut body = Writer::default();
    body.byte(b'C');
    body.u64(number);
    body.u32(items.len() as u32);
    for arguments in items {
        body.u32(arguments.iter().count() as u32);
        for (name, value) in arguments.iter() {
            match name.contains('-') {
                true => body.text(&name.replace('-', "_"))?,
                false => body.text(name)?,
            }
            body.value(value)?;
        }
    }
    framed(body)
}

/// Gives a call up.
pub(super) fn cancel(number: u64) -> Bytes {
    let mut body = Vec::from(9_u32.to_le_bytes());
    body.push(b'X');
    body.extend(number.to_le_bytes());
    body.into()
}

fn framed(body: Writer) -> Result<Bytes, NodeError> {
    let body = body.finish();
    let length = u32::try_from(body.len()).ok();
    let length = length.filter(|length| *length as usize <= MAX_FRAME);
    let length =
        length.ok_or_else(|| NodeError::invalid("the arguments are too large for a worker"))?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend(length.to_le_bytes());
    frame.extend(body);
    Ok(frame.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_as_they_become_whole() {
        let whole = [9, 0, 0, 0, b'Z', 7, 0, 0, 0, 0, 0, 0, 0];
        let ends: Vec<usize> = (0..whole.len()).collect();
        for end in ends {
            let mut incoming = BytesMut::from(&whole[..end]);
            assert!(Frame::take(&mut incoming).unwrap().is_none(), "{end}");
        }
        let mut two = BytesMut::from(&whole[..]);
        two.extend_from_slice(&whole);
        for _ in 0..2 {
            let frame = Frame::take(&mut two).unwrap();
            assert!(matches!(frame, Some(Frame::End { call: 7 })));
        }
        assert!(two.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bytes in [
            [0, 0, 0, 0, 0],
            [0xff, 0xff, 0xff, 0xff, 0],
            [1, 0, 0, 0, b'?'],
        ] {
            assert!(Frame::take(&mut BytesMut::from(&bytes[..])).is_err());
        }
    }
}
