//! What the commands that take a pipeline share: reading it, its options, and the plan.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{CliError, Global};
use crate::catalog::{Catalog, Outline};
use crate::plan::{Plan, Shard};
use crate::spec::device::DeviceList;
use crate::spec::document::Document;

/// A pipeline file and what the command line replaces in it.
#[derive(Debug, Args)]
pub(super) struct PipelineArgs {
    /// Pipeline file.
    pipeline: PathBuf,
    /// Use the first N samples of the dataset.
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    limit: Option<u64>,
    /// Devices: auto, cpu, cpu:2 (two workers), cpu:2x1 (two workers of one thread, pinned), cuda:0,cuda:1.
    #[arg(long, value_name = "LIST")]
    pub(super) devices: Option<DeviceList>,
    /// The run directory.
    #[arg(long, value_name = "DIR", value_parser = NonEmptyStringValueParser::new())]
    output: Option<String>,
    /// Replace one value of the file, such as `tasks[0].noise=0.1`; may be given again.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Part M of N equal parts of the samples, such as 1/4.
    #[arg(long, value_name = "M/N")]
    pub(super) shard: Option<Shard>,
}

fn parse_limit(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "write a number of samples ≥ 1".to_owned())
}

/// A pipeline ready to run.
pub(super) struct Resolved {
    pub(super) document: Document,
    pub(super) catalog: Catalog,
    pub(super) plan: Plan,
    pub(super) shard: Shard,
}

impl PipelineArgs {
    /// Reads the file, applies the options, and resolves the plan; every error of a stage is reported together.
    pub(super) fn resolve(&self, global: &Global) -> Result<Resolved, CliError> {
        let document = self.read()?;
        let catalog = Catalog::new(global.home.as_deref(), global.data.as_deref());
        let plan = Plan::resolve(&document, &catalog).map_err(CliError::usage)?;
        Ok(Resolved { document, catalog, plan, shard: self.shard.unwrap_or(Shard::WHOLE) })
    }

    /// As [`Self::resolve`] by what files say of data and weights that are not here, with what was taken from them: a plan
    /// to be counted, not run.
    pub(super) fn outline(&self, global: &Global) -> Result<(Plan, Shard, Vec<String>), CliError> {
        let catalog = Catalog::new(global.home.as_deref(), global.data.as_deref());
        let outline = Outline::new(&catalog);
        let plan = Plan::resolve(&self.read()?, &outline).map_err(CliError::usage)?;
        Ok((plan, self.shard.unwrap_or(Shard::WHOLE), outline.described()))
    }

    /// Reads the file and applies the options.
    fn read(&self) -> Result<Document, CliError> {
        let mut document = Document::read(&self.pipeline).map_err(CliError::usage)?;
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let own = [
            self.limit.map(|limit| format!("dataset.limit={limit}")),
            self.devices.as_ref().map(|devices| format!("devices={}", quoted(&devices.to_string()))),
            self.output.as_ref().map(|output| format!("output={}", quoted(output))),
        ];
        for set in self.sets.iter().chain(own.iter().flatten()) {
            document.set(set).map_err(CliError::usage)?;
        }
        Ok(document)
    }
}
