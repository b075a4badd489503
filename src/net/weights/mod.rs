//! Network weights: named f32 tensors read from safetensors or PyTorch zip files, checked against their network.
//!
//! A file is recognised by its content, never by its suffix. No pickle is executed: `pickle` interprets the few
//! opcodes that `torch.save` writes and builds plain data from them. Every error says which file, what is wrong with
//! it and what to do; hostile or damaged files give an error, never a panic, and need memory in proportion to
//! their size.
//!
//! ```no_run
//! # use dflow::net::weights::Weights;
//! let weights = Weights::read("prior.safetensors".as_ref())?;
//! // Missing, extra and misshapen tensors of the whole network come back as one error.
//! weights.check(&[("out.weight".to_owned(), vec![3, 64]), ("out.bias".to_owned(), vec![3])])?;
//! let bias = &weights.get("out.bias").expect("it was checked").values;
//! # Ok::<(), dflow::net::weights::WeightsError>(())
//! ```

mod element;
mod error;
mod pickle;
mod random;
mod safetensors;
mod torch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use element::Element;
pub use error::{Problem, WeightsError};

/// A dense tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Length of every axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values: as many as the product of `shape`. All finite.
    pub values: Vec<f32>,
}

/// The tensors of one weight file, in the order of their names.
#[derive(Debug, Clone)]
pub struct Weights {
    path: PathBuf,
    blake3: String,
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Reads a safetensors file or a zip file of `torch.save`.
    ///
    /// f16, bf16, f64, integers and booleans are converted to f32.
    ///
    /// # Errors
    /// [`WeightsError::Io`], [`WeightsError::Format`] for anything unreadable, [`WeightsError::NotFinite`].
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let bytes =
            std::fs::read(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
        Self::from_bytes(path, &bytes)
    }

    /// As [`Self::read`], from the content of a file; `path` only names it in errors.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, WeightsError> {
        let tensors = parse(bytes).map_err(|fault| fault.at(path))?;
        for (name, tensor) in &tensors {
            if let Some(index) = tensor.values.iter().position(|value| !value.is_finite()) {
                let (tensor, value) = (name.clone(), tensor.values[index]);
                return Err(WeightsError::NotFinite { path: path.to_owned(), tensor, index, value });
            }
        }
        let blake3 = blake3::hash(bytes).to_hex().to_string();
        Ok(Self { path: path.to_owned(), blake3, tensors })
    }

    /// Weights that come from no file: `origin` names them in errors.
    ///
    /// # Panics
    /// Where a tensor has more or fewer values than its shape says.
    pub fn from_tensors(origin: &str, tensors: BTreeMap<String, Tensor>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (name, Tensor { shape, values }) in &tensors {
            assert_eq!(values.len(), shape.iter().product::<usize>(), "values of `{name}`");
            hasher.update(format!("{name} {shape:?}\n").as_bytes());
            for value in values {
                hasher.update(&value.to_le_bytes());
            }
        }
        Self { path: origin.into(), blake3: hasher.finalize().to_hex().to_string(), tensors }
    }

    /// blake3 of the whole file, 64 hexadecimal digits.
    pub fn blake3(&self) -> &str {
        &self.blake3
    }

    /// The file that was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Number of values in all tensors.
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.values.len()).sum()
    }

    /// Keeps the tensors whose names start with `prefix` and removes it from them: `state_dict.`, `module.`.
    #[must_use]
    pub fn strip_prefix(mut self, prefix: &str) -> Self {
        let strip = |(name, tensor): (String, Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor));
        self.tensors = self.tensors.into_iter().filter_map(strip).collect();
        self
    }

    /// Keeps the tensors whose names a network uses.
    #[must_use]
    pub fn retain(mut self, is_used: impl Fn(&str) -> bool) -> Self {
        self.tensors.retain(|name, _| is_used(name));
        self
    }

    /// Checks that these are exactly the tensors of a network, each a name and a shape.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] with every missing, misshapen and extra tensor.
    pub fn check(&self, network: &[(String, Vec<usize>)]) -> Result<(), WeightsError> {
        let mut extra: BTreeMap<_, _> = self.iter().collect();
        let mut problems = Vec::new();
        for (name, wanted) in network {
            match extra.remove(name.as_str()) {
                Some(tensor) if tensor.shape == *wanted => {}
                Some(tensor) => problems.push(Problem::Misshapen {
                    name: name.clone(),
                    wanted: wanted.clone(),
                    found: tensor.shape.clone(),
                }),
                None => problems.push(Problem::Missing {
                    name: name.clone(),
                    shape: wanted.clone(),
                    nearest: error::nearest(name, wanted, &self.tensors),
                }),
            }
        }
        let extra = extra.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.shape.clone()));
        problems.extend(extra.map(|(name, shape)| Problem::Extra { name, shape }));
        if problems.is_empty() {
            Ok(())
        } else {
            Err(WeightsError::Mismatch { path: self.path.clone(), problems })
        }
    }
}

/// What is wrong with the content of a file, before its path is known.
#[derive(Debug)]
struct Fault {
    detail: String,
    remedy: &'static str,
}

impl Fault {
    fn new(detail: impl Into<String>, remedy: &'static str) -> Self {
        Self { detail: detail.into(), remedy }
    }

    /// A file that was once good.
    fn damaged(detail: impl Into<String>) -> Self {
        Self::new(detail, "the file is truncated or damaged: fetch or copy it again")
    }

    fn at(self, path: &Path) -> WeightsError {
        WeightsError::Format { path: path.to_owned(), detail: self.detail, remedy: self.remedy }
    }
}

/// Chooses the reader by the first bytes of the file.
fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Fault> {
    const ACCEPTED: &str = "give a safetensors file, or a file of torch.save(model.state_dict(), …)";
    match bytes {
        [] => Err(Fault::damaged("the file is empty")),
        [b'P', b'K', 3, 4, ..] => torch::read(bytes),
        // Protocol 2 and the pickled magic number of torch.save before torch 1.6.
        [0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, ..] => Err(Fault::new(
            "it has the format that torch.save wrote before torch 1.6 (a bare pickle)",
            "convert it once: python -c \"import torch; torch.save(torch.load('IN.pth', map_location='cpu', \
             weights_only=True), 'OUT.pt')\"",
        )),
        [0x80, 2..=5, ..] => Err(Fault::new("it is a bare pickle, which is never executed here", ACCEPTED)),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Err(Fault::new("it is a NumPy array", ACCEPTED)),
        [0x89, b'H', b'D', b'F', ..] => Err(Fault::new("it is an HDF5 file", ACCEPTED)),
        _ if bytes.starts_with(b"version https://git-lfs") => Err(Fault::new(
            "it is a Git LFS pointer, not the file itself",
            "run `git lfs pull` where it came from, and copy the real file",
        )),
        _ if safetensors::recognise(bytes) => safetensors::read(bytes),
        _ => Err(Fault::new("it is neither a safetensors file nor a PyTorch zip file", ACCEPTED)),
    }
}

#[cfg(test)]
mod tests;
