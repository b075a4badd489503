//! SVG to PNG with fonts of the program's own: the same picture on every machine, also on one without fonts.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{FontResolver, Options, Tree, fontdb};

use super::PlotError;

/// Ubuntu Light, and Hack for the few signs that it lacks (↑ ↓ → ∇). No font of the system.
static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    for font in [epaint_default_fonts::UBUNTU_LIGHT, epaint_default_fonts::HACK_REGULAR] {
        fonts.load_font_data(font.to_vec());
    }
    let first = fonts.faces().next().and_then(|face| face.families.first());
    if let Some((family, _)) = first.cloned() {
        fonts.set_sans_serif_family(family);
    }
    Arc::new(fonts)
});

/// Longest side of a bitmap in pixels; a larger one is made smaller.
const LARGEST: f32 = 16_000.0;

/// The document as a PNG of `scale` pixels per px (at most 16,000 pixels a side).
///
/// # Errors
/// When the text is no SVG, or empty.
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>, PlotError> {
    let failed = |error: String| PlotError::Raster(error);
    // Signs that the first font lacks stand in spans of the second: no other font is to be chosen for a whole text.
    let font_resolver = FontResolver { select_fallback: Box::new(|_, _, _| None), ..FontResolver::default() };
    let options = Options { fontdb: Arc::clone(&FONTS), font_resolver, ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let size = tree.size();
    let scale = scale.min(LARGEST / size.width().max(size.height()));
    let side = |length: f32| (length * scale).round().max(1.0) as u32;
    let mut bitmap = Pixmap::new(side(size.width()), side(size.height()))
        .ok_or_else(|| failed("a side of the figure is no length".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut bitmap.as_mut());
    bitmap.encode_png().map_err(|error| failed(error.to_string()))
}
