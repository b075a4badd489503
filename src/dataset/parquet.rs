//! Encoded images in Parquet files, in the layout of public copies: `img` or `image` struct{bytes, path}, `label` int64.
//!
//! Values are read one row at a time through [`page::BoundedFile`], so that memory is bounded by a page whatever a file
//! says of itself: a dictionary value that a million rows name is held once.

mod page;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use ::parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, RowGroupReader};
use ::parquet::file::serialized_reader::SerializedFileReader;
use ::parquet::schema::types::SchemaDescriptor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Split;
use super::images::{Class, Listed, Place};
use page::BoundedFile;

/// Names of files and columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetLayout {
    /// Files of each split, in order, relative to the dataset's folder; `*` and `?` in a file name stand for any
    /// letters, and such files follow sorted by name.
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

/// Most rows of a file: more than any dataset of images has.
const MAX_ROWS: i64 = 20_000_000;

/// Why a file cannot be listed.
pub(super) enum Failure {
    /// It cannot be read.
    Unreadable(String),
    /// A column is missing or has another type.
    Column {
        /// What was looked for.
        what: String,
        /// The columns that there are.
        columns: String,
    },
}

impl From<ParquetError> for Failure {
    fn from(error: ParquetError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Shows every sample of a file with its encoded image, in order. A null image is an empty one: an error of its sample.
pub(super) fn scan(
    path: &Path,
    layout: &ParquetLayout,
    sample: &mut dyn FnMut(Listed, &[u8]),
) -> Result<(), Failure> {
    let reader = SerializedFileReader::new(BoundedFile::new(File::open(path)?))?;
    let columns = Columns::find(reader.metadata().file_metadata().schema_descr(), layout)?;
    let rows = reader.metadata().file_metadata().num_rows();
    if !(0..=MAX_ROWS).contains(&rows) {
        return Err(Failure::Unreadable(format!("it says that it has {rows} rows; {MAX_ROWS} are the most")));
    }
    for group in 0..reader.num_row_groups() {
        columns.scan(&*reader.get_row_group(group)?, group, sample)?;
    }
    Ok(())
}

/// Reads the encoded image of one row again.
pub(super) fn read(path: &Path, layout: &ParquetLayout, group: u32, row: u32) -> Result<Vec<u8>, String> {
    let read = || -> Result<Option<ByteArray>, Failure> {
        let reader = SerializedFileReader::new(BoundedFile::new(File::open(path)?))?;
        let columns = Columns::find(reader.metadata().file_metadata().schema_descr(), layout)?;
        let group = reader.get_row_group(group as usize)?;
        let mut images = Values::<ByteArrayType>::new(&*group, columns.image)?;
        images.reader.skip_records(row as usize)?;
        images.next()
    };
    match read() {
        Ok(image) => Ok(image.map(|bytes| bytes.data().to_vec()).unwrap_or_default()),
        Err(Failure::Unreadable(reason) | Failure::Column { what: reason, .. }) => {
            Err(format!("{}: {reason}", path.display()))
        }
    }
}

/// Positions of the leaf columns that are read.
struct Columns {
    image: usize,
    label: Option<Label>,
    id: Option<usize>,
}

/// The label column, by its physical type.
enum Label {
    Int32(usize),
    Int64(usize),
}

impl Columns {
    fn find(schema: &SchemaDescriptor, layout: &ParquetLayout) -> Result<Self, Failure> {
        let find = Find(schema);
        let label = layout.label.as_ref().map(|name| find.label(name)).transpose()?;
        let (image, name) = (find.image(&layout.image)?, &layout.image);
        let id = match &layout.id {
            IdSource::Row => None,
            IdSource::Path => Some(
                find.leaf(&format!("{name}.path"))
                    .ok_or_else(|| find.missing(format!("column `{name}` has no field `path`")))?,
            ),
            IdSource::Column(name) => {
                Some(find.leaf(name).ok_or_else(|| find.missing(format!("no column `{name}`")))?)
            }
        };
        for column in [Some(image), id].into_iter().flatten() {
            find.check(column, ByteArrayType::get_physical_type())?;
        }
        Ok(Self { image, label, id })
    }

    fn scan(
        &self,
        group: &dyn RowGroupReader,
        index: usize,
        sample: &mut dyn FnMut(Listed, &[u8]),
    ) -> Result<(), Failure> {
        let mut images = Values::<ByteArrayType>::new(group, self.image)?;
        let mut ids = self.id.map(|id| Values::<ByteArrayType>::new(group, id)).transpose()?;
        let mut labels = self.label.as_ref().map(|label| Labels::new(group, label)).transpose()?;
        let rows = u32::try_from(group.metadata().num_rows())
            .map_err(|_| Failure::Unreadable("a row group has no possible number of rows".to_owned()))?;
        for row in 0..rows {
            let image = images.next()?;
            let bytes = image.as_ref().map_or(&[][..], ByteArray::data);
            let id = ids.as_mut().map(|ids| text(ids, row)).transpose()?;
            let label = labels.as_mut().map(Labels::next).transpose()?.flatten();
            let place = Place::Row { group: index as u32, row };
            sample(Listed::new(id, label.map_or(Class::None, Class::Label), bytes, place), bytes);
        }
        Ok(())
    }
}

fn text(ids: &mut Values<ByteArrayType>, row: u32) -> Result<String, Failure> {
    let id = ids.next()?.ok_or_else(|| Failure::Unreadable(format!("row {row} has no id")))?;
    id.as_utf8()
        .map(str::to_owned)
        .map_err(|_| Failure::Unreadable(format!("the id of row {row} is no text")))
}

/// Looks up leaf columns.
struct Find<'a>(&'a SchemaDescriptor);

impl Find<'_> {
    fn leaf(&self, path: &str) -> Option<usize> {
        self.0.columns().iter().position(|column| column.path().string() == path)
    }

    fn image(&self, name: &str) -> Result<usize, Failure> {
        let leaf = self.leaf(&format!("{name}.bytes")).or_else(|| self.leaf(name));
        leaf.ok_or_else(|| {
            let is_there = self.0.columns().iter().any(|column| column.path().parts()[0] == name);
            let what = if is_there {
                format!("column `{name}` has no field `bytes`")
            } else {
                format!("no column `{name}`")
            };
            self.missing(what)
        })
    }

    fn label(&self, name: &str) -> Result<Label, Failure> {
        let column = self.leaf(name).ok_or_else(|| self.missing(format!("no column `{name}`")))?;
        if self.0.column(column).physical_type() == Int32Type::get_physical_type() {
            self.check(column, Int32Type::get_physical_type())?;
            return Ok(Label::Int32(column));
        }
        self.check(column, Int64Type::get_physical_type())?;
        Ok(Label::Int64(column))
    }

    /// One value a row, of the physical type `expected`.
    fn check(&self, column: usize, expected: ::parquet::basic::Type) -> Result<(), Failure> {
        let found = self.0.column(column);
        let name = found.path().string();
        if found.physical_type() != expected {
            return Err(self.missing(format!("`{name}` is {}, not {expected}", found.physical_type())));
        }
        if found.max_rep_level() > 0 {
            return Err(self.missing(format!("`{name}` is a list, not one value a row")));
        }
        Ok(())
    }

    fn missing(&self, what: String) -> Failure {
        let columns =
            self.0.columns().iter().map(|c| format!("{} ({})", c.path().string(), c.physical_type()));
        Failure::Column { what, columns: columns.collect::<Vec<_>>().join(", ") }
    }
}

/// One column of a row group, row by row.
struct Values<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// The definition level of a value that is there.
    defined: i16,
    levels: Vec<i16>,
    found: Vec<T::T>,
}

impl<T: DataType> Values<T> {
    fn new(group: &dyn RowGroupReader, column: usize) -> Result<Self, Failure> {
        let reader = get_typed_column_reader(group.get_column_reader(column)?);
        let defined = group.metadata().column(column).column_descr().max_def_level();
        Ok(Self { reader, defined, levels: Vec::new(), found: Vec::new() })
    }

    /// The next row's value; none if it is null.
    fn next(&mut self) -> Result<Option<T::T>, Failure> {
        self.levels.clear();
        self.found.clear();
        let levels = (self.defined > 0).then_some(&mut self.levels);
        let (rows, ..) = self.reader.read_records(1, levels, None, &mut self.found)?;
        if rows == 0 {
            return Err(Failure::Unreadable("a column has fewer rows than the file says".to_owned()));
        }
        Ok(self.found.pop())
    }
}

/// The label column of a row group.
enum Labels {
    Int32(Values<Int32Type>),
    Int64(Values<Int64Type>),
}

impl Labels {
    fn new(group: &dyn RowGroupReader, label: &Label) -> Result<Self, Failure> {
        Ok(match *label {
            Label::Int32(column) => Self::Int32(Values::new(group, column)?),
            Label::Int64(column) => Self::Int64(Values::new(group, column)?),
        })
    }

    fn next(&mut self) -> Result<Option<i64>, Failure> {
        match self {
            Self::Int32(values) => Ok(values.next()?.map(i64::from)),
            Self::Int64(values) => values.next(),
        }
    }
}
