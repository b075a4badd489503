//! The kinds of values a column can hold, and the macro that turns one table of columns into everything derived from
//! it: the [`Record`] struct, its Arrow schema, its documentation and its comparison.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Fields, Float64Type, UInt32Type, UInt64Type};

use super::record::{Record, Status, TracePoint};

/// What one column is: a line of `reports/SCHEMA.md`, a field of the Arrow schema, a step of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Name in the Parquet file and in [`Record`].
    pub name: &'static str,
    /// Which part of a row it belongs to.
    pub group: &'static str,
    /// Type, as the documentation names it.
    pub type_name: &'static str,
    /// Unit; empty if it has none.
    pub unit: &'static str,
    /// Whether it may be null.
    pub nullable: bool,
    /// Whether a repeated run on the same instruction set gives the same bits.
    pub reproducible: bool,
    /// What it holds.
    pub description: &'static str,
    pub(super) data_type: fn() -> DataType,
    same: fn(&Record, &Record) -> bool,
    show: fn(&Record) -> String,
}

impl Column {
    pub(super) const fn new<T: Cell>(
        name: &'static str,
        group: &'static str,
        unit: &'static str,
        reproducible: bool,
        description: &'static str,
        same: fn(&Record, &Record) -> bool,
        show: fn(&Record) -> String,
    ) -> Self {
        let (type_name, nullable, data_type) = (T::TYPE, T::NULLABLE, T::data_type as fn() -> DataType);
        Self { name, group, type_name, unit, nullable, reproducible, description, data_type, same, show }
    }

    /// Whether two rows hold the same bits in this column (in a trace, all but the seconds).
    pub fn same(&self, left: &Record, right: &Record) -> bool {
        (self.same)(left, right)
    }

    /// The value as text, for messages.
    pub fn show(&self, record: &Record) -> String {
        (self.show)(record)
    }

    pub(super) fn field(&self) -> Field {
        Field::new(self.name, (self.data_type)(), self.nullable)
    }
}

/// A type that a column can hold.
pub(super) trait Cell: Sized {
    /// Name for the documentation.
    const TYPE: &'static str;
    /// Whether the column may hold nulls.
    const NULLABLE: bool = false;

    fn data_type() -> DataType;
    fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef
    where
        Self: 'a;
    /// All values, or `None` if the array has another type.
    fn decode(array: &dyn Array) -> Option<Vec<Self>>;
    /// The value in files that lack the column (not read, or written before it was added), if it can have one.
    fn absent() -> Option<Self> {
        None
    }
    fn same(&self, other: &Self) -> bool;
    fn show(&self) -> String;
}

macro_rules! primitive_cell {
    ($type:ty, $arrow:ty, $name:literal, $same:expr) => {
        impl Cell for $type {
            const TYPE: &'static str = $name;
            fn data_type() -> DataType {
                <$arrow>::DATA_TYPE
            }
            fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
                Arc::new(PrimitiveArray::<$arrow>::from_iter_values(values.copied()))
            }
            fn decode(array: &dyn Array) -> Option<Vec<Self>> {
                Some(without_nulls(array)?.as_primitive_opt::<$arrow>()?.values().to_vec())
            }
            fn same(&self, other: &Self) -> bool {
                $same(*self) == $same(*other)
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }

        impl Cell for Option<$type> {
            const TYPE: &'static str = $name;
            const NULLABLE: bool = true;
            fn data_type() -> DataType {
                <$arrow>::DATA_TYPE
            }
            fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
                Arc::new(values.copied().collect::<PrimitiveArray<$arrow>>())
            }
            fn decode(array: &dyn Array) -> Option<Vec<Self>> {
                Some(array.as_primitive_opt::<$arrow>()?.iter().collect())
            }
            fn absent() -> Option<Self> {
                Some(None)
            }
            fn same(&self, other: &Self) -> bool {
                self.map($same) == other.map($same)
            }
            fn show(&self) -> String {
                self.map_or_else(|| "null".to_owned(), |value| value.to_string())
            }
        }
    };
}

primitive_cell!(u32, UInt32Type, "uint32", std::convert::identity);
primitive_cell!(u64, UInt64Type, "uint64", std::convert::identity);
primitive_cell!(f64, Float64Type, "float64", f64::to_bits);

fn without_nulls(array: &dyn Array) -> Option<&dyn Array> {
    (array.null_count() == 0).then_some(array)
}

impl Cell for bool {
    const TYPE: &'static str = "bool";
    fn data_type() -> DataType {
        DataType::Boolean
    }
    fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        Arc::new(values.map(|value| Some(*value)).collect::<BooleanArray>())
    }
    fn decode(array: &dyn Array) -> Option<Vec<Self>> {
        Some(without_nulls(array)?.as_boolean_opt()?.values().iter().collect())
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Cell for Option<bool> {
    const TYPE: &'static str = "bool";
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Boolean
    }
    fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        Arc::new(values.copied().collect::<BooleanArray>())
    }
    fn decode(array: &dyn Array) -> Option<Vec<Self>> {
        Some(array.as_boolean_opt()?.iter().collect())
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
    fn show(&self) -> String {
        self.map_or_else(|| "null".to_owned(), |value| value.to_string())
    }
}

impl Cell for String {
    const TYPE: &'static str = "string";
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(values))
    }
    fn decode(array: &dyn Array) -> Option<Vec<Self>> {
        without_nulls(array)?.as_string_opt::<i32>()?.iter().map(|text| text.map(str::to_owned)).collect()
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Cell for Option<String> {
    const TYPE: &'static str = "string";
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        Arc::new(values.map(Option::as_deref).collect::<StringArray>())
    }
    fn decode(array: &dyn Array) -> Option<Vec<Self>> {
        Some(array.as_string_opt::<i32>()?.iter().map(|text| text.map(str::to_owned)).collect())
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
    fn show(&self) -> String {
        self.clone().unwrap_or_else(|| "null".to_owned())
    }
}

impl Cell for Status {
    const TYPE: &'static str = "string";
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(values.map(|status| status.as_str())))
    }
    fn decode(array: &dyn Array) -> Option<Vec<Self>> {
        array.as_string_opt::<i32>()?.iter().map(|text| Self::parse(text?)).collect()
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
    fn show(&self) -> String {
        self.as_str().to_owned()
    }
}

macro_rules! list_cell {
    ($type:ty, $arrow:ty, $name:literal, $same:expr) => {
        impl Cell for Vec<$type> {
            const TYPE: &'static str = $name;
            fn data_type() -> DataType {
                DataType::List(Arc::new(Field::new("item", <$arrow>::DATA_TYPE, false)))
            }
            fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
                let (offsets, flat) = flatten(values);
                let values = PrimitiveArray::<$arrow>::from_iter_values(flat.into_iter().copied());
                let item = Arc::new(Field::new("item", <$arrow>::DATA_TYPE, false));
                Arc::new(ListArray::new(item, offsets, Arc::new(values), None))
            }
            fn decode(array: &dyn Array) -> Option<Vec<Self>> {
                let list = without_nulls(array)?.as_list_opt::<i32>()?;
                let values = <$type>::decode(list.values())?;
                Some(unflatten(list, &values))
            }
            fn absent() -> Option<Self> {
                Some(Vec::new())
            }
            fn same(&self, other: &Self) -> bool {
                self.iter().copied().map($same).eq(other.iter().copied().map($same))
            }
            fn show(&self) -> String {
                format!("{self:?}")
            }
        }
    };
}

list_cell!(u32, UInt32Type, "list<uint32>", std::convert::identity);
list_cell!(f64, Float64Type, "list<float64>", f64::to_bits);

fn trace_fields() -> Fields {
    Fields::from(vec![
        Field::new("eval", DataType::UInt32, false),
        Field::new("seconds", DataType::Float64, false),
        Field::new("loss", DataType::Float64, false),
        Field::new("psnr", DataType::Float64, true),
    ])
}

fn trace_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(trace_fields()), false))
}

impl Cell for Vec<TracePoint> {
    const TYPE: &'static str =
        "list<struct<eval: uint32, seconds: float64, loss: float64, psnr: float64 (nullable)>>";
    fn data_type() -> DataType {
        DataType::List(trace_item())
    }
    fn encode<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        let (offsets, points) = flatten(values);
        let columns: Vec<ArrayRef> = vec![
            u32::encode(points.iter().map(|point| &point.eval)),
            f64::encode(points.iter().map(|point| &point.seconds)),
            f64::encode(points.iter().map(|point| &point.loss)),
            Option::<f64>::encode(points.iter().map(|point| &point.psnr)),
        ];
        let points = Arc::new(StructArray::new(trace_fields(), columns, None));
        Arc::new(ListArray::new(trace_item(), offsets, points, None))
    }
    fn decode(array: &dyn Array) -> Option<Vec<Self>> {
        let list = without_nulls(array)?.as_list_opt::<i32>()?;
        let points = list.values().as_struct_opt()?;
        let eval = u32::decode(points.column_by_name("eval")?)?;
        let seconds = f64::decode(points.column_by_name("seconds")?)?;
        let loss = f64::decode(points.column_by_name("loss")?)?;
        let psnr = Option::<f64>::decode(points.column_by_name("psnr")?)?;
        let point = |i| TracePoint { eval: eval[i], seconds: seconds[i], loss: loss[i], psnr: psnr[i] };
        Some(unflatten(list, &(0..eval.len()).map(point).collect::<Vec<_>>()))
    }
    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
    fn same(&self, other: &Self) -> bool {
        let same = |(a, b): (&TracePoint, &TracePoint)| {
            a.eval == b.eval && a.loss.same(&b.loss) && a.psnr.same(&b.psnr)
        };
        self.len() == other.len() && self.iter().zip(other).all(same)
    }
    fn show(&self) -> String {
        match self.last() {
            None => "empty".to_owned(),
            Some(last) => format!("{} points, last {last:?}", self.len()),
        }
    }
}

/// Arrow's layout of lists: offsets, and all items in one row.
fn flatten<'a, T: 'a>(lists: impl Iterator<Item = &'a Vec<T>>) -> (OffsetBuffer<i32>, Vec<&'a T>) {
    let lists: Vec<&Vec<T>> = lists.collect();
    (OffsetBuffer::from_lengths(lists.iter().map(|list| list.len())), lists.into_iter().flatten().collect())
}

fn unflatten<T: Clone>(list: &ListArray, values: &[T]) -> Vec<Vec<T>> {
    list.offsets().windows(2).map(|ends| values[ends[0] as usize..ends[1] as usize].to_vec()).collect()
}

/// Declares `Record`, `COLUMNS`, and the conversions between records and Arrow arrays, from one table:
/// `/// description` `name: type, "unit", reproducible | varies;`, in groups.
macro_rules! columns {
    (@same reproducible) => { true };
    (@same varies) => { false };
    (@clear reproducible $field:expr, $type:ty) => {};
    (@clear varies $field:expr, $type:ty) => { $field = <$type>::default(); };
    ($($group:literal { $($(#[doc = $doc:literal])+ $name:ident: $type:ty, $unit:literal, $same:ident;)+ })+) => {
        /// One solved sample: a row of `samples.parquet`. [`COLUMNS`] describes every field.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        pub struct Record {
            $($($(#[doc = $doc])+ pub $name: $type,)+)+
        }

        impl Record {
            /// The row with nothing in the columns that may differ between runs.
            fn without_varying(mut self) -> Self {
                $($(columns!(@clear $same self.$name, $type);)+)+
                self
            }
        }

        /// Every column, in the order of the file.
        pub const COLUMNS: &[Column] = &[$($(Column::new::<$type>(
            stringify!($name),
            $group,
            $unit,
            columns!(@same $same),
            concat!($($doc),+).trim_ascii(),
            |left, right| Cell::same(&left.$name, &right.$name),
            |record| Cell::show(&record.$name),
        ),)+)+];

        /// One array per column.
        pub(super) fn encode(records: &[Record]) -> Vec<ArrayRef> {
            vec![$($(<$type as Cell>::encode(records.iter().map(|record| &record.$name)),)+)+]
        }

        /// Records of `rows` rows, whose columns `array` finds by name; the error names the column that is missing
        /// or has another type.
        pub(super) fn decode(
            rows: usize,
            array: impl Fn(&str) -> Option<ArrayRef>,
        ) -> Result<Vec<Record>, String> {
            $($(let mut $name = decode_column::<$type>(rows, stringify!($name), &array)?.into_iter();)+)+
            let values = "every column has as many values as there are rows";
            Ok((0..rows).map(|_| Record { $($($name: $name.next().expect(values),)+)+ }).collect())
        }
    };
}
pub(super) use columns;

/// The values of one column, or its default in a file that lacks it.
pub(super) fn decode_column<T: Cell>(
    rows: usize,
    name: &str,
    array: &impl Fn(&str) -> Option<ArrayRef>,
) -> Result<Vec<T>, String> {
    match array(name) {
        Some(array) => T::decode(&array)
            .ok_or_else(|| format!("column {name} is {}, not {}", array.data_type(), T::TYPE)),
        None => (0..rows).map(|_| T::absent().ok_or_else(|| format!("column {name} is missing"))).collect(),
    }
}
