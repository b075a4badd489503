//! NumPy arrays: `.npy` members of an `.npz` file (format versions 1 and 2, little-endian f4, f8, i4, i8, C order).
//!
//! The format is that of `numpy.lib.format` (numpy 2.4.6).

use std::io::{Read, Seek};

use zip::ZipArchive;

/// No member of a set of molecules comes near this; a damaged size must not take all memory.
const MAX_MEMBER_BYTES: u64 = 1 << 30;

/// An array of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    /// Sides.
    pub(super) shape: Vec<usize>,
    /// Values, the last index fastest. Integers beyond 2⁵³ are rounded.
    pub(super) values: Vec<f64>,
}

/// The members of an open file.
pub(super) struct Npz<R> {
    zip: ZipArchive<R>,
}

impl<R: Read + Seek> Npz<R> {
    /// Reads the list of members.
    ///
    /// # Errors
    /// What is wrong with the archive.
    pub(super) fn new(file: R) -> Result<Self, String> {
        ZipArchive::new(file)
            .map(|zip| Self { zip })
            .map_err(|error| format!("this is no .npz file, or it is cut off ({error})"))
    }

    /// Whether there is such an array.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.zip.index_for_name(&member(name)).is_some()
    }

    /// Reads one array.
    ///
    /// # Errors
    /// That it is missing (with what there is), or what is wrong with it.
    pub(super) fn array(&mut self, name: &str) -> Result<Array, String> {
        if !self.holds(name) {
            let names = self.zip.file_names().filter_map(Result::ok);
            let mut names: Vec<String> = names.map(|name| name.trim_end_matches(".npy").to_owned()).collect();
            names.sort_unstable();
            return Err(format!("the array is missing; the file has: {}", names.join(", ")));
        }
        let mut file = self.zip.by_name(&member(name)).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        (&mut file).take(MAX_MEMBER_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        parse(&bytes)
    }
}

fn member(name: &str) -> String {
    format!("{name}.npy")
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    F32,
    F64,
    I32,
    I64,
}

impl Kind {
    fn of(descr: &str) -> Option<Self> {
        Some(match descr {
            "<f4" => Self::F32,
            "<f8" => Self::F64,
            "<i4" => Self::I32,
            "<i8" => Self::I64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    fn values(self, bytes: &[u8]) -> Vec<f64> {
        fn each<const B: usize>(bytes: &[u8], value: impl Fn([u8; B]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<B>().0.iter().map(|chunk| value(*chunk)).collect()
        }
        match self {
            Self::F32 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
            Self::F64 => each(bytes, f64::from_le_bytes),
            Self::I32 => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
            Self::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
        }
    }
}

/// Reads a whole `.npy` file.
fn parse(bytes: &[u8]) -> Result<Array, String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("this is no .npy array")?;
    let cut_off = "the array's header is cut off";
    let (version, rest) = rest.split_first_chunk::<2>().ok_or(cut_off)?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or(cut_off)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 => {
            let (length, rest) = rest.split_first_chunk().ok_or(cut_off)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => return Err(format!("version {other} of the .npy format; 1 and 2 are read")),
    };
    let (header, data) = rest.split_at_checked(length).ok_or(cut_off)?;
    let header = std::str::from_utf8(header).map_err(|_| "the array's header is no text")?;
    let (kind, shape) = parse_header(header)?;
    let count = shape.iter().try_fold(1_usize, |count, side| count.checked_mul(*side));
    let expected = count.and_then(|count| count.checked_mul(kind.bytes()));
    if expected != Some(data.len()) {
        return Err(format!("{} bytes of data do not fill an array of shape {shape:?}", data.len()));
    }
    Ok(Array { shape, values: kind.values(data) })
}

/// Type and shape of a header: a Python dictionary with the keys `descr`, `fortran_order` and `shape`.
fn parse_header(header: &str) -> Result<(Kind, Vec<usize>), String> {
    let after = |key: &str| {
        let (_, rest) = header.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    };
    let missing = |key| format!("the array's header has no `{key}`: {}", header.trim_end());
    let descr = after("descr").ok_or_else(|| missing("descr"))?;
    let descr = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(descr, _)| descr);
    let kind = descr
        .and_then(Kind::of)
        .ok_or_else(|| format!("values of type {}; <f4, <f8, <i4 and <i8 are read", descr.unwrap_or("?")))?;
    let order = after("fortran_order").ok_or_else(|| missing("fortran_order"))?;
    if !order.starts_with("False") {
        return Err("the array is in Fortran order; save numpy.ascontiguousarray of it".to_owned());
    }
    let shape = after("shape").ok_or_else(|| missing("shape"))?;
    let sides = shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(sides, _)| sides);
    let sides = sides.ok_or_else(|| missing("shape"))?;
    let shape: Result<Vec<usize>, _> =
        sides.split(',').map(str::trim).filter(|side| !side.is_empty()).map(str::parse).collect();
    Ok((kind, shape.map_err(|_| format!("the array's shape is ({sides})"))?))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    /// A version 1 `.npy` file.
    pub(in super::super) fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
        let shape: String = shape.iter().map(|side| format!("{side}, ")).collect();
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    /// A `.npz` file of `.npy` members.
    pub(in super::super) fn npz(members: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            zip.start_file(member(name), SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn le<const B: usize>(values: impl IntoIterator<Item = [u8; B]>) -> Vec<u8> {
        values.into_iter().flatten().collect()
    }

    #[test]
    fn every_type_is_read_stored_or_deflated() {
        let values = [-2.0, 0.5, 3.0, 4.0, 5.0, 6.0];
        let whole = values.map(f64::trunc);
        let members = [
            ("a", npy("<f4", &[2, 3], &le(values.map(|v| (v as f32).to_le_bytes())))),
            ("b", npy("<f8", &[6], &le(values.map(f64::to_le_bytes)))),
            ("c", npy("<i4", &[3, 2, 1], &le(values.map(|v| (v as i32).to_le_bytes())))),
            ("d", npy("<i8", &[6, 1], &le(values.map(|v| (v as i64).to_le_bytes())))),
            ("e", npy("<f8", &[], &le([7.0_f64.to_le_bytes()]))),
        ];
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let mut file = Npz::new(Cursor::new(npz(&members, method))).unwrap();
            let mut array = |name| file.array(name).unwrap();
            assert_eq!(array("a"), Array { shape: vec![2, 3], values: values.to_vec() });
            assert_eq!(array("b"), Array { shape: vec![6], values: values.to_vec() });
            assert_eq!(array("c"), Array { shape: vec![3, 2, 1], values: whole.to_vec() });
            assert_eq!(array("d"), Array { shape: vec![6, 1], values: whole.to_vec() });
            assert_eq!(array("e"), Array { shape: vec![], values: vec![7.0] });
            assert!(file.holds("a") && !file.holds("f"));
        }
    }

    #[test]
    fn a_header_of_version_2_is_read() {
        let mut bytes = npy("<f8", &[1], &le([7.0_f64.to_le_bytes()]));
        bytes[6] = 2;
        bytes.splice(10..10, [0, 0]);
        assert_eq!(parse(&bytes).unwrap(), Array { shape: vec![1], values: vec![7.0] });
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let one = le([7.0_f64.to_le_bytes()]);
        let good = npy("<f8", &[1], &one);
        let changed = |from: &str, to: &str| {
            let text: Vec<char> = good.iter().map(|b| char::from(*b)).collect();
            let text: String = text.into_iter().collect();
            text.replace(from, to).chars().map(|c| c as u8).collect::<Vec<u8>>()
        };
        for (bytes, word) in [
            (b"PK".to_vec(), "no .npy"),
            (good[..7].to_vec(), "cut off"),
            (good[..40].to_vec(), "cut off"),
            (good[..good.len() - 1].to_vec(), "7 bytes of data"),
            (changed("<f8", ">f8"), "type >f8"),
            (changed("False", "True "), "Fortran"),
            (changed("'shape'", "'shade'"), "no `shape`"),
            (changed("(1, )", "(9999999999999999999, )"), "shape"),
            (changed("(1, )", "(4000000000, 4000000000, 4000000000)"), "shape"),
            (changed("\x01\x00", "\x03\x00"), "version 3"),
        ] {
            let error = parse(&bytes).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let mut file = Npz::new(Cursor::new(npz(&[("a", good)], CompressionMethod::Stored))).unwrap();
        let error = file.array("b").unwrap_err();
        assert!(error.contains("missing") && error.ends_with("has: a"), "{error}");
        assert!(Npz::new(Cursor::new(b"nothing")).is_err());
    }
}
