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

    /// Checks that every sample has a point of finite numbers, `dim` of them where all samples have as many.
    ///
    /// # Errors
    /// Naming the first sample without one.
    pub fn check(&self, samples: &[String], dim: Option<usize>) -> Result<(), String> {
        samples.iter().try_for_each(|id| {
            let point = self.point(id)?;
            let wrong =
                |what: String| format!("initial points {}: sample `{id}` {what}", self.path.display());
            if let Some(dim) = dim
                && point.len() != dim
            {
                return Err(wrong(format!("has {} numbers, the images have {dim}", point.len())));
            }
            if !point.iter().all(|value| value.is_finite()) {
                return Err(wrong("has a number that is not finite".to_owned()));
            }
            Ok(())
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

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn file(folder: &Path, values: &[f32]) -> PathBuf {
        let path = folder.join("points.safetensors");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![values.len()], &bytes).unwrap();
        std::fs::write(&path, safetensors::serialize([("a", view)], None).unwrap()).unwrap();
        path
    }

    #[test]
    fn every_sample_needs_a_point_of_the_images_size() {
        let folder = tempfile::tempdir().unwrap();
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let points = InitialPoints::read(&file(folder.path(), &[0.5, -1.0])).unwrap();
        assert_eq!(points.point("a"), Ok(vec![0.5, -1.0]));
        assert_eq!(points.check(&ids(&["a"]), Some(2)), Ok(()));
        assert!(
            points.check(&ids(&["a"]), Some(3)).unwrap_err().contains("`a` has 2 numbers, the images have 3")
        );
        assert!(points.check(&ids(&["a", "b"]), Some(2)).unwrap_err().contains("no tensor for sample `b`"));
        let spoiled = InitialPoints::read(&file(folder.path(), &[f32::NAN, 0.0])).unwrap();
        assert!(spoiled.check(&ids(&["a"]), Some(2)).unwrap_err().contains("not finite"));
        std::fs::write(folder.path().join("text"), "no tensors").unwrap();
        let text = InitialPoints::read(&folder.path().join("text")).err().unwrap();
        assert!(text.contains("it must be safetensors"), "{text}");
    }
}
