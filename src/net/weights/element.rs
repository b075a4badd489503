//! The element types of weight files and their conversion to f32.

use half::{bf16, f16};

/// An element type that can be converted to f32; all are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision, rounded to f32.
    F64,
    /// One byte, zero or not.
    Bool,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// 16-bit integer.
    I16,
    /// 32-bit integer, rounded to f32.
    I32,
    /// 64-bit integer, rounded to f32.
    I64,
}

impl Element {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// The elements in `bytes`, whose length is a multiple of [`Self::size`].
    pub fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F16 => convert(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => convert(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F32 => convert(bytes, f32::from_le_bytes),
            Self::F64 => convert(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::Bool => convert(bytes, |[b]: [u8; 1]| f32::from(b != 0)),
            Self::U8 => convert(bytes, |[b]: [u8; 1]| f32::from(b)),
            Self::I8 => convert(bytes, |b| f32::from(i8::from_le_bytes(b))),
            Self::I16 => convert(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Self::I32 => convert(bytes, |b| i32::from_le_bytes(b) as f32),
            Self::I64 => convert(bytes, |b| i64::from_le_bytes(b) as f32),
        }
    }
}

fn convert<const N: usize>(bytes: &[u8], element: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|&bytes| element(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_is_converted() {
        assert_eq!(Element::F16.to_f32(&f16::from_f32(-1.5).to_le_bytes()), [-1.5]);
        assert_eq!(Element::Bf16.to_f32(&bf16::from_f32(3.0).to_le_bytes()), [3.0]);
        assert_eq!(Element::F32.to_f32(&0.1f32.to_le_bytes()), [0.1]);
        assert_eq!(Element::F64.to_f32(&0.1f64.to_le_bytes()), [0.1]);
        assert_eq!(Element::Bool.to_f32(&[0, 1, 7]), [0.0, 1.0, 1.0]);
        assert_eq!(Element::U8.to_f32(&[255]), [255.0]);
        assert_eq!(Element::I8.to_f32(&[255]), [-1.0]);
        assert_eq!(Element::I16.to_f32(&(-300i16).to_le_bytes()), [-300.0]);
        assert_eq!(Element::I32.to_f32(&70_000i32.to_le_bytes()), [70_000.0]);
        assert_eq!(Element::I64.to_f32(&(-5i64).to_le_bytes()), [-5.0]);
    }
}
