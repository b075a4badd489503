//! Frames of a long file, one at a time.

use std::sync::Arc;
use std::{fmt, io};

use super::frame::{self, HEAD};
use super::fs::FsRead;

/// Bytes read at once, unless a frame is longer.
const WINDOW: u64 = 4 << 20;

/// Reads the frames of a file up to the first bad one, holding one window of it.
pub(super) struct FrameReader {
    file: Arc<dyn FsRead>,
    size: u64,
    /// Position of the next frame.
    at: u64,
    window: Vec<u8>,
    /// Position of the window's first byte.
    start: u64,
}

impl FrameReader {
    pub(super) fn new(file: Arc<dyn FsRead>) -> io::Result<Self> {
        let size = file.size()?;
        Ok(Self { file, size, at: 0, window: Vec::new(), start: 0 })
    }

    /// Position and bytes of the next frame's payload; `None` where no whole frame follows.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        let Some(head) = self.bytes(HEAD as u64)? else { return Ok(None) };
        let Some(length) = frame::claimed_length(head) else { return Ok(None) };
        let Some(bytes) = self.bytes((HEAD + length) as u64)? else { return Ok(None) };
        if frame::decode(bytes).payloads.is_empty() {
            return Ok(None);
        }
        let from = (self.at - self.start) as usize + HEAD;
        let offset = self.at + HEAD as u64;
        self.at = offset + length as u64;
        Ok(Some((offset, &self.window[from..from + length])))
    }

    /// Bytes behind the last whole frame.
    pub(super) fn rest(&self) -> u64 {
        self.size - self.at
    }

    /// `length` bytes from the next frame on, if there are so many.
    fn bytes(&mut self, length: u64) -> io::Result<Option<&[u8]>> {
        if self.rest() < length {
            return Ok(None);
        }
        if self.start + self.window.len() as u64 >= self.at + length {
            // Still in the window.
        } else {
            let window = length.max(WINDOW).min(self.rest());
            self.window = self.file.read_at(self.at, window as usize)?;
            self.start = self.at;
        }
        let from = (self.at - self.start) as usize;
        Ok(Some(&self.window[from..from + length as usize]))
    }
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FrameReader")
            .field("at", &self.at)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fault::FaultFs;
    use crate::store::fs::{Fs, write_atomic};
    use std::path::Path;

    fn payloads(bytes: &[u8]) -> (Vec<Vec<u8>>, u64) {
        let fs = FaultFs::new(Path::new("/run"));
        let path = Path::new("/run/file");
        write_atomic(&fs, path, bytes).unwrap();
        let file = fs.open(path).unwrap();
        let mut reader = FrameReader::new(Arc::clone(&file)).unwrap();
        let mut found = Vec::new();
        while let Some((offset, payload)) = reader.next().unwrap() {
            assert_eq!(file.read_at(offset, payload.len()).unwrap(), payload);
            found.push(payload.to_vec());
        }
        (found, reader.rest())
    }

    #[test]
    fn frames_are_those_of_the_whole_file_wherever_it_ends() {
        let bytes: Vec<u8> = [&b"first"[..], b"", b"third"]
            .iter()
            .flat_map(|payload| frame::encode(payload).unwrap())
            .collect();
        for cut in 0..=bytes.len() {
            let whole = frame::decode(&bytes[..cut]);
            let expected: Vec<Vec<u8>> = whole.payloads.iter().map(|payload| payload.to_vec()).collect();
            assert_eq!(payloads(&bytes[..cut]), (expected, whole.torn as u64));
        }
    }

    #[test]
    fn frames_may_be_longer_than_the_window_and_cross_it() {
        let long: Vec<u8> = (0..WINDOW as usize + 3).map(|i| i as u8).collect();
        let parts = [&long[..WINDOW as usize / 2], &long, &long[..WINDOW as usize - 5], b"end"];
        let bytes: Vec<u8> = parts.iter().flat_map(|payload| frame::encode(payload).unwrap()).collect();
        let (found, rest) = payloads(&bytes);
        assert!(found.iter().zip(parts).all(|(found, part)| found == part) && found.len() == 4);
        assert_eq!(rest, 0);
    }
}
