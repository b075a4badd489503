//! YAML to typed specs, with a position for every value: the only place that calls the YAML parser.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeOwned, MapAccess, SeqAccess};
use serde::{Deserialize, Deserializer};
use serde_yaml::options::NonFiniteFloatPolicy;
use serde_yaml::{DefaultMessageFormatter, Error, Location, MessageFormatter, Spanned};

use super::diagnostic::{Diagnostic, Diagnostics, Place, Position, Source, names_help};

/// Reads a whole YAML text; the error shows line, column and the nearest valid name.
pub fn from_yaml<T: DeserializeOwned>(source: &Source) -> Result<T, Diagnostics> {
    serde_yaml::from_str(&source.text).map_err(|error| refuse(source, &error))
}

fn refuse(source: &Source, error: &Error) -> Diagnostics {
    Diagnostics { source: source.clone(), list: vec![diagnose(source, error)] }
}

/// A YAML error in our words: the message names the cause, the help what is possible.
fn diagnose(source: &Source, error: &Error) -> Diagnostic {
    let error = error.without_snippet();
    let at = error.location().and_then(position);
    let got = at.and_then(|at| slice(source, at)).unwrap_or_default();
    let (message, help) = explain(error, &got);
    Diagnostic { message, place: at.map_or(Place::Unknown, Place::File), help }
}

fn explain(error: &Error, got: &str) -> (String, Option<String>) {
    let plain = |message: String| (message, None);
    let with_help = |message: &str, help: &str| (message.to_owned(), Some(help.to_owned()));
    match error {
        Error::AliasError { error, .. } => explain(error, got),
        Error::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown field `{field}`"), Some(names_help(field, expected)))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("unknown name `{variant}`"), Some(names_help(variant, expected)))
        }
        Error::SerdeMissingField { field, .. } => plain(format!("missing field `{field}`")),
        Error::DuplicateMappingKey { key: Some(key), .. } => plain(format!("`{key}` is given twice")),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            plain(format!("expected {expected}, got {unexpected}"))
        }
        Error::NullIntoString { .. } => with_help(
            "expected a text, but there is no value",
            "write one after the colon; a text that YAML reads as nothing needs quotes, such as \"null\"",
        ),
        Error::MultipleDocuments { .. } => with_help(
            "a second YAML document begins here, but a file holds one",
            "remove the line `---` and what follows it, or put that into a file of its own",
        ),
        // The place of a missing value is its colon.
        Error::InvalidScalar { ty, .. } if matches!(got, ":" | "~" | "null") => {
            plain(format!("expected {}, but there is no value", in_words(ty)))
        }
        Error::InvalidScalar { ty, .. } => match most(ty).filter(|most| is_above(got, *most)) {
            Some(most) => plain(format!("expected a whole number of at most {most}, got `{got}`")),
            None => plain(format!("expected {}, got `{got}`", in_words(ty))),
        },
        Error::Unexpected { expected, .. } => plain(format!("expected {}", in_words(expected))),
        Error::NonFiniteFloat { value, .. } => plain(format!("expected a finite number, got {value}")),
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            plain("only one kind can be chosen here, but the map names two".to_owned())
        }
        Error::Eof { .. } => plain("the text ends too early; is the file empty?".to_owned()),
        other => plain(DefaultMessageFormatter.format_message(other).into_owned()),
    }
}

/// What the parser's messages call a type, in words.
fn in_words(ty: &str) -> &str {
    match ty {
        "u8" | "u16" | "u32" | "u64" | "unsigned integer" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "signed integer" => "a whole number",
        "f32" | "f64" | "floating point" => "a number",
        "mapping start" => "a map",
        "sequence start" => "a list",
        "string scalar" => "a single value",
        other => other,
    }
}

/// The largest number of an unsigned type.
fn most(ty: &str) -> Option<u64> {
    match ty {
        "u8" => Some(u8::MAX.into()),
        "u16" => Some(u16::MAX.into()),
        "u32" => Some(u32::MAX.into()),
        "u64" => Some(u64::MAX),
        _ => None,
    }
}

/// Whether a text is a whole number above `most`; numbers of `--set` that no integer holds come as `1.8e+19`.
fn is_above(text: &str, most: u64) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text).replace('_', "");
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u128>() {
        Ok(number) => number > most.into(),
        // Digits that are too many even for that.
        Err(_) if is_whole => true,
        Err(_) => {
            digits.parse::<f64>().is_ok_and(|number| number.fract() == 0.0 && number as u128 > most.into())
        }
    }
}

/// The text at a position.
pub fn slice(source: &Source, at: Position) -> Option<String> {
    let line = source.text.lines().nth(at.line - 1)?;
    Some(line.chars().skip(at.column - 1).take(at.width).collect())
}

fn position(location: Location) -> Option<Position> {
    let line = usize::try_from(location.line()).ok().filter(|line| *line > 0)?;
    let column = usize::try_from(location.column()).ok()?.max(1);
    let width = usize::try_from(location.span().len()).unwrap_or(1).max(1);
    Some(Position { line, column, width })
}

/// Where every value and key of a document stands, by path (`tasks[0].noise`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions {
    values: BTreeMap<String, Position>,
    keys: BTreeMap<String, Position>,
}

impl Positions {
    /// Reads the positions of a text that [`from_yaml`] accepts.
    pub fn of(source: &Source) -> Result<Self, Diagnostics> {
        // Non-finite numbers are a semantic error, reported with all others.
        let options = serde_yaml::options! { non_finite_float_policy: NonFiniteFloatPolicy::AsString };
        let root: Spanned<Node> = serde_yaml::from_str_with_options(&source.text, options)
            .map_err(|error| refuse(source, &error))?;
        let mut positions = Self::default();
        positions.collect(String::new(), &root);
        Ok(positions)
    }

    fn collect(&mut self, path: String, node: &Spanned<Node>) {
        match &node.value {
            Node::Scalar => {}
            Node::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.collect(format!("{path}[{i}]"), item);
                }
            }
            Node::Map(entries) => {
                for (key, value) in entries {
                    let path = join(&path, &key.value);
                    self.keys.extend(position(key.referenced).map(|at| (path.clone(), at)));
                    self.collect(path, value);
                }
            }
        }
        self.values.extend(position(node.referenced).map(|at| (path, at)));
    }

    /// The path and position of the value that starts last before `at`, and whether a value starts at `at`.
    pub fn before(&self, at: Position) -> (Option<(&str, Position)>, bool) {
        let start = |position: Position| (position.line, position.column);
        let last = self.values.iter().filter(|(_, position)| start(**position) < start(at));
        let last = last.max_by_key(|(path, position)| (start(**position), path.len()));
        let starts = self.values.values().any(|position| start(*position) == start(at));
        (last.map(|(path, position)| (path.as_str(), *position)), starts)
    }

    /// The position of a value, or of the nearest one around it that is written in the file.
    pub fn value(&self, path: &str) -> Option<Position> {
        ancestors(path).find_map(|path| self.values.get(path).copied())
    }

    /// The position of a key, or of the nearest value around it.
    pub fn key(&self, path: &str) -> Option<Position> {
        self.keys.get(path).copied().or_else(|| self.value(path))
    }
}

/// `path.key`, or `key` at the root.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The path itself, then what it lies in, up to the root (the empty path).
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| {
        (!path.is_empty()).then(|| &path[..path.rfind(['.', '[']).unwrap_or(0)])
    })
}

/// The shape of a YAML value, without the scalars' content.
enum Node {
    Scalar,
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> de::Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}
