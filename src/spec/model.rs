//! Models by reference: a model file of the project or the user, or a closed-form prior.

use std::fmt;

use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The model of a pipeline or of one method: a name, or `{ gaussian: { fit: train } }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(transform = name_as_string)]
pub enum ModelRef {
    /// A model file: a name under `models/` or a path ending in `.yaml`. Written as a plain string.
    Name(String),
    /// A Gaussian fitted to the dataset's training images at run time.
    Gaussian(GaussianFit),
    /// The exact law of a dataset whose layout is a mixture.
    Mixture(MixtureOf),
}

/// A Gaussian prior N(m, S).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GaussianFit {
    /// The images it is fitted to.
    pub fit: FitSplit,
}

/// A mixture of Gaussians whose flow is known in closed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixtureOf {
    /// Whose law it is.
    pub of: MixtureSource,
}

/// Whose law a mixture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MixtureSource {
    /// The pipeline's dataset.
    Dataset,
}

/// Which split a prior is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FitSplit {
    /// The training split.
    Train,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Gaussian(GaussianFit { fit: FitSplit::Train }) => f.write_str("gaussian (fit: train)"),
            Self::Mixture(MixtureOf { of: MixtureSource::Dataset }) => f.write_str("mixture (of: dataset)"),
        }
    }
}

/// The schema of `{ name: … }` becomes that of a plain string.
fn name_as_string(schema: &mut Schema) {
    let mut forms = schema.remove("oneOf").unwrap_or_default();
    if let Some(forms) = forms.as_array_mut() {
        forms.retain(|form| form.pointer("/properties/name").is_none());
        forms
            .insert(0, json_schema!({ "type": "string", "description": "Name of a model file." }).to_value());
    }
    schema.insert("oneOf".to_owned(), forms);
}

// `remote = "Self"` makes the derived code inherent functions, so that the trait can add the short form to it.
impl Serialize for ModelRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) if serializer.is_human_readable() => serializer.serialize_str(name),
            _ => Self::serialize(self, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ModelRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Binary formats are not self-describing and only ever hold the derived form.
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(NameOrMap)
        } else {
            Self::deserialize(deserializer)
        }
    }
}

struct NameOrMap;

impl<'de> de::Visitor<'de> for NameOrMap {
    type Value = ModelRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a model or a map such as {gaussian: {fit: train}}")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<ModelRef, E> {
        Ok(ModelRef::Name(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ModelRef, A::Error> {
        ModelRef::deserialize(MapAccessDeserializer::new(map))
    }
}
