//! Where results live: one durable row per solved sample, under `reports/<run>/`.
//!
//! ```text
//! append ─► journal/<attempt>-000.journal   framed, fsynced before `append` returns; survives kill -9
//! flush  ─► parts/<attempt>-000.parquet     temp + fsync + rename + directory fsync; replaces the journal
//! merge  ─► samples.parquet                 one row per (cell hash, sample id), the same bytes whoever writes it
//! ```
//!
//! Every process attempt writes files of its own, so any number of processes may share a directory without locks (but
//! for the moment in which `run.json` changes); two copies of a shard cost only duplicates, which the merge removes by
//! a fixed rule ([`record::Record::precedence`]).
//! A record is written once, whole, and never edited. All files are reached through [`fs::Fs`], whose fault version
//! ([`fault::FaultFs`]) lets tests fail, cut short or abort every single operation.

pub mod artifacts;
pub mod attempt;
pub mod checkpoint;
mod chunks;
pub mod columns;
pub mod compare;
#[cfg(test)]
pub(crate) mod counted;
pub mod error;
pub mod fault;
pub mod features;
mod fence;
mod float_log;
pub mod frame;
mod frame_reader;
pub mod fs;
pub mod gather;
pub mod handle;
mod index;
pub mod journal;
pub mod layout;
mod leftovers;
mod log;
pub mod merge;
mod names;
pub mod nodes;
pub mod parts;
pub mod record;
pub mod references;
mod rows;
pub mod run_dir;
#[cfg(test)]
pub(crate) mod samples;
mod schema;
pub mod scores;
mod sources;
mod spill;
mod stamp;
mod table;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod watch;
mod winners;
mod x1_key;

pub use error::StoreError;
pub use features::{
    FeatureMerge, FeatureNet, FeatureReader, FeatureRow, FeatureWriter, NetKind, clean_cell, merge_features,
};
pub use fence::Fence;
pub use gather::{Finished, Note};
pub use handle::Store;
pub use layout::Layout;
pub use merge::{Columns, MergeReport, merge, read_samples, visit_samples};
pub use record::{COLUMNS, Key, Record, Status, TracePoint};
pub use references::{ReferenceInfo, cached_reference, read_reference, write_reference};
pub use rows::{CellRows, Rows};
pub use run_dir::{Completeness, Found, Part, RunDir, Start};
pub use schema::columns_markdown;
pub use scores::{
    ScoreMerge, ScoreRow, ScoreSchema, ScoreTable, ScoreWriter, merge_scores, read_scores, scored,
};
pub use telemetry::{
    MeanPower, TELEMETRY_COLUMNS, TelemetryColumn, TelemetryRow, TelemetryWriter, merge_telemetry,
    read_telemetry,
};
pub use verify::{Depth, Verdict, same_as, verify};
pub use watch::{AttemptProgress, CellProgress, RunProgress, Watch};
pub use x1_key::X1Key;
