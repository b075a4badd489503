//! The first source point x₀ of a D-Flow solve.

use std::fmt;

use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::solver::SolverSpec;

/// The first source point x₀.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InitSpec {
    /// √a·y(0) + √(1−a)·z: the backward solve of the lifted measurement, blended with noise.
    /// Written as a number (the weight a) or as a map.
    Blend(BlendSpec),
    /// x₀ = z ~ N(0, I).
    Source,
    /// x₀ from a safetensors file with one tensor per sample id.
    Given(String),
}

impl Default for InitSpec {
    fn default() -> Self {
        Self::Blend(BlendSpec::new(0.1))
    }
}

/// Options of the blended initialisation; a bare number is the weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(transform = or_weight)]
pub struct BlendSpec {
    /// Weight a of y(0), in [0, 1].
    pub weight: f64,
    /// Solver of the backward ODE; default: the method's.
    #[serde(default)]
    pub solver: Option<SolverSpec>,
    /// How y becomes image-shaped.
    #[serde(default)]
    pub lift: Lift,
}

/// How a measurement becomes image-shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lift {
    /// H†y, or y itself where H keeps the image's shape and hides no pixel (blur, identity).
    #[default]
    Auto,
    /// H†y.
    Pinv,
    /// Hᵀy (PnP-Flow).
    Adjoint,
    /// y itself; only where it has the image's shape.
    Measurement,
}

impl BlendSpec {
    /// The blend of this weight, everything else by default.
    pub const fn new(weight: f64) -> Self {
        Self { weight, solver: None, lift: Lift::Auto }
    }
}

/// The schema of the map form becomes that of "a number or this map".
fn or_weight(schema: &mut Schema) {
    let map = std::mem::take(schema);
    *schema = json_schema!({
        "description": "The weight a of y(0), or a map of options.",
        "anyOf": [{ "type": "number", "minimum": 0, "maximum": 1 }, map]
    });
}

// `remote = "Self"` makes the derived code inherent functions, so that the trait can add the short form to it.
impl Serialize for BlendSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for BlendSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Binary formats are not self-describing and only ever hold the long form.
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(NumberOrMap)
        } else {
            Self::deserialize(deserializer)
        }
    }
}

struct NumberOrMap;

impl<'de> de::Visitor<'de> for NumberOrMap {
    type Value = BlendSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a weight in [0, 1] or a map {weight, solver, lift}")
    }

    fn visit_f64<E: de::Error>(self, weight: f64) -> Result<BlendSpec, E> {
        Ok(BlendSpec::new(weight))
    }

    fn visit_u64<E: de::Error>(self, weight: u64) -> Result<BlendSpec, E> {
        Ok(BlendSpec::new(weight as f64))
    }

    fn visit_i64<E: de::Error>(self, weight: i64) -> Result<BlendSpec, E> {
        Ok(BlendSpec::new(weight as f64))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<BlendSpec, E> {
        // A custom error keeps the value's own position, an `invalid_type` that of a key around it.
        Err(E::custom(format_args!("expected {}, got {text:?}", &self as &dyn de::Expected)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BlendSpec, A::Error> {
        BlendSpec::deserialize(MapAccessDeserializer::new(map))
    }
}
