//! Scores made after a run, joined to its rows.

use super::family;
use crate::spec::metric::{LpipsTrunk, MetricSpec};
use crate::store::{Record, RunDir, StoreError, read_scores};

/// Puts scores into rows that have none of that family. A row's own values stay; LPIPS of the trunk that the pipeline
/// names comes before that of another.
///
/// # Errors
/// A file of scores that is damaged or of another version.
pub fn fill_from_scores(run_dir: &RunDir, records: &mut [Record]) -> Result<(), StoreError> {
    let (fs, layout) = (&**run_dir.fs(), run_dir.layout());
    let asked = run_dir.plan().metrics.iter().cloned();
    let others = LpipsTrunk::ALL.map(MetricSpec::Lpips);
    let families = asked.chain([MetricSpec::Psnr, MetricSpec::Ssim]).chain(others);
    for metric in families {
        let Some(file) = family::file(&metric) else { continue };
        let Some(table) = read_scores(fs, layout, &file, None)? else { continue };
        for record in records.iter_mut() {
            let Some(x1_blake3) = &record.x1_blake3 else { continue };
            let Some(row) = table.get(&record.cell_hash, &record.sample_id, x1_blake3).cloned() else {
                continue;
            };
            let schema = &table.schema;
            family::fill(&metric, record, (&schema.values, &row.values), &row.lists, &schema.identity);
        }
    }
    Ok(())
}
