//! Writes the training and test images of a dataset as NumPy arrays: `export_mini FOLDER [NAME [DATA]]`.

use std::path::{Path, PathBuf};

use dflow::dataset::{Description, Split, export_npy};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "mini-images".to_owned()));
    let name = arguments.next().unwrap_or_else(|| "mini-images".to_owned());
    let data = arguments.next();
    std::fs::create_dir_all(&folder)?;
    let description = Description::load(&name)?;
    for split in [Split::Train, Split::Test] {
        let dataset = description.open(split, data.as_deref().map(Path::new))?;
        export_npy(dataset.as_ref(), split, &folder)?;
    }
    Ok(())
}
