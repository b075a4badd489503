//! Writes the training and test images of a dataset as NumPy arrays: `export_mini FOLDER [NAME [DATA]]`.
//!
//! Of procedural images the first 40,000 are written, more than the training split of the description holds.

use std::path::{Path, PathBuf};

use dflow::dataset::{Description, Layout, Split, export_npy};

/// Training images of a procedural prior.
const TRAINING_IMAGES: u64 = 40_000;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "mini-images".to_owned()));
    let name = arguments.next().unwrap_or_else(|| "mini-images".to_owned());
    let data = arguments.next();
    std::fs::create_dir_all(&folder)?;
    let mut description = Description::load(&name)?;
    if let Layout::Procedural(layout) = &mut description.layout {
        layout.train = TRAINING_IMAGES;
    }
    for split in [Split::Train, Split::Test] {
        let dataset = description.open(split, data.as_deref().map(Path::new))?;
        export_npy(dataset.as_ref(), split, &folder)?;
    }
    Ok(())
}
