//! `--set tasks[0].noise=0.1`: one value of a spec replaced from the command line.

use serde_json::Value;

use super::diagnostic::Source;
use super::parse::from_yaml;
use super::pipeline::PipelineSpec;

/// One `--set` argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    text: String,
    steps: Vec<Step>,
    value: Value,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
}

/// A message, and what to do about it.
type Reason = (String, Option<String>);

impl Assignment {
    /// Reads `path=value`; the value is YAML, such as `0.1`, `none` or `{rk4: {nfe: 8}}`.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        let form = || Some("write path=value, such as tasks[0].noise=0.1".to_owned());
        let (path, value) = text.split_once('=').ok_or_else(|| ("there is no `=`".to_owned(), form()))?;
        let steps = steps(path.trim()).ok_or_else(|| (format!("`{path}` is not a path"), form()))?;
        let value = from_yaml(&Source { name: String::new(), text: value.to_owned() })
            .map_err(|error| (format!("the value is not YAML: {}", error.list[0].message), None))?;
        Ok(Self { text: text.to_owned(), steps, value })
    }

    /// The argument as typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The path in front of `=`.
    pub fn path(&self) -> &str {
        self.text.split_once('=').map_or("", |(path, _)| path.trim())
    }

    /// The spec with the value in its place.
    pub fn apply(&self, spec: &PipelineSpec) -> Result<PipelineSpec, Reason> {
        let mut json = serde_json::to_value(spec).map_err(|error| (error.to_string(), None))?;
        let mut place = &mut json;
        for (i, step) in self.steps.iter().enumerate() {
            place = descend(place, step)
                .map_err(|(reason, help)| (format!("{}: {reason}", spell(&self.steps[..i])), help))?;
        }
        *place = self.value.clone();
        // JSON is YAML: errors of both come in the same words.
        from_yaml(&Source { name: String::new(), text: json.to_string() }).map_err(|mut error| {
            let first = error.list.swap_remove(0);
            let help = first.help.or_else(|| first.message.contains("only one kind").then(whole_value));
            (first.message, help)
        })
    }
}

/// Steps of `a.b[0].c`.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (field, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        if field.is_empty() {
            return None;
        }
        steps.push(Step::Field(field.to_owned()));
        let mut rest = indices;
        while !rest.is_empty() {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::Index(index.parse().ok()?));
            rest = after;
        }
    }
    Some(steps)
}

fn spell(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Field(field) if path.is_empty() => path.push_str(field),
            Step::Field(field) => path.extend([".", field]),
            Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
        }
    }
    path
}

fn whole_value() -> String {
    "to choose another kind, set the whole value, such as solver={rk4: {nfe: 8}}".to_owned()
}

/// The place one step further in; a field that is absent is made.
fn descend<'a>(place: &'a mut Value, step: &Step) -> Result<&'a mut Value, Reason> {
    if place.is_null() {
        *place = Value::Object(serde_json::Map::new());
    }
    match (place, step) {
        (Value::Object(map), Step::Field(field)) => Ok(map.entry(field.as_str()).or_insert(Value::Null)),
        (Value::Array(list), Step::Index(index)) => {
            let reason = match list.len() {
                0 => "the list is empty".to_owned(),
                count => format!("there is no [{index}]: the list ends at [{}]", count - 1),
            };
            list.get_mut(*index).ok_or((reason, None))
        }
        (Value::Array(_), Step::Field(field)) => {
            Err((format!("this is a list: it has [0], but no `{field}`"), None))
        }
        (Value::Object(_), Step::Index(_)) => Err(("this is a map, not a list".to_owned(), None)),
        (other, _) => Err((format!("this is the single value {other}"), Some(whole_value()))),
    }
}
