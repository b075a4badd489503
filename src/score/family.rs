//! The families of metrics that are scores of one reconstruction, and where a row holds them.

use std::collections::BTreeSet;

use super::Scorers;
use crate::metric::image_scores;
use crate::operator::Shape;
use crate::plan::identity::NUMERICS;
use crate::spec::metric::MetricSpec;
use crate::store::{Record, ScoreSchema, Status};

/// One column: its name in a row and in a file of scores.
struct Field {
    name: &'static str,
    get: fn(&Record) -> Option<f64>,
    set: fn(&mut Record, Option<f64>),
}

macro_rules! fields {
    ($($name:ident),*) => {
        [$(Field {
            name: stringify!($name),
            get: |record| record.$name,
            set: |record, value| record.$name = value,
        }),*]
    };
}

const PSNR: [Field; 5] = fields!(mse, psnr, psnr_u8wrap, hole_mse, hole_psnr);
const SSIM: [Field; 4] = fields!(ssim_tm13, ssim_tm19, hole_ssim_tm13, hole_ssim_tm19);
const LPIPS: [Field; 1] = fields!(lpips);

fn fields(metric: &MetricSpec) -> &'static [Field] {
    match metric {
        MetricSpec::Psnr => &PSNR,
        MetricSpec::Ssim => &SSIM,
        MetricSpec::Lpips(_) => &LPIPS,
        MetricSpec::Molecule | MetricSpec::Features(_) => &[],
    }
}

/// The file of a family's scores; `None`: it has none.
pub(super) fn file(metric: &MetricSpec) -> Option<String> {
    match metric {
        MetricSpec::Psnr => Some("psnr".to_owned()),
        MetricSpec::Ssim => Some("ssim".to_owned()),
        MetricSpec::Lpips(trunk) => Some(format!("lpips-{trunk}")),
        MetricSpec::Molecule | MetricSpec::Features(_) => None,
    }
}

/// What a file of a family's scores holds; `None`: it has none, or its weights are not there.
pub(super) fn schema(metric: &MetricSpec, scorers: &Scorers) -> Option<ScoreSchema> {
    let (identity, lists) = match metric {
        MetricSpec::Lpips(_) => (scorers.lpips_network()?, vec!["lpips_layers".to_owned()]),
        _ => (format!("dflow {metric}, numerics {NUMERICS}"), Vec::new()),
    };
    let values = fields(metric).iter().map(|field| field.name.to_owned()).collect();
    Some(ScoreSchema { metric: file(metric)?, identity, values, lists })
}

/// The image metrics of a reconstruction, of the families that are asked for and whose weights are there.
///
/// # Errors
/// A sentence: an image that is too small for LPIPS, or not finite.
pub fn score_image(
    x1: &[f32],
    truth: &[f32],
    shape: Shape,
    hole: Option<&[bool]>,
    (metrics, scorers): (&[MetricSpec], &Scorers),
    record: Record,
) -> Result<Record, String> {
    let scores = image_scores(x1, truth, shape, hole, metrics);
    let lpips = scorers.lpips(x1, truth, shape)?;
    Ok(Record {
        mse: scores.mse,
        psnr: scores.psnr,
        psnr_u8wrap: scores.psnr_u8wrap,
        ssim_tm13: scores.ssim_tm13,
        ssim_tm19: scores.ssim_tm19,
        hole_mse: scores.hole_mse,
        hole_psnr: scores.hole_psnr,
        hole_ssim_tm13: scores.hole_ssim_tm13,
        hole_ssim_tm19: scores.hole_ssim_tm19,
        lpips: lpips.as_ref().map(|lpips| lpips.total),
        lpips_network: lpips.as_ref().map(|lpips| lpips.network.clone()),
        lpips_layers: lpips.map(|lpips| lpips.layers).unwrap_or_default(),
        ..record
    })
}

/// The columns of a family as a scored record has them.
pub(super) fn values(metric: &MetricSpec, scored: &Record) -> (Vec<Option<f64>>, Vec<Vec<f64>>) {
    let lists = match metric {
        MetricSpec::Lpips(_) => vec![scored.lpips_layers.clone()],
        _ => Vec::new(),
    };
    (fields(metric).iter().map(|field| (field.get)(scored)).collect(), lists)
}

/// Whether a row has this family's scores, made by the same definition or weights.
pub(super) fn is_in_row(metric: &MetricSpec, schema: &ScoreSchema, record: &Record) -> bool {
    match metric {
        MetricSpec::Lpips(_) => record.lpips_network.as_deref() == Some(&schema.identity),
        _ => fields(metric).first().is_some_and(|field| (field.get)(record).is_some()),
    }
}

/// Names of the columns in which a row and its scores differ, bit for bit.
pub(super) fn differing(metric: &MetricSpec, record: &Record, values: &[Option<f64>]) -> Vec<&'static str> {
    let differs = |(field, value): &(&Field, &Option<f64>)| {
        (field.get)(record).map(f64::to_bits) != value.map(f64::to_bits)
    };
    fields(metric).iter().zip(values).filter(differs).map(|(field, _)| field.name).collect()
}

/// Whether rows that are filled from these scores would hold those of several networks: some have another one's, and some
/// have none or a third one's.
pub(super) fn is_mixed(metric: &MetricSpec, schema: &ScoreSchema, records: &[Record]) -> bool {
    let ok = || records.iter().filter(|record| record.status == Status::Ok);
    let own: BTreeSet<Option<&str>> = match metric {
        MetricSpec::Lpips(_) => ok().map(|record| record.lpips_network.as_deref()).collect(),
        _ => BTreeSet::new(),
    };
    own.len() > 1 && own.iter().flatten().any(|network| *network != schema.identity)
}

/// Removes a row's scores of this family.
pub(super) fn clear(metric: &MetricSpec, record: &mut Record) {
    fields(metric).iter().for_each(|field| (field.set)(record, None));
}

/// Puts scores into a row that has none of this family.
pub(super) fn fill(
    metric: &MetricSpec,
    record: &mut Record,
    (columns, values): (&[String], &[Option<f64>]),
    lists: &[Vec<f64>],
    identity: &str,
) {
    let own = fields(metric);
    if own.iter().any(|field| (field.get)(record).is_some()) {
        return;
    }
    for (column, value) in columns.iter().zip(values) {
        if let Some(field) = own.iter().find(|field| field.name == column) {
            (field.set)(record, *value);
        }
    }
    if let MetricSpec::Lpips(_) = metric {
        record.lpips_network = Some(identity.to_owned());
        record.lpips_layers = lists.first().cloned().unwrap_or_default();
    }
}
