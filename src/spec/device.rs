//! Devices as a user names them: `auto`, `cpu`, `cpu:2`, `cpu:2x1`, `cuda`, `cuda:0`, `sim`, and lists of these.
//!
//! Only names: what a machine has is the worker's knowledge.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One device, or a group of workers on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceSpec {
    /// Every CUDA device of the machine, or the CPU where there is none.
    Auto,
    /// Workers on the CPU.
    Cpu {
        /// Number of workers.
        workers: NonZeroU32,
        /// Threads of each worker, which are then pinned; `None`: the allowed cores, shared out evenly.
        threads: Option<NonZeroU32>,
    },
    /// A CUDA device by its index; `None`: every one that is visible.
    Cuda(Option<u32>),
    /// For tests of clusters: where CUDA_VISIBLE_DEVICES grants a GPU, one thread of the CPU takes its place.
    Sim,
}

impl DeviceSpec {
    /// One worker with all allowed cores.
    pub const CPU: Self = Self::Cpu { workers: NonZeroU32::MIN, threads: None };
}

/// Why a text names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not of any known form.
    #[error(
        "{0:?} is no device; write auto, cpu, cpu:2 (two workers), cpu:2x1 (two workers of one thread), \
             cuda or cuda:0, or a list of these"
    )]
    Unknown(String),
    /// Nothing named.
    #[error("no device named; write auto to use what the machine has")]
    Empty,
    /// `auto` beside others.
    #[error("auto stands alone: it already means every device")]
    AutoInList,
    /// One device twice.
    #[error("device {0} is named twice")]
    Repeated(DeviceSpec),
    /// Two entries that each take all cores left.
    #[error(
        "{0} and {1} would share the same cores; write cpu:2 for two workers, or give each its threads, \
             such as cpu:1x2,cpu:1x2"
    )]
    SharedCores(DeviceSpec, DeviceSpec),
}

impl FromStr for DeviceSpec {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        let (kind, detail) = match text.split_once(':') {
            Some((kind, detail)) => (kind, Some(detail)),
            None => (text, None),
        };
        match (kind, detail) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::CPU),
            ("cpu", Some(detail)) => cpu_workers(detail).ok_or_else(unknown),
            ("sim", None) => Ok(Self::Sim),
            ("cuda", None) => Ok(Self::Cuda(None)),
            ("cuda", Some(index)) => digits(index).map(|index| Self::Cuda(Some(index))).ok_or_else(unknown),
            _ => Err(unknown()),
        }
    }
}

/// `W` or `WxT`.
fn cpu_workers(detail: &str) -> Option<DeviceSpec> {
    let (workers, threads) = match detail.split_once('x') {
        Some((workers, threads)) => (workers, Some(NonZeroU32::new(digits(threads)?)?)),
        None => (detail, None),
    };
    Some(DeviceSpec::Cpu { workers: NonZeroU32::new(digits(workers)?)?, threads })
}

/// A number of plain digits: unlike `u32::from_str`, no sign.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            &Self::CPU => f.write_str("cpu"),
            Self::Cpu { workers, threads: None } => write!(f, "cpu:{workers}"),
            Self::Cpu { workers, threads: Some(threads) } => write!(f, "cpu:{workers}x{threads}"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(index)) => write!(f, "cuda:{index}"),
            Self::Sim => f.write_str("sim"),
        }
    }
}

/// The devices of a run, never empty: a string with commas or a list of strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList(Vec<DeviceSpec>);

impl DeviceList {
    /// A list of devices; an error if it is empty, names one twice or `auto` beside others, or leaves it open to two
    /// entries how many threads they have.
    pub fn new(devices: Vec<DeviceSpec>) -> Result<Self, DeviceError> {
        if devices.is_empty() {
            return Err(DeviceError::Empty);
        }
        if devices.len() > 1 && devices.contains(&DeviceSpec::Auto) {
            return Err(DeviceError::AutoInList);
        }
        let cuda: Vec<_> = devices.iter().filter(|device| matches!(device, DeviceSpec::Cuda(_))).collect();
        for (i, device) in cuda.iter().enumerate() {
            if cuda[..i].contains(device) || (cuda.len() > 1 && **device == DeviceSpec::Cuda(None)) {
                return Err(DeviceError::Repeated(**device));
            }
        }
        if devices.iter().filter(|device| **device == DeviceSpec::Sim).count() > 1 {
            return Err(DeviceError::Repeated(DeviceSpec::Sim));
        }
        let mut open = devices.iter().filter(|d| matches!(d, DeviceSpec::Cpu { threads: None, .. }));
        if let (Some(first), Some(second)) = (open.next(), open.next()) {
            return Err(DeviceError::SharedCores(*first, *second));
        }
        Ok(Self(devices))
    }

    /// The devices in the order written.
    pub fn devices(&self) -> &[DeviceSpec] {
        &self.0
    }

    /// Whether it is `auto`: what the machine has, as is best.
    pub fn is_auto(&self) -> bool {
        self.0 == [DeviceSpec::Auto]
    }
}

impl Default for DeviceList {
    fn default() -> Self {
        Self(vec![DeviceSpec::Auto])
    }
}

impl FromStr for DeviceList {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        if text.trim().is_empty() {
            return Err(DeviceError::Empty);
        }
        Self::new(text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for DeviceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, device) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{device}")?;
        }
        Ok(())
    }
}

impl Serialize for DeviceList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(StringOrList)
        } else {
            deserializer.deserialize_str(StringOrList)
        }
    }
}

struct StringOrList;

impl<'de> de::Visitor<'de> for StringOrList {
    type Value = DeviceList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a device such as auto, cpu:2x1 or cuda:0, or a list of devices")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<DeviceList, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<DeviceList, A::Error> {
        let mut devices = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            devices.push(text.parse().map_err(de::Error::custom)?);
        }
        DeviceList::new(devices).map_err(de::Error::custom)
    }
}

impl JsonSchema for DeviceList {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeviceList".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = "(auto|cpu(:[1-9][0-9]*(x[1-9][0-9]*)?)?|cuda(:[0-9]+)?|sim)";
        json_schema!({
            "description": "auto, cpu (one worker, all allowed cores), cpu:2 (two workers), cpu:2x1 (two workers of \
                            one thread, pinned), cuda (all), cuda:0; a list of these, or one string with commas.",
            "anyOf": [
                { "type": "string", "pattern": format!("^{one}( *, *{one})*$") },
                { "type": "array", "minItems": 1, "items": { "type": "string", "pattern": format!("^{one}$") } }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(workers: u32, threads: Option<u32>) -> DeviceSpec {
        DeviceSpec::Cpu {
            workers: NonZeroU32::new(workers).unwrap(),
            threads: threads.map(|n| NonZeroU32::new(n).unwrap()),
        }
    }

    #[test]
    fn every_form_reads_and_prints_as_written() {
        for (text, device) in [
            ("auto", DeviceSpec::Auto),
            ("cpu", DeviceSpec::CPU),
            ("cpu:2", cpu(2, None)),
            ("cpu:2x1", cpu(2, Some(1))),
            ("cpu:1x2", cpu(1, Some(2))),
            ("cuda", DeviceSpec::Cuda(None)),
            ("cuda:3", DeviceSpec::Cuda(Some(3))),
            ("sim", DeviceSpec::Sim),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_forms() {
        for text in
            ["gpu", "cpu:", "cpu:0", "cpu:2x0", "cpu:+2", "cpu:-1", "cpu:2x", "cuda:x", "cuda:-1", "CPU"]
        {
            let error = text.parse::<DeviceSpec>().unwrap_err();
            assert_eq!(error, DeviceError::Unknown(text.to_owned()));
            assert!(error.to_string().contains("cpu:2x1"));
        }
    }

    #[test]
    fn lists_keep_their_order_and_refuse_repeats() {
        let list: DeviceList = "cuda:1, cuda:0,cpu:2".parse().unwrap();
        assert_eq!(list.to_string(), "cuda:1,cuda:0,cpu:2");
        assert_eq!(
            "cuda:0,cuda:0".parse::<DeviceList>(),
            Err(DeviceError::Repeated(DeviceSpec::Cuda(Some(0))))
        );
        assert_eq!("cuda,cuda:0".parse::<DeviceList>(), Err(DeviceError::Repeated(DeviceSpec::Cuda(None))));
        assert_eq!("sim,sim".parse::<DeviceList>(), Err(DeviceError::Repeated(DeviceSpec::Sim)));
        assert_eq!("auto,cpu".parse::<DeviceList>(), Err(DeviceError::AutoInList));
        assert_eq!("auto,auto".parse::<DeviceList>(), Err(DeviceError::AutoInList));
        assert_eq!(" ".parse::<DeviceList>(), Err(DeviceError::Empty));
    }

    #[test]
    fn one_entry_at_the_most_leaves_its_threads_open() {
        assert_eq!("cpu:1x1,cpu:1x1,cpu".parse::<DeviceList>().unwrap().to_string(), "cpu:1x1,cpu:1x1,cpu");
        let error = "cpu,cuda:0,cpu:2".parse::<DeviceList>().unwrap_err();
        assert_eq!(error, DeviceError::SharedCores(DeviceSpec::CPU, cpu(2, None)));
        assert!(error.to_string().starts_with("cpu and cpu:2 would share the same cores; write cpu:2"));
        assert_eq!(
            "cpu,cpu".parse::<DeviceList>(),
            Err(DeviceError::SharedCores(DeviceSpec::CPU, DeviceSpec::CPU))
        );
    }
}
