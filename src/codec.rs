//! Bytes in and out, knowing nothing of RSerPool but its framing (RFC 5354 3, 4): big-endian integers, a
//! length field in bytes 2 and 3, padding to four bytes.
//!
//! [`Reader`] never reads past what it was given, [`Writer`] fills in a length when a parameter is closed,
//! [`MessageSplitter`] finds the messages in a byte stream. Nothing here allocates what a length claims.

/// What was to be read is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Truncated;

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[b]| b)
    }

    /// The next 16 bits.
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next 32 bits.
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// Passes over up to three bytes of padding that follow `len` bytes; they may be missing at the end.
    pub fn skip_padding(&mut self, len: usize) {
        let pad = padding(len).min(self.rest.len());
        self.rest = self.rest.get(pad..).unwrap_or_default();
    }
}

/// How many bytes pad `len` to a multiple of four.
pub const fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

/// Writes to a growing buffer.
///
/// Padding is written when something follows it, because the length of a parameter that holds others counts
/// the padding between them but not that behind the last one (RFC 5354 2).
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
    overflow: bool,
}

/// A parameter or message whose length is filled in by [`Writer::close`].
#[derive(Debug)]
#[must_use = "the length is filled in by Writer::close"]
pub struct Open {
    start: usize,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Appends 16 bits.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends 32 bits.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends zeros up to a multiple of four.
    pub fn pad(&mut self) {
        self.out.resize(self.out.len() + padding(self.out.len()), 0);
    }

    /// Begins something that starts with `head` (a parameter's type, or a message's type and flags) and a
    /// 16-bit length, behind the padding of what stands before it.
    pub fn open(&mut self, head: u16) -> Open {
        self.pad();
        let start = self.out.len();
        self.u16(head);
        self.u16(0);
        Open { start }
    }

    /// Fills in the length since `open`.
    pub fn close(&mut self, open: Open) {
        let len = self.out.len().saturating_sub(open.start);
        match (u16::try_from(len), self.out.get_mut(open.start + 2..open.start + 4)) {
            (Ok(len), Some(field)) => field.copy_from_slice(&len.to_be_bytes()),
            _ => self.overflow = true,
        }
    }

    /// What was written, padded to a multiple of four; none if something closed was longer than its 16-bit
    /// length can say.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        self.pad();
        self.finish_unpadded()
    }

    /// As [`Writer::finish`], without padding behind: for what becomes the value of something else.
    pub fn finish_unpadded(self) -> Option<Vec<u8>> {
        (!self.overflow).then_some(self.out)
    }
}

/// Finds messages in a byte stream: header of four bytes, length in bytes 2 and 3, padding behind.
#[derive(Debug, Default)]
pub struct MessageSplitter {
    buffer: Vec<u8>,
    read: usize,
}

/// A length field below the size of the header itself: where the next message starts is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsynchronised;

impl MessageSplitter {
    /// Takes in bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 && self.read >= self.buffer.len() / 2 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held that belong to a message not complete yet.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.read
    }

    /// The next complete message without the padding behind its length.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, Unsynchronised> {
        let rest = &self.buffer[self.read..];
        let Some(&[_, _, high, low]) = rest.first_chunk() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len < 4 {
            return Err(Unsynchronised);
        }
        let padded = len + padding(len);
        if rest.len() < padded {
            return Ok(None);
        }
        let start = self.read;
        self.read += padded;
        Ok(Some(&self.buffer[start..start + len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_nothing_more() {
        let mut reader = Reader::new(&[0, 1, 0, 0, 0, 2, 9]);
        assert_eq!((reader.u16(), reader.u32(), reader.u16()), (Ok(1), Ok(2), Err(Truncated)));
        assert_eq!(reader.u8(), Ok(9));
        reader.skip_padding(3);
        assert!(reader.is_empty());
    }

    #[test]
    fn counts_padding_between_nested_parameters_but_not_behind_the_last() {
        let mut writer = Writer::new();
        let outer = writer.open(0x000a);
        for value in [&b"abcde"[..], b"fg"] {
            let inner = writer.open(0x0009);
            writer.bytes(value);
            writer.close(inner);
        }
        writer.close(outer);
        let unpadded = b"\0\x0a\0\x16\0\x09\0\x09abcde\0\0\0\0\x09\0\x06fg";
        assert_eq!(writer.clone().finish_unpadded().unwrap(), unpadded);
        assert_eq!(writer.finish().unwrap(), [&unpadded[..], &[0, 0]].concat());
    }

    #[test]
    fn refuses_a_length_over_16_bits() {
        let mut writer = Writer::new();
        let open = writer.open(9);
        writer.bytes(&[0; 65_536]);
        writer.close(open);
        assert_eq!(writer.finish(), None);
    }

    #[test]
    fn splits_a_stream_wherever_it_is_cut() {
        let stream = b"\x0b\0\0\x07abc\0\x0c\0\0\x04\x0d\0\0\x08wxyz";
        for cut in 0..stream.len() {
            let mut splitter = MessageSplitter::default();
            let mut seen = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                splitter.push(part);
                while let Some(message) = splitter.next_message().unwrap() {
                    seen.push(message.to_vec());
                }
            }
            assert_eq!(seen, [&b"\x0b\0\0\x07abc"[..], b"\x0c\0\0\x04", b"\x0d\0\0\x08wxyz"]);
            assert_eq!(splitter.pending(), 0);
        }
    }

    #[test]
    fn a_length_shorter_than_its_header_ends_the_stream() {
        let mut splitter = MessageSplitter::default();
        splitter.push(&[1, 0, 0, 3]);
        assert_eq!(splitter.next_message(), Err(Unsynchronised));
    }
}
