//! Reading safetensors files (format version 0.4 and later, crate `safetensors`).

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use super::{Element, Fault, Tensor};

/// Whether the file starts like safetensors: the header's length (8 bytes), then its JSON.
pub(super) fn recognise(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

/// All tensors of a safetensors file.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Fault> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| Fault::damaged(format!("it is no valid safetensors file ({error})")))?;
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let element = element(name, view.dtype())?;
        Ok((name.to_owned(), Tensor { shape: view.shape().to_vec(), values: element.to_f32(view.data()) }))
    };
    file.iter().map(tensor).collect()
}

fn element(name: &str, dtype: Dtype) -> Result<Element, Fault> {
    Ok(match dtype {
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        Dtype::BOOL => Element::Bool,
        Dtype::U8 => Element::U8,
        Dtype::I8 => Element::I8,
        Dtype::I16 => Element::I16,
        Dtype::I32 => Element::I32,
        Dtype::I64 => Element::I64,
        other => {
            return Err(Fault::new(
                format!("tensor `{name}` has the element type {other}, which is not supported"),
                "save it as float32 or float16",
            ));
        }
    })
}
