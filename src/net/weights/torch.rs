//! Reading the zip files that `torch.save` writes since torch 1.6.
//!
//! Layout (`<root>` is any folder name): `<root>/data.pkl` names the tensors and their storages,
//! `<root>/data/<key>` holds the bytes of one storage, `<root>/byteorder` says `little` or `big`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Id, Node, Pickle, TensorRef};
use super::{Element, Fault, Tensor};

/// The pickle only names tensors: a public 128×128 UNet (493 tensors) needs 60 kB.
const MAX_PICKLE_BYTES: u64 = 1 << 26;

/// Dictionaries inside dictionaries: `checkpoint["ema"]["state_dict"]["weight"]` has three levels.
const MAX_DEPTH: usize = 8;

const RE_SAVE: &str = "save only the tensors: torch.save(model.state_dict(), 'OUT.pt')";

/// All tensors of a zip file; names of nested dictionaries are joined by dots.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Fault> {
    let mut archive = Archive::open(bytes)?;
    let pickle = pickle::parse(&archive.entry("data.pkl", MAX_PICKLE_BYTES)?)
        .map_err(|detail| Fault::new(format!("its data.pkl cannot be read: {detail}"), RE_SAVE))?;
    let named = Walk::over(&pickle)?;
    // Every tensor may look at a part of one storage: bound what a hostile file can make of few bytes.
    let mut budget = 4 * bytes.len() as u64 + 4096;
    named
        .into_iter()
        .map(|(name, tensor)| {
            let values = gather(&mut archive, tensor, &mut budget).map_err(|fault| Fault {
                detail: format!("tensor `{name}`: {}", fault.detail),
                remedy: fault.remedy,
            })?;
            Ok((name, Tensor { shape: tensor.shape.clone(), values }))
        })
        .collect()
}

/// A zip archive whose entries are read by their name below the root folder.
struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    root: String,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|error| Fault::damaged(format!("it is no valid zip file ({error})")))?;
        let names: Vec<String> = zip.file_names().flatten().map(std::borrow::Cow::into_owned).collect();
        if names.iter().any(|name| name.ends_with("/constants.pkl")) {
            return Err(Fault::new("it is a TorchScript program, not weights", RE_SAVE));
        }
        let is_root = |root: &&str| root.is_empty() || root.ends_with('/');
        let root = names.iter().filter_map(|name| name.strip_suffix("data.pkl")).find(is_root);
        let root = root
            .ok_or_else(|| Fault::new("it is a zip file without data.pkl: not from torch.save", RE_SAVE))?;
        let mut archive = Self { zip, root: root.to_owned() };
        if names.contains(&format!("{root}byteorder")) && archive.entry("byteorder", 16)? != b"little" {
            return Err(Fault::new("its numbers are big-endian", "save it on a little-endian machine"));
        }
        Ok(archive)
    }

    /// The bytes of an entry; its CRC-32 is checked.
    fn entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, Fault> {
        let path = format!("{}{name}", self.root);
        let damaged = |error: &dyn std::fmt::Display| Fault::damaged(format!("zip entry {path}: {error}"));
        let mut entry = self.zip.by_name(&path).map_err(|error| damaged(&error))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(Fault::new(
                format!("zip entry {path} is compressed, torch.save never does"),
                RE_SAVE,
            ));
        }
        if entry.size() > limit {
            return Err(damaged(&format_args!("{} bytes, where {limit} are expected", entry.size())));
        }
        let mut bytes = Vec::new();
        // One byte more than allowed, so that the size in the directory need not be believed.
        (&mut entry).take(limit + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
        if bytes.len() as u64 > limit {
            return Err(damaged(&format_args!("more than the {limit} bytes that are expected")));
        }
        Ok(bytes)
    }
}

/// The values of one tensor, row-major whatever its strides.
fn gather(archive: &mut Archive<'_>, tensor: &TensorRef, budget: &mut u64) -> Result<Vec<f32>, Fault> {
    let element = storage_element(&tensor.storage.class)?;
    let bytes = tensor.storage.len.checked_mul(element.size());
    let (count, last) = extent(tensor).ok_or_else(|| Fault::damaged("its size overflows"))?;
    let spent = bytes.and_then(|bytes| (bytes as u64).checked_add(4 * count as u64));
    *budget = spent
        .and_then(|spent| budget.checked_sub(spent))
        .ok_or_else(|| Fault::damaged("its pickle names more data than the file holds"))?;
    if count > 0 && last >= tensor.storage.len {
        return Err(Fault::damaged(format!(
            "it reaches to element {last} of a storage of {} elements",
            tensor.storage.len
        )));
    }
    let wanted = bytes.expect("checked with the budget");
    let stored = archive.entry(&format!("data/{}", tensor.storage.key), wanted as u64)?;
    if stored.len() != wanted {
        return Err(Fault::damaged(format!("{} bytes of data, where {wanted} are expected", stored.len())));
    }
    let flat = element.to_f32(&stored);
    Ok(if count == 0 {
        Vec::new()
    } else if tensor.is_contiguous() {
        flat[tensor.offset..tensor.offset + count].to_vec()
    } else {
        indices(tensor, count).map(|index| flat[index]).collect()
    })
}

/// Number of elements, and the highest storage index that is touched (`offset` if there is none).
fn extent(tensor: &TensorRef) -> Option<(usize, usize)> {
    let mut count = 1_usize;
    let mut last = tensor.offset;
    for (&length, &stride) in tensor.shape.iter().zip(&tensor.stride) {
        count = count.checked_mul(length)?;
        last = last.checked_add(length.saturating_sub(1).checked_mul(stride)?)?;
    }
    // Four bytes a value must be countable too.
    count.checked_mul(4)?;
    Some((count, last))
}

/// Storage indices of the elements in row-major order.
fn indices(tensor: &TensorRef, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(|mut flat| {
        let mut index = tensor.offset;
        for (&length, &stride) in tensor.shape.iter().zip(&tensor.stride).rev() {
            index += flat % length * stride;
            flat /= length;
        }
        index
    })
}

fn storage_element(class: &str) -> Result<Element, Fault> {
    Ok(match class {
        "torch.HalfStorage" => Element::F16,
        "torch.BFloat16Storage" => Element::Bf16,
        "torch.FloatStorage" => Element::F32,
        "torch.DoubleStorage" => Element::F64,
        "torch.BoolStorage" => Element::Bool,
        "torch.ByteStorage" => Element::U8,
        "torch.CharStorage" => Element::I8,
        "torch.ShortStorage" => Element::I16,
        "torch.IntStorage" => Element::I32,
        "torch.LongStorage" => Element::I64,
        other => return Err(Fault::new(format!("storage type {other} is not supported"), RE_SAVE)),
    })
}

/// Collects the tensors of nested dictionaries, each node once.
struct Walk<'a> {
    pickle: &'a Pickle,
    seen: BTreeSet<Id>,
    found: BTreeMap<String, &'a TensorRef>,
}

impl<'a> Walk<'a> {
    fn over(pickle: &'a Pickle) -> Result<BTreeMap<String, &'a TensorRef>, Fault> {
        let mut walk = Self { pickle, seen: BTreeSet::new(), found: BTreeMap::new() };
        walk.visit(pickle.root, "", 0)?;
        if walk.found.is_empty() {
            let classes = pickle.classes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let detail = format!("it holds no dictionary of tensors (classes in it: {classes})");
            return Err(Fault::new(detail, RE_SAVE));
        }
        Ok(walk.found)
    }

    fn visit(&mut self, id: Id, prefix: &str, depth: usize) -> Result<(), Fault> {
        let pickle = self.pickle;
        let Node::Dict(entries) = &pickle.nodes[id] else { return Ok(()) };
        if depth == MAX_DEPTH || !self.seen.insert(id) {
            return Err(Fault::new("its dictionaries are nested too deeply, or in themselves", RE_SAVE));
        }
        for &(key, value) in entries {
            let Node::Text(key) = &pickle.nodes[key] else { continue };
            match &pickle.nodes[value] {
                Node::Dict(_) => self.visit(value, &format!("{prefix}{key}."), depth + 1)?,
                Node::Tensor(tensor) => self.insert(format!("{prefix}{key}"), tensor)?,
                // Epoch numbers, arguments and the like.
                _ => {}
            }
        }
        Ok(())
    }

    fn insert(&mut self, name: String, tensor: &'a TensorRef) -> Result<(), Fault> {
        match self.found.insert(name, tensor) {
            None => Ok(()),
            Some(_) => Err(Fault::new("it names a tensor twice", RE_SAVE)),
        }
    }
}
