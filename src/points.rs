//! Initial source points from a file: safetensors with one f32 tensor per sample id.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// The points of a file.
pub struct InitialPoints {
    path: PathBuf,
    hash: String,
    points: BTreeMap<String, Vec<f32>>,
}

impl InitialPoints {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no safetensors file, or holds another type than f32.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |what: String| format!("initial points {}: {what}", path.display());
        let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| {
            wrong(format!("{error}; it must be safetensors with one f32 tensor per sample id"))
        })?;
        let mut points = BTreeMap::new();
        for (name, tensor) in file.tensors() {
            if tensor.dtype() != Dtype::F32 {
                return Err(wrong(format!("tensor `{name}` is {:?}; it must be f32", tensor.dtype())));
            }
            let (numbers, _) = tensor.data().as_chunks::<4>();
            points.insert(name, numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
        }
        Ok(Self { path: path.to_owned(), hash: blake3::hash(&bytes).to_hex().to_string(), points })
    }

    /// blake3 of the file, in hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Checks that every sample has a point of finite numbers.
    ///
    /// # Errors
    /// Naming the first sample without one.
    pub fn check(&self, samples: &[String]) -> Result<(), String> {
        samples.iter().try_for_each(|id| {
            let path = self.path.display();
            let finite = self.point(id)?.iter().all(|value| value.is_finite());
            if finite {
                Ok(())
            } else {
                Err(format!("initial points {path}: sample `{id}` has a number that is not finite"))
            }
        })
    }

    /// The point of one sample.
    ///
    /// # Errors
    /// When the file has none.
    pub fn point(&self, id: &str) -> Result<Vec<f32>, String> {
        let path = self.path.display();
        self.points
            .get(id)
            .cloned()
            .ok_or_else(|| format!("initial points {path}: no tensor for sample `{id}`"))
    }
}
