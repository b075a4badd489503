//! Scores made after a run, joined to its rows.

use super::family;
use crate::spec::metric::{LpipsTrunk, MetricSpec};
use crate::store::{Record, RunDir, StoreError, merge_scores, read_scores};

/// Puts scores into rows that have none of that family. A row's own values stay, unless LPIPS would be of several networks:
/// then the scores' one is taken wherever it is there. LPIPS is of one trunk: the one that the pipeline names, or else the
/// first that was scored.
///
/// # Errors
/// A file of scores that is damaged or of another version.
pub fn fill_from_scores(run_dir: &RunDir, records: &mut [Record]) -> Result<(), StoreError> {
    let (fs, layout) = (&**run_dir.fs(), run_dir.layout());
    for metric in
        [MetricSpec::Psnr, MetricSpec::Ssim].into_iter().chain(trunk(run_dir)?.map(MetricSpec::Lpips))
    {
        let Some(file) = family::file(&metric) else { continue };
        // A damaged table is made again from its parts.
        let read = || read_scores(fs, layout, &file, None);
        let table = match read() {
            Err(_) => merge_scores(fs, layout, &file).and_then(|_| read())?,
            Ok(table) => table,
        };
        let Some(table) = table else { continue };
        let is_mixed = family::is_mixed(&metric, &table.schema, records);
        for record in records.iter_mut() {
            let Some(x1_blake3) = &record.x1_blake3 else { continue };
            let Some(row) = table.get(&record.cell_hash, &record.sample_id, x1_blake3).cloned() else {
                continue;
            };
            let schema = &table.schema;
            if is_mixed {
                family::clear(&metric, record);
            }
            family::fill(&metric, record, (&schema.values, &row.values), &row.lists, &schema.identity);
        }
    }
    Ok(())
}

/// The trunk whose scores stand in the rows.
fn trunk(run_dir: &RunDir) -> Result<Option<LpipsTrunk>, StoreError> {
    let named = run_dir.plan().metrics.iter().find_map(|metric| match metric {
        MetricSpec::Lpips(trunk) => Some(*trunk),
        _ => None,
    });
    if named.is_some() {
        return Ok(named);
    }
    for trunk in LpipsTrunk::ALL {
        let file = family::file(&MetricSpec::Lpips(trunk));
        if let Some(file) = file
            && read_scores(&**run_dir.fs(), run_dir.layout(), &file, None)?.is_some()
        {
            return Ok(Some(trunk));
        }
    }
    Ok(None)
}
