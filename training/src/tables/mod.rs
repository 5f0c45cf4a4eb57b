//! Tables on disk: rows from Parquet, CSV or NDJSON in, Parquet out.
//!
//! A table is a file, a folder of files, or a glob. Its rows come as [`Cell`]s, whatever the format, each
//! with its place (file and row), so that a row that can't be used is named.

mod cell;
mod csv;
mod ndjson;
mod parquet;
mod rejects;
mod source;
mod time;
mod writer;

use std::path::PathBuf;

pub use cell::{Cell, IdKind};
pub use rejects::{Reason, Rejects};
pub use source::{Row, TableFile, table_files};
pub use time::TimeUnit;
pub(crate) use time::parse_date;
pub use writer::{Column, TableWriter};

/// Why a table can't be read or written. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Neither a file, nor a folder with tables, nor a glob that finds any.
    #[error("{0}: no such table; give a file, a folder, or a glob of .parquet, .csv, .tsv, .ndjson or .jsonl files")]
    NotFound(String),
    /// A file of what a server kept.
    #[error("{}: not there; data.state and --state name a folder that `kindred state export` wrote", .0.display())]
    NoExport(PathBuf),
    /// A file whose name does not tell its format.
    #[error("{}: can't tell its format; name it .parquet, .csv, .tsv, .ndjson or .jsonl", .0.display())]
    UnknownFormat(PathBuf),
    /// A table to write whose name says another format.
    #[error("{}: tables are written as Parquet; name it .parquet", .0.display())]
    OnlyParquet(PathBuf),
    /// A folder in a folder of tables.
    #[error("{}: a folder in a folder of tables; name all files by a glob, such as FOLDER/**/*.parquet", .0.display())]
    Subfolder(PathBuf),
    /// A file that is not what its name says.
    #[error("{path}: {what}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A column that is needed, or that the config names, is not there.
    #[error(
        "{path}: no column '{column}' for {ours}; the file has: {present}. Map it in the config: columns = {{ {ours} = \"…\" }}",
        path = path.display()
    )]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column looked for.
        column: String,
        /// Kindred's name for it.
        ours: String,
        /// The columns that are there.
        present: String,
    },
    /// A column is of a type that can't be what it should be.
    #[error("{path}: column '{column}': {what}", path = path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is wrong with its type, and what to do.
        what: String,
    },
    /// Too many rows can't be used.
    #[error(
        "{table}: {bad} of {total} rows can't be used, more than the {share:.3}% that data.max_bad_row_share allows; nothing was done\n{rejects}",
        share = max_share * 100.0
    )]
    TooManyBadRows {
        /// The table.
        table: String,
        /// Rows rejected.
        bad: u64,
        /// Rows read.
        total: u64,
        /// The limit, 0 to 1.
        max_share: f64,
        /// What was wrong with them.
        rejects: Box<Rejects>,
    },
    /// A table without a single usable row.
    #[error("{0}: no usable rows")]
    Empty(String),
    /// A table of others than those whom events name.
    #[error(
        "{table}: none of the {named} that events name is among the {listed} of the table; are ids written alike, \
         and not 0042 in one and 42 in the other?"
    )]
    Unjoined {
        /// The table.
        table: &'static str,
        /// How many events name.
        named: usize,
        /// How many the table has.
        listed: usize,
    },
    /// Events, none of which is a purchase.
    #[error("{0}: no purchase among its events; is the column kind mapped to the right one?")]
    NoPurchase(String),
    /// Events of some days are wanted, and they have no time.
    #[error("events have no time (data.events.time_unit is \"none\"): leave out --since, or give a table with times")]
    NoTimes,
}

impl TableError {
    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &std::path::Path, what: impl std::fmt::Display) -> Self {
        Self::Malformed { path: path.to_owned(), what: what.to_string() }
    }
}
