//! Tables out: Parquet, a batch at a time, complete or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::TableError;

/// Values of one column of a batch.
#[derive(Clone, Debug)]
pub enum Column {
    /// Text.
    Text(Vec<Option<String>>),
    /// 64-bit integers.
    Integer(Vec<i64>),
    /// 32-bit integers.
    Small(Vec<i32>),
    /// Numbers.
    Float(Vec<Option<f32>>),
    /// Numbers that others gave, to the last digit.
    Double(Vec<Option<f64>>),
    /// True or false.
    Boolean(Vec<bool>),
    /// Moments, in unix seconds.
    Moment(Vec<Option<i64>>),
    /// Lists of text.
    Texts(Vec<Vec<String>>),
}

impl Column {
    /// Ids as they came in: integers where all ids were integers, text otherwise.
    pub fn ids<'a>(id_type: kindred_models::catalogue::IdType, ids: impl Iterator<Item = &'a str> + Clone) -> Self {
        use kindred_models::catalogue::IdType;
        let integers = || ids.clone().map(|id| id.parse().ok()).collect::<Option<Vec<i64>>>();
        match id_type {
            IdType::Integer => integers().map_or_else(|| Self::texts(ids.clone()), Self::Integer),
            IdType::String => Self::texts(ids),
        }
    }

    fn texts<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        Self::Text(values.map(|v| Some(v.to_owned())).collect())
    }

    fn into_array(self) -> ArrayRef {
        match self {
            Self::Text(values) => Arc::new(StringArray::from(values)),
            Self::Integer(values) => Arc::new(Int64Array::from(values)),
            Self::Small(values) => Arc::new(Int32Array::from(values)),
            Self::Float(values) => Arc::new(Float32Array::from(values)),
            Self::Double(values) => Arc::new(Float64Array::from(values)),
            Self::Boolean(values) => Arc::new(BooleanArray::from(values)),
            Self::Moment(values) => {
                let millis = values.into_iter().map(|seconds| seconds.map(|s| s * 1000));
                Arc::new(millis.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
            }
            Self::Texts(lists) => {
                let mut builder = ListBuilder::new(StringBuilder::new());
                lists.into_iter().for_each(|list| builder.append_value(list.into_iter().map(Some)));
                Arc::new(builder.finish())
            }
        }
    }
}

/// Writes a table beside its final place, and renames it there when it is complete.
#[derive(Debug)]
pub struct TableWriter {
    path: PathBuf,
    aside: PathBuf,
    names: Vec<&'static str>,
    writer: Option<ArrowWriter<File>>,
}

impl TableWriter {
    /// Opens a table with these columns.
    ///
    /// # Errors
    /// If the file can't be made, or is not named as what it will be.
    pub fn create(path: &Path, names: &[&'static str]) -> Result<Self, TableError> {
        if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("parquet")) {
            return Err(TableError::OnlyParquet(path.to_owned()));
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".writing");
        let aside = PathBuf::from(aside);
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|e| TableError::io(folder, e))?;
        }
        if path.is_dir() {
            return Err(TableError::io(path, std::io::ErrorKind::IsADirectory.into()));
        }
        // Fails early where the place can't be written to.
        File::create(&aside).map_err(|e| TableError::io(&aside, e))?;
        Ok(Self { path: path.to_owned(), aside, names: names.to_vec(), writer: None })
    }

    /// Appends a batch; the columns in the order of their names, of equal length.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&mut self, columns: Vec<Column>) -> Result<(), TableError> {
        let arrays = columns.into_iter().map(Column::into_array);
        let batch = RecordBatch::try_from_iter_with_nullable(
            self.names.iter().zip(arrays).map(|(name, array)| (*name, array, true)),
        );
        let batch = batch.map_err(|e| TableError::malformed(&self.aside, e))?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let file = File::create(&self.aside).map_err(|e| TableError::io(&self.aside, e))?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(1 << 20))
                    .build();
                let opened = ArrowWriter::try_new(file, batch.schema(), Some(properties));
                none.insert(opened.map_err(|e| unwritten(&self.aside, e))?)
            }
        };
        writer.write(&batch).map_err(|e| unwritten(&self.aside, e))
    }

    /// Completes the table and puts it into place. A table without a batch is not written.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn finish(mut self) -> Result<(), TableError> {
        if let Some(writer) = self.writer.take() {
            let file = writer.into_inner().map_err(|e| unwritten(&self.aside, e))?;
            file.sync_all().map_err(|e| TableError::io(&self.aside, e))?;
            fs::rename(&self.aside, &self.path).map_err(|e| TableError::io(&self.path, e))?;
        }
        Ok(())
    }
}

/// What kept a table from being written, such as a full disk.
fn unwritten(path: &Path, error: ParquetError) -> TableError {
    TableError::io(
        path,
        match error {
            ParquetError::External(cause) => std::io::Error::other(cause),
            error => std::io::Error::other(error),
        },
    )
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        // After `finish` there is nothing; after a failure nothing more can be done.
        let _ = fs::remove_file(&self.aside);
    }
}
