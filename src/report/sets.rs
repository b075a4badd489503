//! Columns of distances between sets of images: FID, FD(mini), FD(cifar10), and the kernel distance beside them.

use std::collections::BTreeMap;

use super::table::{Cell, Column, Kind};
use crate::plan;

/// The distances of every cell by one network's features.
#[derive(Debug, Clone, PartialEq)]
pub struct SetColumn {
    /// Name in CSV and JSON: `fid`, `fd_mini`.
    pub key: String,
    /// Name for people: `FID`, `FD(mini)`.
    pub display: String,
    /// Whether it is the Inception network of FID, in any preparation of images; the paper's value stands beside `FID`.
    pub is_fid: bool,
    /// Numbers in a feature vector; 0: the network's weights were not there.
    pub dims: usize,
    /// Clean images of the reference; unknown for statistics of other programs.
    pub reference_n: Option<usize>,
    /// What the reference is, in words; without weights, what fills the column.
    pub reference: String,
    /// By cell hash; a text says why a cell has none.
    pub scores: BTreeMap<String, Result<SetScore, String>>,
}

/// The distances of one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SetScore {
    /// Fréchet distance of two Gaussians fitted to the features.
    pub frechet: f64,
    /// Its standard deviation over bootstrap samples of the rows.
    pub bootstrap: Option<f64>,
    /// Kernel distance: mean over its subsets, and their standard deviation if there are several.
    pub kernel: Option<(f64, Option<f64>)>,
    /// Images.
    pub n: usize,
}

impl SetColumn {
    /// Reconstructions of a cell that were measured.
    pub(super) fn n(&self, cell: &plan::Cell) -> usize {
        self.scores
            .get(&cell.hash.to_string())
            .and_then(|score| score.as_ref().ok())
            .map_or(0, |score| score.n)
    }

    /// The distance of a cell.
    pub(super) fn cell(&self, cell: &plan::Cell) -> Cell {
        match self.scores.get(&cell.hash.to_string()) {
            None => Cell::Missing,
            Some(Err(reason)) => Cell::text(reason),
            Some(Ok(score)) => {
                Cell::Mean { value: score.frechet, error: score.bootstrap, digits: 2, lower_bound: false }
            }
        }
    }

    /// Whether some cell has a kernel distance.
    pub(super) fn has_kernel(&self) -> bool {
        self.scores.values().flatten().any(|score| score.kernel.is_some())
    }

    /// Heading of the kernel distance.
    pub(super) fn kernel_column(&self) -> Column {
        let key =
            if self.is_fid { self.key.replacen("fid", "kid", 1) } else { self.key.replacen("fd", "kd", 1) };
        Column::new(key, format!("{} ×1000 ↓", self.kernel_name()), Kind::Mean)
    }

    /// The kernel distance of a cell.
    pub(super) fn kernel_cell(&self, cell: &plan::Cell) -> Cell {
        let kernel = self.scores.get(&cell.hash.to_string()).and_then(|score| score.as_ref().ok()?.kernel);
        let scaled = |(mean, deviation): (f64, Option<f64>)| Cell::Mean {
            value: 1000.0 * mean,
            error: deviation.map(|deviation| 1000.0 * deviation),
            digits: 2,
            lower_bound: false,
        };
        kernel.map_or(Cell::Missing, scaled)
    }

    fn kernel_name(&self) -> String {
        if self.is_fid {
            self.display.replacen("FID", "KID", 1)
        } else {
            self.display.replacen("FD", "KD", 1)
        }
    }

    /// What the kernel distance is.
    pub(super) fn kernel_note(&self) -> String {
        format!(
            "{}: unbiased MMD² of the kernel (x·y/{} + 1)³, ± standard deviation over 100 subsets of 1,000 where n allows.",
            self.kernel_name(),
            self.dims
        )
    }

    /// What the distance is, and where it means nothing.
    pub(super) fn notes(&self) -> Vec<String> {
        let Self { display, dims, reference_n, .. } = self;
        let counts = self.scores.values().filter_map(|score| Some(score.as_ref().ok()?.n));
        let (least, most) = counts.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
        let mut notes = Vec::new();
        if *dims == 0 {
            notes.push(format!("{display}: its weights were not there (`dflow model check`), or its features were removed; {} fills the column.", self.reference));
        }
        if most == 0 {
            return notes;
        }
        let n = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let bootstrapped = self.scores.values().flatten().any(|score| score.bootstrap.is_some());
        let error = if bootstrapped { "; ± bootstrap standard deviation" } else { "" };
        let kind = if self.is_fid { "" } else { " of a small classifier: no FID" };
        let of = reference_n.map_or_else(String::new, |n| format!("{n} "));
        notes.push(format!(
            "{display}: Fréchet distance of {dims} features{kind}, n = {n} reconstructions against {of}{}{error}.",
            self.reference
        ));
        if least.min(reference_n.unwrap_or(usize::MAX)) < 2 * dims {
            notes.push(format!(
                "WARNING: {display} over n < {} images (twice its {dims} features) is mostly bias: compare methods at \
                 equal n only, and with no printed value.",
                2 * dims
            ));
        }
        notes
    }
}
