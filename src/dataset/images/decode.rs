//! Encoded pictures to bytes: JPEG and PNG, with bounds on what a file may make this program allocate.
//!
//! Where three channels are wanted, a picture of any kind becomes RGB:
//! - grey: the value three times; palettes: their colours;
//! - 16 bits: the high byte of each value (as Pillow reads 16-bit RGB; a 16-bit grey one too, which Pillow would clip);
//! - alpha: dropped, not composited (Pillow's `convert("RGB")`);
//! - CMYK and YCCK JPEG: inverted values as Adobe writes them, R = C·K / 255 of the stored bytes.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::jpeg;
use super::pixels::Pixels;

/// Most pixels of a picture: Pillow warns of a decompression bomb above as many. (The largest of ImageNet: 43 million.)
const MAX_PIXELS: u64 = 89_478_485;

/// Most bytes that a decoder may allocate: [`MAX_PIXELS`] of four 16-bit values would not fit, eight bits do.
const MAX_ALLOCATION: u64 = 512 << 20;

/// Decodes a picture to `channels` bytes per pixel; the reason if it cannot be.
///
/// Three channels take every picture; of other numbers only pictures with just so many 8-bit channels are taken.
pub(in crate::dataset) fn decode(bytes: &[u8], channels: usize) -> Result<Pixels, String> {
    let image = dynamic(bytes)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let found = usize::from(image.color().channel_count());
    let bytes = if channels == 3 {
        rgb(image)
    } else if found != channels || usize::from(image.color().bits_per_pixel()) != 8 * channels {
        // The shape says what is wrong with it.
        image.into_bytes().into_iter().take(width * height * found).collect()
    } else {
        image.into_bytes()
    };
    let channels = if channels == 3 { 3 } else { found };
    Ok(Pixels { width, height, channels, bytes })
}

fn dynamic(bytes: &[u8]) -> Result<DynamicImage, String> {
    let broken = |error: image::ImageError| format!("the image cannot be decoded: {error}");
    let format = image::guess_format(bytes)
        .ok()
        .filter(|format| matches!(format, ImageFormat::Jpeg | ImageFormat::Png))
        .ok_or("the image cannot be decoded: it is neither a JPEG nor a PNG")?;
    if format == ImageFormat::Jpeg {
        jpeg::check_complete(bytes)?;
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!(
            "the image says that it has {height}×{width} pixels: more than {MAX_PIXELS} are taken for a \
             decompression bomb"
        ));
    }
    DynamicImage::from_decoder(decoder).map_err(broken)
}

fn rgb(image: DynamicImage) -> Vec<u8> {
    let high = |value: u16| (value >> 8) as u8;
    match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageRgba8(image) => image.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect(),
        DynamicImage::ImageLuma8(image) => image.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
        DynamicImage::ImageLumaA8(image) => image.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
        DynamicImage::ImageLuma16(image) => image.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => image.pixels().flat_map(|p| [high(p.0[0]); 3]).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|p| [high(p.0[0]), high(p.0[1]), high(p.0[2])]).collect()
        }
        DynamicImage::ImageRgb16(image) => image.into_raw().into_iter().map(high).collect(),
        other => other.into_rgb8().into_raw(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        name: String,
        /// The encoded file in hex.
        file: String,
        /// What Pillow decodes, as RGB.
        rgb: String,
        /// Largest difference of a value that is allowed.
        tolerance: u8,
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..][..2], 16).unwrap()).collect()
    }

    fn golden() -> Vec<Golden> {
        serde_json::from_str(include_str!("../../../tests/golden/images/decode.json")).unwrap()
    }

    #[test]
    fn every_kind_of_picture_becomes_the_rgb_of_pillow() {
        let golden = golden();
        assert!(golden.len() >= 10);
        for Golden { name, file, rgb, tolerance } in golden {
            let ours = decode(&bytes(&file), 3).unwrap_or_else(|e| panic!("{name}: {e}"));
            let theirs = bytes(&rgb);
            assert_eq!(ours.bytes.len(), theirs.len(), "{name}");
            let worst = ours.bytes.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            // PNG exactly; JPEG decoders may round the inverse DCT and the colour conversion otherwise.
            assert!(worst <= tolerance, "{name}: {worst}");
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_wherever_it_ends() {
        for Golden { name, file, .. } in golden() {
            let whole = bytes(&file);
            // The last 12 bytes of a PNG only say that it has ended.
            let last = if name.starts_with("png") { 13 } else { 1 };
            for end in [whole.len() - last, whole.len() - 20, whole.len() / 2, 30, 9] {
                assert!(decode(&whole[..end], 3).is_err(), "{name} cut at {end}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        // A PNG that says 60,000 × 60,000 and has no pixels.
        let mut png = Vec::new();
        image::RgbImage::new(1, 1).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        let crc = crc32fast::hash(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = decode(&png, 3).unwrap_err();
        assert!(error.contains("bomb") || error.contains("limit"), "{error}");
    }

    #[test]
    fn other_files_say_so() {
        assert!(decode(b"GIF89a", 3).unwrap_err().contains("neither a JPEG nor a PNG"));
        assert!(decode(b"", 3).unwrap_err().contains("neither a JPEG"));
    }
}
