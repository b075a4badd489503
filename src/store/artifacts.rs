//! Reconstructions: lossless for machines, PNG for eyes.
//!
//! One append-only file per writer (`artifacts/<attempt>-000.f32`) rather than one file per sample: file systems of
//! clusters bear few large files better than many small ones, and one fsync makes a whole batch durable. Every
//! reconstruction is a frame around a JSON line (key and shape) and the raw little-endian floats; the row's `x1_file`,
//! `x1_offset` and `x1_shape` point at the floats, so that any language reads one without this library:
//! `numpy.fromfile(f"artifacts/{x1_file}", "<f4", prod(x1_shape), offset=x1_offset)`.
//!
//! A reconstruction is durable before its row. One whose row was never written is not referred to, and harmless.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attempt::AttemptId;
use super::error::StoreError;
use super::float_log::{FloatLog, Placed, from_bytes, hash, to_bytes};
use super::fs::Fs;
use super::layout::Layout;
use super::log::create_dirs;
use super::record::{Key, Record};

/// Ending of the name of a file of reconstructions.
pub(super) use super::float_log::EXTENSION;
/// The first frame of every file.
const HEADER: &[u8] = br#"{"dflow_artifacts":1,"dtype":"f32, little-endian"}"#;

/// A reconstruction to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Reconstruction<'a> {
    /// Identity of its row.
    pub key: &'a Key,
    /// Shape, such as `[3, 32, 32]`.
    pub shape: &'a [u32],
    /// x(1), unclamped, row-major.
    pub x1: &'a [f32],
}

/// Where a reconstruction lies: the artifact columns of its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// File name in `artifacts/`.
    pub file: String,
    /// Position of the first float's first byte.
    pub offset: u64,
    /// Shape.
    pub shape: Vec<u32>,
    /// blake3 in hex of the floats' bytes.
    pub blake3: String,
}

impl Artifact {
    /// Sets the artifact columns of a row.
    pub fn describe(self, record: &mut Record) {
        record.x1_blake3 = Some(self.blake3);
        record.x1_file = Some(self.file);
        record.x1_offset = Some(self.offset);
        record.x1_shape = self.shape;
    }
}

impl<'a> Reconstruction<'a> {
    fn label(&self) -> Label<'a> {
        let (cell_hash, sample_id) = self.key;
        Label { cell_hash, sample_id, shape: self.shape }
    }
}

/// Evaluations of a solve: their numbers, and x₀ and x(1) of each.
pub type Trajectory = Vec<(u32, Vec<f32>, Vec<f32>)>;

impl Artifact {
    /// Sets the trajectory columns of a row: of evaluations with these numbers.
    pub fn describe_trajectory(self, evals: Vec<u32>, record: &mut Record) {
        record.trajectory_blake3 = Some(self.blake3);
        record.trajectory_file = Some(self.file);
        record.trajectory_offset = Some(self.offset);
        record.trajectory_shape = self.shape;
        record.trajectory_evals = evals;
    }
}

/// What a frame's JSON line says.
#[derive(Debug, Serialize)]
struct Label<'a> {
    cell_hash: &'a str,
    sample_id: &'a str,
    shape: &'a [u32],
}

/// Appends reconstructions to files of its own.
#[derive(Debug)]
pub struct ArtifactWriter {
    log: FloatLog,
}

impl ArtifactWriter {
    /// A writer for one attempt; its first file is created by the first append.
    pub fn new(fs: Arc<dyn Fs>, layout: &Layout, attempt: &AttemptId) -> Self {
        Self { log: FloatLog::new(fs, layout.artifacts(), attempt, HEADER.to_vec()) }
    }

    /// Appends reconstructions with one fsync; on return they are durable.
    pub fn append(&mut self, items: &[Reconstruction<'_>]) -> Result<Vec<Artifact>, StoreError> {
        let labelled: Vec<_> = items.iter().map(|item| (item.label(), item.x1)).collect();
        let placed = self.log.append(&labelled)?.into_iter().zip(items);
        let artifact = |(Placed { file, offset, blake3 }, item): (Placed, &Reconstruction<'_>)| Artifact {
            file,
            offset,
            shape: item.shape.to_vec(),
            blake3,
        };
        Ok(placed.map(artifact).collect())
    }
}

/// The `x1_blake3` of a reconstruction, kept or not: with it, two runs compare their reconstructions bit for bit.
pub fn x1_blake3(x1: &[f32]) -> String {
    hash(&to_bytes(x1))
}

/// The reconstruction of a row, checked against its hash; `None` if it was not kept.
pub fn read(fs: &dyn Fs, layout: &Layout, record: &Record) -> Result<Option<Vec<f32>>, StoreError> {
    let (Some(file), Some(offset)) = (&record.x1_file, record.x1_offset) else { return Ok(None) };
    let place = Place { what: "reconstruction", file, offset, shape: &record.x1_shape };
    place.read(fs, layout, record.x1_blake3.as_deref()).map(Some)
}

/// The trajectory of a row, checked against its hash; empty if it was not kept.
pub fn read_trajectory(fs: &dyn Fs, layout: &Layout, record: &Record) -> Result<Trajectory, StoreError> {
    let (Some(file), Some(offset)) = (&record.trajectory_file, record.trajectory_offset) else {
        return Ok(Vec::new());
    };
    let place = Place { what: "trajectory", file, offset, shape: &record.trajectory_shape };
    let floats = place.read(fs, layout, record.trajectory_blake3.as_deref())?;
    let evals = &record.trajectory_evals;
    let dim = floats.len() / (2 * evals.len()).max(1);
    let points: Vec<&[f32]> = floats.chunks_exact(dim.max(1)).collect();
    let (pairs, _) = points.as_chunks::<2>();
    Ok(evals.iter().zip(pairs).map(|(eval, [x0, x1])| (*eval, x0.to_vec(), x1.to_vec())).collect())
}

/// Where floats of a row lie.
struct Place<'a> {
    what: &'static str,
    file: &'a str,
    offset: u64,
    shape: &'a [u32],
}

impl Place<'_> {
    fn read(&self, fs: &dyn Fs, layout: &Layout, blake3: Option<&str>) -> Result<Vec<f32>, StoreError> {
        let Self { what, file, offset, shape } = *self;
        let path = layout.artifacts().join(file);
        let count = shape.iter().fold(1_usize, |count, &n| count.saturating_mul(n as usize));
        let bytes =
            fs.read_range(&path, offset, count.saturating_mul(4)).map_err(StoreError::io("read", &path))?;
        if blake3 != Some(&*hash(&bytes)) {
            let detail = format!("the {what} at {offset} does not have the hash of its row");
            return Err(StoreError::Damaged { path, detail });
        }
        Ok(from_bytes(&bytes).collect())
    }
}

/// Path of a row's file for eyes under `artifacts/<kind>/`: `<task>/<method>/<sample>.<kind>`, with whatever has no place in a
/// file name replaced, and then a piece of hash added so that no two names become one.
pub fn shown_path(layout: &Layout, kind: &str, task: &str, method: &str, sample_id: &str) -> PathBuf {
    let dir = layout.artifacts().join(kind).join(file_name(task)).join(file_name(method));
    dir.join(format!("{}.{kind}", file_name(sample_id)))
}

/// Bytes of a text that its file name shows; file systems bear 255, and temporary names add some.
const SHOWN_BYTES: usize = 80;

fn file_name(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_+=.".contains(c);
    let mut bytes = 0;
    let fits = |c: &char| {
        bytes += c.len_utf8();
        bytes <= SHOWN_BYTES
    };
    let name: String = text.chars().map(|c| if plain(c) { c } else { '_' }).take_while(fits).collect();
    if name == text && !name.starts_with('.') && !name.is_empty() {
        return name;
    }
    format!("{}-{}", name.trim_start_matches('.'), &hash(text.as_bytes())[..8])
}

/// Writes the picture of an image in [−1, 1] (clamped), planar, with 1 or 3 channels; other images have none.
///
/// Not made durable: it can be made again from the reconstruction.
pub fn write_png(
    fs: &dyn Fs,
    layout: &Layout,
    record: &Record,
    shape: &[u32],
    image: &[f32],
) -> Result<(), StoreError> {
    let Some(png) = encode_png(shape, image) else { return Ok(()) };
    write_shown(fs, layout, record, "png", &png)
}

/// Writes a file of a row for eyes, of the kind that its name ends with: `png`, `xyz`, `sdf`.
///
/// Not made durable: it can be made again from the reconstruction.
pub fn write_shown(
    fs: &dyn Fs,
    layout: &Layout,
    record: &Record,
    kind: &str,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let path = shown_path(layout, kind, &record.task, &record.method, &record.sample_id);
    let dir = path.parent().expect("a picture lies in its method's folder");
    create_dirs(fs, dir)?;
    let temporary = dir.join(format!(".{}.tmp", AttemptId::new()));
    let write = fs.create_new(&temporary).and_then(|mut file| file.append(bytes));
    let result = write.and_then(|()| fs.rename(&temporary, &path));
    if result.is_err() {
        let _ = fs.remove(&temporary); // best effort: the first error is the one to report
    }
    result.map_err(StoreError::io("write", &path))
}

/// A PNG of a planar image, or `None` if it has no 1 or 3 channels, or another number of pixels than its shape says.
fn encode_png(shape: &[u32], image: &[f32]) -> Option<Vec<u8>> {
    let &[channels @ (1 | 3), height, width] = shape else { return None };
    let pixels = height as usize * width as usize;
    if image.len() != channels as usize * pixels || pixels == 0 {
        return None;
    }
    let byte = |x: f32| ((x.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8;
    let interleaved = (0..pixels).flat_map(|p| (0..channels as usize).map(move |c| c * pixels + p));
    let bytes: Vec<u8> = interleaved.map(|i| byte(image[i])).collect();
    let color = if channels == 1 { image::ExtendedColorType::L8 } else { image::ExtendedColorType::Rgb8 };
    let mut png = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    image::ImageEncoder::write_image(encoder, &bytes, width, height, color).ok()?;
    Some(png)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fault::FaultFs;
    use crate::store::samples::record;
    use std::path::Path;

    fn writer(fs: &FaultFs) -> (Layout, ArtifactWriter) {
        let layout = Layout::new("/run");
        let writer = ArtifactWriter::new(Arc::new(fs.clone()), &layout, &AttemptId::from_text("a"));
        (layout, writer)
    }

    #[test]
    fn reconstructions_are_read_back_bit_for_bit_by_their_rows() {
        let fs = FaultFs::new(Path::new("/run"));
        let (layout, mut writer) = writer(&fs);
        let images: Vec<Vec<f32>> =
            vec![vec![0.1, -0.0, f32::NAN, 1e-40], vec![2.0; 4], vec![f32::INFINITY, 0.0, -1.5, 3.0]];
        let mut records: Vec<Record> = (0..3).map(record).collect();
        for batch in [0..2, 2..3] {
            let keys: Vec<Key> = records[batch.clone()].iter().map(Record::key).collect();
            let items = keys.iter().zip(&images[batch.clone()]);
            let items: Vec<_> =
                items.map(|(key, x1)| Reconstruction { key, shape: &[1, 2, 2], x1 }).collect();
            for (artifact, record) in writer.append(&items).unwrap().into_iter().zip(&mut records[batch]) {
                artifact.describe(record);
            }
        }
        for (record, image) in records.iter().zip(&images) {
            let read = read(&fs, &layout, record).unwrap().unwrap();
            assert_eq!(to_bytes(&read), to_bytes(image));
            assert_eq!(record.x1_blake3, Some(x1_blake3(image)));
        }
    }

    #[test]
    fn trajectories_are_read_back_with_the_numbers_of_their_evaluations() {
        let fs = FaultFs::new(Path::new("/run"));
        let (layout, mut writer) = writer(&fs);
        let mut record = record(0);
        let floats: Vec<f32> = (0..12).map(|k| k as f32).collect();
        let item = Reconstruction { key: &record.key(), shape: &[3, 2, 2], x1: &floats };
        writer.append(&[item]).unwrap().remove(0).describe_trajectory(vec![1, 2, 4], &mut record);
        let way = read_trajectory(&fs, &layout, &record).unwrap();
        assert_eq!(way[0], (1, vec![0.0, 1.0], vec![2.0, 3.0]));
        assert_eq!(way[2], (4, vec![8.0, 9.0], vec![10.0, 11.0]));
        let shifted = Record { trajectory_offset: Some(0), ..record.clone() };
        assert!(read_trajectory(&fs, &layout, &shifted).unwrap_err().to_string().contains("the trajectory"));
        let none = Record { trajectory_file: None, ..record };
        assert_eq!(read_trajectory(&fs, &layout, &none).unwrap(), []);
    }

    #[test]
    fn a_damaged_or_missing_reconstruction_is_an_error() {
        let fs = FaultFs::new(Path::new("/run"));
        let (layout, mut writer) = writer(&fs);
        let mut record = record(0);
        let item = Reconstruction { key: &record.key(), shape: &[2], x1: &[1.0, 2.0] };
        writer.append(&[item]).unwrap().remove(0).describe(&mut record);
        assert!(read(&fs, &layout, &record).is_ok());
        let shifted = Record { x1_offset: record.x1_offset.map(|offset| offset - 1), ..record.clone() };
        assert!(read(&fs, &layout, &shifted).unwrap_err().to_string().contains("hash"));
        let beyond = Record { x1_shape: vec![u32::MAX; 3], ..record.clone() };
        assert!(read(&fs, &layout, &beyond).is_err());
        let none = Record { x1_file: None, ..record };
        assert_eq!(read(&fs, &layout, &none).unwrap(), None);
    }

    #[test]
    fn pictures_hold_the_rounded_bytes() {
        let image = [-1.0, 1.0, 0.0, 9.0, -9.0, 0.5];
        let png = encode_png(&[3, 1, 2], &image).unwrap();
        let decoded = image::load_from_memory(&png).unwrap().to_rgb8();
        // Pixel 0 is channels 0, 2, 4 of the planar image.
        assert_eq!(decoded.into_raw(), [0, 128, 0, 255, 255, 191]);
        assert!(encode_png(&[2, 1, 2], &image[..4]).is_none());
        assert!(encode_png(&[3, 1, 3], &image).is_none());
    }

    #[test]
    fn names_of_pictures_stay_in_their_folder_and_apart() {
        let layout = Layout::new("/run");
        assert_eq!(
            shown_path(&layout, "png", "t", "m", "00012"),
            Path::new("/run/artifacts/png/t/m/00012.png")
        );
        let odd = ["../../x", ".._.._x", "a/b", "a_b", "..", "", "é", &"long".repeat(60)];
        let paths: std::collections::BTreeSet<_> =
            odd.iter().map(|id| shown_path(&layout, "png", "t", "m", id)).collect();
        assert_eq!(paths.len(), odd.len());
        assert!(paths.iter().all(|path| path.parent() == Some(Path::new("/run/artifacts/png/t/m"))));
    }

    #[test]
    fn names_of_pictures_are_short_in_bytes_and_whole_in_characters() {
        // Four bytes each, and a first character that moves the limit into the middle of another.
        for text in ["𠀀".repeat(80), format!("a{}", "𠀀".repeat(80))] {
            let name = file_name(&text);
            assert!(name.len() <= SHOWN_BYTES + 9, "{name}");
            assert!(text.starts_with(name.split_once('-').unwrap().0), "{name}");
        }
        assert_eq!(file_name(&"x".repeat(80)), "x".repeat(80));
    }
}
