//! A Parquet file whose pages are looked at before they are read: a few bytes may say that they are gigabytes.
//!
//! The reader allocates what a page's header says. Each header (Thrift compact protocol, `PageHeader` of
//! parquet-format) is therefore parsed here first, and a page that is too large, a dictionary of more values than its
//! bytes can hold, or an encoding whose decoder allocates by a count inside of the page, is an error.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::reader::{ChunkReader, Length};
use bytes::Bytes;

/// Most bytes of a page, compressed or not: writers make pages of 1 MiB, or of one value.
const MAX_PAGE: i64 = 256 << 20;

/// The last bytes of a file, in which no page begins: the footer's length and `PAR1`.
const END: u64 = 8;

/// The encodings that are read, by their numbers: PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED, RLE_DICTIONARY.
const ENCODINGS: [i64; 5] = [0, 2, 3, 4, 8];

/// A file as the Parquet reader takes it.
#[derive(Debug)]
pub(super) struct BoundedFile {
    file: File,
}

impl BoundedFile {
    pub(super) const fn new(file: File) -> Self {
        Self { file }
    }

    fn from(&self, start: u64) -> Result<BufReader<File>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(file))
    }
}

impl Length for BoundedFile {
    fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for BoundedFile {
    type T = BufReader<File>;

    /// Where the reader looks for a page, whose header is checked, or for the end of the file.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        if start + END < self.len() {
            PageHeader::read(&mut self.from(start)?)?.check()?;
        }
        self.from(start)
    }

    /// The footer; no longer than the file.
    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = Vec::new();
        self.from(start)?.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() == length {
            Ok(bytes.into())
        } else {
            Err(ParquetError::EOF(format!("{length} bytes at {start} go beyond the end of the file")))
        }
    }
}

/// What of a page's header decides how much is allocated.
#[derive(Debug, Default, PartialEq, Eq)]
struct PageHeader {
    uncompressed: i64,
    compressed: i64,
    /// Values of a dictionary page.
    dictionary: Option<i64>,
    encoding: Option<i64>,
}

impl PageHeader {
    fn read(input: &mut impl Read) -> Result<Self> {
        let mut header = Self::default();
        let mut thrift = Thrift { input };
        thrift
            .structure(0, &mut |path, value| match *path {
                [2] => header.uncompressed = value,
                [3] => header.compressed = value,
                [7, 1] => header.dictionary = Some(value),
                // Of data pages of version 1 and 2, and of dictionaries.
                [5 | 7, 2] | [8, 4] => header.encoding = Some(value),
                _ => {}
            })
            .map_err(|error| ParquetError::General(format!("no page header: {error}")))?;
        Ok(header)
    }

    fn check(&self) -> Result<()> {
        let refuse = |what| Err(ParquetError::General(what));
        if let Some(size) =
            [self.uncompressed, self.compressed].into_iter().find(|size| !(0..=MAX_PAGE).contains(size))
        {
            return refuse(format!("a page of {size} bytes: more than {MAX_PAGE} are taken for a bomb"));
        }
        if let Some(values) = self.dictionary.filter(|values| !(0..=self.uncompressed).contains(values)) {
            return refuse(format!("a dictionary of {values} values in {} bytes", self.uncompressed));
        }
        match self.encoding {
            Some(encoding) if !ENCODINGS.contains(&encoding) => refuse(format!(
                "a page in encoding {encoding}: only PLAIN and dictionaries are read; write the file again with them"
            )),
            _ => Ok(()),
        }
    }
}

/// Structures in one another, and elements of a list: page headers have two levels and no lists.
const MAX_DEPTH: usize = 4;
const MAX_ELEMENTS: u64 = 1 << 16;

/// A reader of Thrift's compact protocol.
struct Thrift<'a, R> {
    input: &'a mut R,
}

impl<R: Read> Thrift<'_, R> {
    /// Reads a structure, and shows every integer with the field numbers that lead to it.
    fn structure(&mut self, depth: usize, show: &mut dyn FnMut(&[i64], i64)) -> io::Result<()> {
        if depth == MAX_DEPTH {
            return Err(io::Error::other("structures are nested too deep"));
        }
        let mut field = 0;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(());
            }
            // The high half is the distance to the last field's number, or zero before a number of its own.
            field = if byte >> 4 == 0 { self.integer()? } else { field + i64::from(byte >> 4) };
            self.value(byte & 15, depth, &mut |path, value| show(&[&[field], path].concat(), value))?;
        }
    }

    fn value(&mut self, kind: u8, depth: usize, show: &mut dyn FnMut(&[i64], i64)) -> io::Result<()> {
        match kind {
            // Booleans are in their type.
            1 | 2 => Ok(()),
            3 => self.skip(1),
            4..=6 => {
                let value = self.integer()?;
                show(&[], value);
                Ok(())
            }
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(length)
            }
            9 | 10 => self.list(depth),
            12 => self.structure(depth + 1, show),
            _ => Err(io::Error::other(format!("a value of type {kind}"))),
        }
    }

    fn list(&mut self, depth: usize) -> io::Result<()> {
        let byte = self.byte()?;
        let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
        if count > MAX_ELEMENTS || depth == MAX_DEPTH {
            return Err(io::Error::other("a list too long or too deep"));
        }
        (0..count).try_for_each(|_| match byte & 15 {
            1 | 2 => self.skip(1),
            kind => self.value(kind, depth + 1, &mut |_, _| ()),
        })
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(io::Error::other("a number without an end"))
    }

    /// Zigzag: the sign is the lowest bit.
    fn integer(&mut self) -> io::Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink())?;
        if passed == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field's first byte: distance to the last one, type.
    const fn field(distance: u8, kind: u8) -> u8 {
        distance << 4 | kind
    }

    /// An i32 as zigzag varint.
    fn number(value: i64) -> Vec<u8> {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    fn header(uncompressed: i64, compressed: i64, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![field(1, 5), 0, field(1, 5)];
        bytes.extend(number(uncompressed));
        bytes.push(field(1, 5));
        bytes.extend(number(compressed));
        bytes.extend(rest);
        bytes
    }

    fn check(bytes: &[u8]) -> std::result::Result<(), String> {
        PageHeader::read(&mut &*bytes).and_then(|header| header.check()).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_found_among_others() {
        // crc, then a data page header with values, encoding, a statistics structure with binary, then the end.
        let mut rest = vec![field(1, 5), 9, field(1, 12), field(1, 5), 20, field(1, 5), 0];
        rest.extend([field(3, 12), field(1, 8), 3, b'a', b'b', b'c', field(2, 6), 2, 0, 0, 0]);
        let bytes = header(1000, 10, &rest);
        let header = PageHeader::read(&mut &*bytes).unwrap();
        let expected = PageHeader { uncompressed: 1000, compressed: 10, dictionary: None, encoding: Some(0) };
        assert_eq!(header, expected);
        assert!(check(&bytes).is_ok());
        for end in 0..bytes.len() {
            assert!(check(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        assert!(check(&header(i64::from(i32::MAX), 10, &[0])).unwrap_err().contains("taken for a bomb"));
        assert!(check(&header(-1, 10, &[0])).is_err());
        let mut dictionary = vec![field(4, 12), field(1, 5)];
        dictionary.extend(number(2_000_000_000));
        dictionary.extend([field(1, 5), 0, 0, 0]);
        let error = check(&header(100, 10, &dictionary)).unwrap_err();
        assert!(error.contains("2000000000 values in 100 bytes"), "{error}");
        // DELTA_BYTE_ARRAY.
        let delta = [field(2, 12), field(1, 5), 2, field(1, 5), 14, 0, 0];
        assert!(check(&header(100, 10, &delta)).unwrap_err().contains("encoding 7"));
        // Structures without an end.
        assert!(check(&[field(1, 12); 1000]).unwrap_err().contains("nested too deep"));
    }
}
