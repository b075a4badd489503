//! Encoded images in Parquet files, in the layout of the public CIFAR-10 copies: `img` struct{bytes, path}, `label` int64.
//!
//! Files are read whole when opened (CIFAR-10: some 10 MB); images are decoded when asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{Array, ArrayRef, Int64Array, LargeBinaryArray, LargeStringArray};
use arrow::array::{RecordBatch, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::description::{Description, Selector};
use super::manifest::{Entry, Manifest};
use super::{Dataset, DatasetError, Image, SampleError, Split};

/// Names of files and columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetLayout {
    /// Files of each split, in order, relative to the dataset's folder.
    pub files: BTreeMap<Split, Vec<String>>,
    /// Column of the encoded image: a struct with a `bytes` field, or binary.
    #[serde(default = "default_image")]
    pub image: String,
    /// Integer column of the label; `null` for none.
    #[serde(default = "default_label")]
    pub label: Option<String>,
    /// Where sample ids come from.
    #[serde(default)]
    pub id: IdSource,
}

fn default_image() -> String {
    "img".to_owned()
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default has the type of the field")]
fn default_label() -> Option<String> {
    Some("label".to_owned())
}

/// Where sample ids come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum IdSource {
    /// `<split>/<row>`, rows counted over all files of the split.
    #[default]
    Row,
    /// The `path` field of the image struct.
    Path,
    /// A string column.
    Column(String),
}

/// One stored sample.
#[derive(Debug)]
struct Stored {
    id: String,
    label: Option<i64>,
    bytes: Vec<u8>,
}

/// The images of one split.
#[derive(Debug)]
pub(super) struct ParquetImages {
    manifest: Manifest,
    shape: [usize; 3],
    bytes: Vec<Vec<u8>>,
}

impl ParquetImages {
    /// Reads all files of a split and puts the samples into the described order.
    pub(super) fn open(
        description: &Description,
        layout: &ParquetLayout,
        split: Split,
        folder: &Path,
    ) -> Result<Self, DatasetError> {
        let (name, shape) = (&description.name, description.image_shape()?);
        let files =
            layout.files.get(&split).ok_or_else(|| DatasetError::NoSplit { name: name.clone(), split })?;
        let mut stored = Vec::new();
        for file in files {
            read_file(description, layout, split, &folder.join(file), &mut stored)?;
        }
        // The other split is what priors are fitted to: all of it.
        let selector = if split == description.split { description.selector } else { Selector::All };
        let stored = select(selector, stored);
        let classes = (!description.classes.is_empty()).then_some(description.classes.len());
        let mut entries = Vec::with_capacity(stored.len());
        let mut bytes = Vec::with_capacity(stored.len());
        for sample in stored {
            let label =
                sample.label.map(|label| checked_label(name, &sample.id, label, classes)).transpose()?;
            entries.push(Entry { id: sample.id, label, content: blake3::hash(&sample.bytes) });
            bytes.push(sample.bytes);
        }
        let manifest = Manifest::new(name, split, classes, entries)?;
        let images = Self { manifest, shape, bytes };
        images.check_first()?;
        Ok(images)
    }

    /// Images of another size are an error of the dataset; they are noticed by its first readable image.
    fn check_first(&self) -> Result<(), DatasetError> {
        let readable =
            |(entry, bytes): (&Entry, &Vec<u8>)| Some((entry.id.clone(), decode(bytes).ok()?.shape));
        match self.manifest.entries().iter().zip(&self.bytes).take(8).find_map(readable) {
            Some((id, shape)) if shape != self.shape => Err(DatasetError::Shape {
                name: self.manifest.name().to_owned(),
                id,
                reason: shape_mismatch(shape, self.shape),
            }),
            _ => Ok(()),
        }
    }
}

impl Dataset for ParquetImages {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn image(&self, index: usize) -> Result<Image, SampleError> {
        let id = &self.manifest.entry(index)?.id;
        let fail = |reason| SampleError { id: id.clone(), reason };
        let decoded = decode(&self.bytes[index]).map_err(&fail)?;
        if decoded.shape != self.shape {
            return Err(fail(shape_mismatch(decoded.shape, self.shape)));
        }
        Ok(Image::from_hwc_bytes(&decoded.bytes, decoded.shape))
    }
}

fn checked_label(name: &str, id: &str, label: i64, classes: Option<usize>) -> Result<u32, DatasetError> {
    let classes = classes.unwrap_or(u32::MAX as usize);
    u32::try_from(label).ok().filter(|&l| (l as usize) < classes).ok_or_else(|| DatasetError::Label {
        name: name.to_owned(),
        id: id.to_owned(),
        label,
        classes,
    })
}

fn select(selector: Selector, stored: Vec<Stored>) -> Vec<Stored> {
    let ids: Vec<String> = stored.iter().map(|sample| sample.id.clone()).collect();
    let mut slots: Vec<Option<Stored>> = stored.into_iter().map(Some).collect();
    selector.order(&ids).into_iter().filter_map(|position| slots[position].take()).collect()
}

struct Decoded {
    bytes: Vec<u8>,
    shape: [usize; 3],
}

fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let image = image::load_from_memory(bytes).map_err(|e| format!("the image cannot be decoded: {e}"))?;
    let channels = usize::from(image.color().channel_count());
    let shape = [channels, image.height() as usize, image.width() as usize];
    let bits = image.color().bits_per_pixel() as usize;
    if bits != 8 * channels {
        return Err(format!("{} bits per channel; only 8 are read", bits / channels));
    }
    Ok(Decoded { bytes: image.into_bytes(), shape })
}

fn shape_mismatch(found: [usize; 3], expected: [usize; 3]) -> String {
    let text = |[c, h, w]: [usize; 3]| format!("{h}×{w} with {c} channel(s)");
    format!("the image is {}, expected {}", text(found), text(expected))
}

/// Appends the rows of one file.
fn read_file(
    description: &Description,
    layout: &ParquetLayout,
    split: Split,
    path: &Path,
    stored: &mut Vec<Stored>,
) -> Result<(), DatasetError> {
    let unreadable = |reason: String| DatasetError::File {
        name: description.name.clone(),
        path: path.to_owned(),
        reason,
        source_hint: description.source.clone(),
    };
    let file = File::open(path).map_err(|e| unreadable(e.to_string()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(e.to_string()))?;
    let columns = Columns { schema: builder.schema().clone(), path: path.to_owned() };
    let wanted = columns.wanted(layout)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let reader = builder.with_projection(mask).build().map_err(|e| unreadable(e.to_string()))?;
    for batch in reader {
        let batch = batch.map_err(|e| unreadable(e.to_string()))?;
        columns.append(&batch, layout, split, stored)?;
    }
    Ok(())
}

/// The columns of one file.
struct Columns {
    schema: std::sync::Arc<Schema>,
    path: PathBuf,
}

impl Columns {
    fn missing(&self, what: String) -> DatasetError {
        let columns: Vec<String> =
            self.schema.fields().iter().map(|f| format!("{} ({})", f.name(), f.data_type())).collect();
        DatasetError::Column { path: self.path.clone(), what, columns: columns.join(", ") }
    }

    /// Positions of the columns that the layout names.
    fn wanted(&self, layout: &ParquetLayout) -> Result<Vec<usize>, DatasetError> {
        let id = match &layout.id {
            IdSource::Column(name) => Some(name),
            IdSource::Row | IdSource::Path => None,
        };
        [Some(&layout.image), layout.label.as_ref(), id]
            .into_iter()
            .flatten()
            .map(|name| self.schema.index_of(name).map_err(|_| self.missing(format!("no column `{name}`"))))
            .collect()
    }

    fn append(
        &self,
        batch: &RecordBatch,
        layout: &ParquetLayout,
        split: Split,
        stored: &mut Vec<Stored>,
    ) -> Result<(), DatasetError> {
        let image = self.column(batch, &layout.image)?;
        let parts = image.as_any().downcast_ref::<StructArray>();
        let field = |name: &str| {
            parts
                .and_then(|s| s.column_by_name(name).cloned())
                .ok_or_else(|| self.missing(format!("column `{}` has no field `{name}`", layout.image)))
        };
        let bytes = if parts.is_some() { field("bytes")? } else { image.clone() };
        let bytes: LargeBinaryArray = self.cast(&bytes, &DataType::LargeBinary, &layout.image)?;
        let labels: Option<Int64Array> = match &layout.label {
            Some(name) => Some(self.cast(&self.column(batch, name)?, &DataType::Int64, name)?),
            None => None,
        };
        let ids: Option<LargeStringArray> = match &layout.id {
            IdSource::Row => None,
            IdSource::Path => Some(self.cast(&field("path")?, &DataType::LargeUtf8, "path")?),
            IdSource::Column(name) => {
                Some(self.cast(&self.column(batch, name)?, &DataType::LargeUtf8, name)?)
            }
        };
        for row in 0..batch.num_rows() {
            let id = match &ids {
                None => format!("{split}/{:06}", stored.len()),
                Some(ids) if ids.is_valid(row) => ids.value(row).to_owned(),
                Some(_) => return Err(self.missing(format!("sample {} has no id", stored.len()))),
            };
            stored.push(Stored {
                id,
                label: labels.as_ref().filter(|l| l.is_valid(row)).map(|l| l.value(row)),
                // A null image stays an empty one: an error of this sample only.
                bytes: if bytes.is_valid(row) { bytes.value(row).to_vec() } else { Vec::new() },
            });
        }
        Ok(())
    }

    fn column(&self, batch: &RecordBatch, name: &str) -> Result<ArrayRef, DatasetError> {
        batch.column_by_name(name).cloned().ok_or_else(|| self.missing(format!("no column `{name}`")))
    }

    /// The column as the array type `T` of the type `to`.
    fn cast<T: Array + Clone + 'static>(
        &self,
        array: &ArrayRef,
        to: &DataType,
        name: &str,
    ) -> Result<T, DatasetError> {
        let wrong = || self.missing(format!("`{name}` is {}, not {to}", array.data_type()));
        let cast = cast(array, to).map_err(|_| wrong())?;
        cast.as_any().downcast_ref::<T>().cloned().ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::parquet::arrow::ArrowWriter;
    use arrow::array::BinaryArray;
    use arrow::array::StringArray;
    use arrow::datatypes::{Field, Fields};

    use super::*;

    fn encoded(size: u32, shade: u8, format: image::ImageFormat) -> Vec<u8> {
        let image = image::RgbImage::from_fn(size, size, |x, y| image::Rgb([shade, x as u8, y as u8]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn png(shade: u8) -> Vec<u8> {
        encoded(4, shade, image::ImageFormat::Png)
    }

    /// A file in the public layout; every sample is (path, label, bytes).
    fn write(folder: &Path, samples: &[(&str, i64, Vec<u8>)]) {
        let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(samples.iter().map(|s| &s.2)));
        let paths: ArrayRef = Arc::new(StringArray::from_iter_values(samples.iter().map(|s| s.0)));
        let fields = Fields::from(vec![
            Field::new("bytes", DataType::Binary, true),
            Field::new("path", DataType::Utf8, true),
        ]);
        let image: ArrayRef = Arc::new(StructArray::new(fields, vec![bytes, paths], None));
        let label: ArrayRef = Arc::new(Int64Array::from_iter_values(samples.iter().map(|s| s.1)));
        let batch = RecordBatch::try_from_iter([("img", image), ("label", label)]).unwrap();
        let file = File::create(folder.join("test.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn description(id: &str) -> Description {
        let text = format!(
            "name: mine\nsource: nowhere\nlicence: none\nfolder: '.'\nshape: [3, 4, 4]\nclasses: [a, b]\n\
             layout: {{ parquet: {{ files: {{ test: [test.parquet] }}, id: {id} }} }}\n"
        );
        Description::parse("mine.yaml", &text).unwrap()
    }

    fn open(description: &Description, folder: &Path) -> Result<Box<dyn Dataset>, DatasetError> {
        description.open(Split::Test, Some(folder))
    }

    fn failure(description: &Description, folder: &Path) -> String {
        open(description, folder).err().expect("opening fails").to_string()
    }

    #[test]
    fn images_come_as_channels_in_minus_one_to_one() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("a.png", 1, png(255)), ("b.png", 0, png(0))]);
        let dataset = open(&description("row"), folder.path()).unwrap();
        let ids: Vec<&str> = dataset.manifest().entries().iter().map(|e| e.id.as_str()).collect();
        assert_eq!(ids, ["test/000000", "test/000001"]);
        assert_eq!(dataset.manifest().entries()[0].label, Some(1));
        let image = dataset.image(0).unwrap();
        assert_eq!(image.shape, [3, 4, 4]);
        assert!(image.data[..16].iter().all(|&v| v == 1.0));
        // Green counts columns, blue rows.
        assert_eq!(image.data[16 + 3], 3.0 / 127.5 - 1.0);
        assert_eq!(image.data[32 + 4 * 3], 3.0 / 127.5 - 1.0);
    }

    #[test]
    fn an_unreadable_or_misshapen_image_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let large = encoded(5, 0, image::ImageFormat::Jpeg);
        let samples = [("a", 0, png(1)), ("b", 0, b"no image".to_vec()), ("c", 1, large), ("d", 1, png(2))];
        write(folder.path(), &samples);
        let dataset = open(&description("path"), folder.path()).unwrap();
        assert!(dataset.image(0).is_ok() && dataset.image(3).is_ok());
        let broken = dataset.image(1).unwrap_err();
        assert!(broken.id == "b" && broken.reason.contains("cannot be decoded"), "{broken}");
        let large = dataset.image(2).unwrap_err().to_string();
        assert!(large.contains("5×5") && large.contains("4×4"), "{large}");
    }

    #[test]
    fn what_is_wrong_with_the_whole_is_one_error_when_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(failure(&description("row"), path).contains("test.parquet"));

        write(path, &[("a", 0, png(1)), ("a", 0, png(2))]);
        assert!(failure(&description("path"), path).contains("`a` occurs twice"));
        assert!(failure(&description("{ column: name }"), path).contains("no column `name`"));

        write(path, &[("a", 2, png(1))]);
        assert!(failure(&description("row"), path).contains("label 2 is out of range"));
        write(path, &[("a", -1, png(1))]);
        assert!(failure(&description("row"), path).contains("label -1 is out of range"));

        write(path, &[("a", 0, encoded(8, 0, image::ImageFormat::Png))]);
        assert!(failure(&description("row"), path).contains("8×8"));

        write(path, &[]);
        assert!(failure(&description("row"), path).contains("no samples"));

        std::fs::write(path.join("test.parquet"), b"PAR1 no parquet").unwrap();
        assert!(failure(&description("row"), path).contains("test.parquet"));

        let train = description("row").open(Split::Train, Some(path)).err().unwrap().to_string();
        assert!(train.contains("no train split"), "{train}");
    }

    #[test]
    fn selectors_choose_and_order() {
        let folder = tempfile::tempdir().unwrap();
        let samples: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|&id| (id, 0, png(0))).collect();
        write(folder.path(), &samples);
        let ids = |selector| {
            let description = Description { selector, ..description("path") };
            let dataset = open(&description, folder.path()).unwrap();
            dataset.manifest().entries().iter().map(|e| e.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(Selector::First(2)), ["a", "b"]);
        let seeded = |count| ids(Selector::Seeded(super::super::description::Seeded { seed: 0, count }));
        assert_eq!(seeded(Some(3)), seeded(None)[..3]);
        assert_ne!(seeded(None), ids(Selector::All));
    }

    #[test]
    fn the_real_test_photographs_are_in_mixed_order() {
        let Some(data) = crate::test_data::folder() else { return };
        let dataset = super::super::open("cifar10", Some(&data)).unwrap();
        assert_eq!(dataset.len(), 10_000);
        let labels: std::collections::BTreeSet<_> =
            dataset.manifest().first(64).iter().map(|e| e.label).collect();
        assert!(labels.len() >= 9, "the first 64 show {} classes", labels.len());
        assert_eq!(dataset.image(0).unwrap().shape, [3, 32, 32]);
    }
}
