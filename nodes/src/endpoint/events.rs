//! Server-sent events, as a service streams its answer. Pure: bytes go in, the data of events comes
//! out.

use bytes::BytesMut;

/// Longest line that is read; a longer one is an error and not a reason to take more memory.
const LONGEST_LINE: usize = 1 << 20;

/// Puts the pieces of a body together to events.
#[derive(Debug, Default)]
pub(super) struct Events {
    bytes: BytesMut,
    /// Bytes that were looked through for the end of a line already.
    seen: usize,
    data: String,
    has_data: bool,
}

/// A line is longer than any event of these protocols.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    /// Takes in a piece of the body.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The data of the next event that is complete.
    pub(super) fn next(&mut self) -> Result<Option<String>, TooLong> {
        while let Some(line) = self.line()? {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                if let Some(data) = self.take() {
                    return Ok(Some(data));
                }
            } else {
                self.read(text);
            }
        }
        Ok(None)
    }

    /// What is left when the body has ended: some servers leave out the last empty line.
    pub(super) fn rest(&mut self) -> Option<String> {
        let bytes = self.bytes.split();
        self.seen = 0;
        self.read(String::from_utf8_lossy(&bytes).trim_end());
        self.take()
    }

    fn line(&mut self) -> Result<Option<BytesMut>, TooLong> {
        let unseen = &self.bytes[self.seen..];
        let Some(end) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.seen = self.bytes.len();
            return match self.seen > LONGEST_LINE {
                true => Err(TooLong),
                false => Ok(None),
            };
        };
        let line = self.bytes.split_to(self.seen + end + 1);
        self.seen = 0;
        Ok(Some(line))
    }

    /// Fields other than `data` carry nothing that these protocols need.
    fn read(&mut self, line: &str) {
        let Some(data) = line.strip_prefix("data:") else {
            return;
        };
        if self.has_data {
            self.data.push('\n');
        }
        self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        self.has_data = true;
    }

    fn take(&mut self) -> Option<String> {
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data).then_some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> Vec<String> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for piece in pieces {
            events.push(piece.as_bytes());
            while let Some(data) = events.next().unwrap() {
                found.push(data);
            }
        }
        found.extend(events.rest());
        found
    }

    #[test]
    fn events_come_out_however_the_body_is_cut() {
        let body = ": hello\n\nevent: x\ndata: {\"a\":\r\ndata:1}\r\n\r\nid: 7\n\ndata:  b\n\ndata\n\ndata: [DONE]";
        let expected = ["{\"a\":\n1}", " b", "[DONE]"];
        assert_eq!(read(&[body]), expected);
        let bytes: Vec<String> = body.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut events = Events::default();
        events.push(&vec![b'x'; LONGEST_LINE + 1]);
        assert_eq!(events.next(), Err(TooLong));
    }
}
