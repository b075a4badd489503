//! Writes images as NumPy arrays, for training outside this program.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::{Dataset, DatasetError, Split};
use crate::atomic;

/// Writes `<split>_images.npy` (uint8, N×H×W×C) and `<split>_labels.npy` (int64, N; −1 without label) into `folder`.
///
/// # Errors
/// If an image cannot be read or a file cannot be written.
pub fn export_npy(dataset: &dyn Dataset, split: Split, folder: &Path) -> Result<(), DatasetError> {
    let n = dataset.len();
    let shape = dataset.shape();
    let dims = [n, shape[1], shape[2], shape[0]];
    write(&folder.join(format!("{split}_images.npy")), "|u1", &dims, |out| {
        for index in 0..n {
            out.write_all(&dataset.image(index)?.to_hwc_bytes())?;
        }
        Ok(())
    })?;
    write(&folder.join(format!("{split}_labels.npy")), "<i8", &[n], |out| {
        for entry in dataset.manifest().entries() {
            let label = entry.label.map_or(-1, i64::from);
            out.write_all(&label.to_le_bytes())?;
        }
        Ok(())
    })
}

enum Failure {
    Io(std::io::Error),
    Sample(super::SampleError),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<super::SampleError> for Failure {
    fn from(error: super::SampleError) -> Self {
        Self::Sample(error)
    }
}

/// A version 1.0 .npy file in C order.
fn write(
    path: &Path,
    dtype: &str,
    dims: &[usize],
    body: impl FnOnce(&mut BufWriter<&File>) -> Result<(), Failure>,
) -> Result<(), DatasetError> {
    let whole = atomic::write(path, |out| {
        out.write_all(&header(dtype, dims))?;
        body(out)
    });
    whole.map_err(|failure| match failure {
        Failure::Io(source) => DatasetError::Write { path: path.to_owned(), source },
        Failure::Sample(error) => DatasetError::Sample(error),
    })
}

fn header(dtype: &str, dims: &[usize]) -> Vec<u8> {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    let dims = dims.join(", ");
    let mut text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({dims},), }}");
    // Magic, version and length take 10 bytes; the data start at a multiple of 64.
    let padding = 64 - (10 + text.len() + 1) % 64;
    text.extend(std::iter::repeat_n(' ', padding));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::procedural::{Procedural, render};

    #[test]
    fn exported_bytes_are_the_rendered_ones_interleaved() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = Procedural::new("d", 0, Split::Test, 3).unwrap();
        export_npy(&dataset, Split::Test, folder.path()).unwrap();
        let file = std::fs::read(folder.path().join("test_images.npy")).unwrap();
        let data = &file[file.len() - 3 * 3072..];
        assert_eq!((file.len() - data.len()) % 64, 0);
        let planar = render(0, Split::Test, 2);
        for (i, &byte) in data[2 * 3072..].iter().enumerate() {
            assert_eq!(byte, planar[(i % 3) * 1024 + i / 3]);
        }
        let labels = std::fs::read(folder.path().join("test_labels.npy")).unwrap();
        assert_eq!(labels[labels.len() - 8..], 2i64.to_le_bytes());
    }
}
