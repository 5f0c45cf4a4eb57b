//! Rows of Parquet files, a batch at a time.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, StringArray};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Cell, Row, TableError};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 16_384;

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, TableError> {
    let file = File::open(path).map_err(|e| TableError::io(path, e))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| TableError::malformed(path, e))
}

pub(super) fn columns(path: &Path) -> Result<Vec<String>, TableError> {
    Ok(open(path)?.schema().fields().iter().map(|field| field.name().clone()).collect())
}

pub(super) fn unreadable(path: &Path) -> Result<Vec<String>, TableError> {
    let builder = open(path)?;
    let fields = builder.schema().fields().iter();
    Ok(fields.filter(|field| !is_readable(field.data_type())).map(|field| field.name().clone()).collect())
}

/// Whether [`Values::of`] takes every value of a type.
fn is_readable(of: &DataType) -> bool {
    match of {
        DataType::Null | DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => true,
        DataType::Decimal128(..) | DataType::Decimal256(..) => true,
        DataType::Dictionary(_, values) => is_readable(values),
        DataType::List(item) | DataType::LargeList(item) => {
            !item.data_type().is_nested() && is_readable(item.data_type())
        }
        other => other.is_floating() || (other.is_integer() && *other != DataType::UInt64),
    }
}

pub(super) fn read(path: &Path, wanted: &[String], on_row: &mut dyn FnMut(Row<'_>)) -> Result<(), TableError> {
    let builder = open(path)?;
    let roots: Vec<usize> = wanted.iter().filter_map(|name| builder.schema().index_of(name).ok()).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let malformed = |e: &dyn std::fmt::Display| TableError::malformed(path, e);
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(|e| malformed(&e))?;
    let mut number = 0;
    for batch in reader {
        let batch = batch.map_err(|e| malformed(&e))?;
        let column = |name: &String| match batch.column_by_name(name) {
            Some(array) => Values::of(array).map_err(|what| TableError::ColumnType {
                path: path.to_owned(),
                column: name.clone(),
                what,
            }),
            None => Ok(Values::Absent),
        };
        let columns: Vec<Values> = wanted.iter().map(column).collect::<Result<_, _>>()?;
        for i in 0..batch.num_rows() {
            number += 1;
            let cells: Vec<Cell<'_>> = columns.iter().map(|values| values.cell(i)).collect();
            on_row((number, Some(&cells)));
        }
    }
    Ok(())
}

/// A column of a batch, brought to one of few types.
enum Values {
    Absent,
    Text(StringArray),
    Integer(Int64Array),
    Float(Float64Array),
    Boolean(BooleanArray),
    /// Unix seconds.
    Moment(Int64Array),
    List(ListArray),
}

impl Values {
    fn of(array: &ArrayRef) -> Result<Self, String> {
        let to = |target: DataType| cast(array, &target).map_err(|e| e.to_string());
        let text = || Ok::<_, String>(Self::Text(to(DataType::Utf8)?.as_string::<i32>().clone()));
        match array.data_type() {
            DataType::Null => Ok(Self::Absent),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => text(),
            DataType::Dictionary(_, values) => Self::of(&to(values.as_ref().clone())?),
            DataType::Boolean => Ok(Self::Boolean(array.as_boolean().clone())),
            // Databases export ids as decimals without decimals.
            t if t.is_integer() || matches!(t, DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0)) => {
                let cast = to(DataType::Int64)?;
                if cast.null_count() > array.null_count() {
                    return Err("integers above 9223372036854775807; store such ids as text".to_owned());
                }
                Ok(Self::Integer(cast.as_primitive::<Int64Type>().clone()))
            }
            t if t.is_floating() || matches!(t, DataType::Decimal128(..) | DataType::Decimal256(..)) => {
                Ok(Self::Float(to(DataType::Float64)?.as_primitive::<Float64Type>().clone()))
            }
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
                // Without a zone first: a change of unit keeps the moment, a change of zone need not.
                let naive = match array.data_type() {
                    DataType::Timestamp(unit, Some(_)) => to(DataType::Timestamp(*unit, None))?,
                    _ => array.clone(),
                };
                let seconds = cast(&naive, &DataType::Timestamp(TimeUnit::Second, None))
                    .and_then(|seconds| cast(&seconds, &DataType::Int64))
                    .map_err(|e| e.to_string())?;
                Ok(Self::Moment(seconds.as_primitive::<Int64Type>().clone()))
            }
            DataType::List(_) | DataType::LargeList(_) => {
                let texts = DataType::List(Field::new_list_field(DataType::Utf8, true).into());
                Ok(Self::List(to(texts)?.as_list::<i32>().clone()))
            }
            other => Err(format!("type {other} is not supported; use text, numbers, booleans, times or lists of text")),
        }
    }

    fn cell(&self, i: usize) -> Cell<'_> {
        match self {
            Self::Text(a) if a.is_valid(i) => Cell::Text(Cow::Borrowed(a.value(i))),
            Self::Integer(a) if a.is_valid(i) => Cell::Integer(a.value(i)),
            Self::Float(a) if a.is_valid(i) => Cell::Float(a.value(i)),
            Self::Boolean(a) if a.is_valid(i) => Cell::Boolean(a.value(i)),
            Self::Moment(a) if a.is_valid(i) => Cell::Moment(a.value(i)),
            Self::List(a) if a.is_valid(i) => {
                let values = a.value(i);
                Cell::List(values.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
            }
            _ => Cell::Null,
        }
    }
}
