//! A pipeline file as read: the typed spec, and where each of its values was written.

use std::path::Path;

use super::diagnostic::{Diagnostic, Diagnostics, Place, Source};
use super::parse::{Positions, ancestors, from_yaml, slice};
use super::pipeline::PipelineSpec;
use super::schema::kinds_with_options;
use super::set::Assignment;

/// Why a pipeline file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read the pipeline file {path}: {source}")]
    Read {
        /// As given.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

/// A semantic error at a path of the spec, not yet placed in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the spec, such as `tasks[0].operator.center_mask.size`.
    pub path: String,
    /// Whether the key is wrong rather than its value.
    pub at_key: bool,
    /// What is wrong.
    pub message: String,
    /// What to do, where the message does not say it.
    pub help: Option<String>,
}

/// A pipeline with its text and `--set` arguments.
#[derive(Debug, Clone)]
pub struct Document {
    /// The pipeline, `--set` arguments applied.
    pub spec: PipelineSpec,
    source: Source,
    positions: Positions,
    sets: Vec<Assignment>,
}

impl Document {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| SpecError::Read { path: name.clone(), source })?;
        Ok(Self::parse(Source { name, text })?)
    }

    /// Reads a text.
    pub fn parse(source: Source) -> Result<Self, Diagnostics> {
        let spec = from_yaml(&source).map_err(blame_bare_kind)?;
        let positions = Positions::of(&source)?;
        Ok(Self { spec, source, positions, sets: Vec::new() })
    }

    /// Applies one `--set` argument, such as `tasks[0].noise=0.1`.
    pub fn set(&mut self, text: &str) -> Result<(), Diagnostics> {
        let applied = Assignment::parse(text).and_then(|set| Ok((set.apply(&self.spec)?, set)));
        match applied {
            Ok((spec, set)) => {
                self.spec = spec;
                self.sets.push(set);
                Ok(())
            }
            Err((message, help)) => {
                let diagnostic = Diagnostic { message, place: Place::Set(text.to_owned()), help };
                Err(Diagnostics { source: self.source.clone(), list: vec![diagnostic] })
            }
        }
    }

    /// The text as written, without `--set` arguments.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The `--set` arguments as typed, in order.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().map(Assignment::text)
    }

    /// All problems as one error, placed and in the order of the file; `Ok` if there is none.
    pub fn report(&self, problems: Vec<Problem>) -> Result<(), Diagnostics> {
        if problems.is_empty() {
            return Ok(());
        }
        let mut list: Vec<Diagnostic> = problems.into_iter().map(|problem| self.place(problem)).collect();
        list.sort_by_key(|diagnostic| match &diagnostic.place {
            Place::File(position) => Some(*position),
            Place::Set(_) | Place::Unknown => None,
        });
        Err(Diagnostics { source: self.source.clone(), list })
    }

    fn place(&self, problem: Problem) -> Diagnostic {
        let Problem { path, at_key, message, help } = problem;
        let set = self.sets.iter().rev().find(|set| {
            ancestors(&path).any(|path| path == set.path())
                || ancestors(set.path()).any(|outer| outer == path)
        });
        let position = if at_key { self.positions.key(&path) } else { self.positions.value(&path) };
        let place = match (set, position) {
            (Some(set), _) => Place::Set(set.text().to_owned()),
            (None, Some(position)) => Place::File(position),
            (None, None) => Place::Unknown,
        };
        Diagnostic { message, place, help }
    }
}

/// A kind without its options (`regularizer: chi`) makes the parser stumble over what follows: blames the kind.
fn blame_bare_kind(error: Diagnostics) -> Diagnostics {
    let [Diagnostic { message, place: Place::File(at), .. }] = &error.list[..] else { return error };
    let Ok(positions) = Positions::of(&error.source) else { return error };
    let (Some((path, before)), at_value) = positions.before(*at) else { return error };
    let stumbled = path.ends_with(']') || (!at_value && message.starts_with("expected"));
    let Some(kind) =
        slice(&error.source, before).filter(|kind| stumbled && kinds_with_options().contains(kind))
    else {
        return error;
    };
    let diagnostic = Diagnostic {
        message: format!("`{kind}` needs its options"),
        place: Place::File(before),
        help: Some(format!("write {{{kind}: …}}; where nothing has to be said, {{{kind}: {{}}}}")),
    };
    Diagnostics { source: error.source, list: vec![diagnostic] }
}
