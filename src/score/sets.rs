//! stub
use std::path::PathBuf;
/// stub
pub struct SetOptions {
    /// s
    pub bootstrap: Option<u32>,
    /// s
    pub reference: Option<PathBuf>,
}
/// stub
pub fn columns(_: &crate::store::RunDir, _: &SetOptions) -> Result<Vec<crate::report::SetColumn>, String> {
    Ok(Vec::new())
}
