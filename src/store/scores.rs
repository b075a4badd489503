//! stub
/// stub
pub fn fill_from_scores(
    _: &dyn super::fs::Fs,
    _: &super::layout::Layout,
    _: &mut [super::Record],
) -> Result<(), super::StoreError> {
    Ok(())
}
