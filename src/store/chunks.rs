//! Files of the store as Parquet reads and writes them: ranges of bytes in, a stream of bytes out.

use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::fs::{FsFile, FsRead};

/// Files up to this size are read with one call: on file systems of clusters every call costs a round trip.
const WHOLE: u64 = 1 << 20;

/// A file of the store as a sink of bytes.
pub(super) struct Sink<'a>(pub(super) &'a mut dyn FsFile);

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of the store as a source of column chunks. Clones are the same file.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    file: Arc<dyn FsRead>,
    size: u64,
    whole: Option<Bytes>,
    /// What the system said last: Parquet's errors keep its text only.
    error: Arc<Mutex<Option<io::Error>>>,
}

impl Chunks {
    pub(super) fn new(file: Arc<dyn FsRead>) -> io::Result<Self> {
        let size = file.size()?;
        let whole = (size <= WHOLE).then(|| file.read_at(0, size as usize)).transpose()?.map(Bytes::from);
        Ok(Self { file, size, whole, error: Arc::default() })
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// When the file was last written, where the file system tells.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.file.modified()
    }

    /// Why the last read failed, if the system refused it, and not for the file being too short.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// `length` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        match &self.whole {
            Some(whole) => Ok(whole.slice(offset as usize..end as usize)),
            None => self.file.read_at(offset, length).map(Bytes::from).map_err(|error| self.keep(error)),
        }
    }

    fn keep(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        if kind != io::ErrorKind::UnexpectedEof {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        kind.into()
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::with_capacity(512, From { chunks: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.read(start, length)?)
    }
}

/// The bytes of a file from a position on.
#[derive(Debug)]
pub(super) struct From {
    chunks: Chunks,
    at: u64,
}

impl Read for From {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.chunks.size.saturating_sub(self.at).min(out.len() as u64) as usize;
        out[..length].copy_from_slice(&self.chunks.read(self.at, length)?);
        self.at += length as u64;
        Ok(length)
    }
}
