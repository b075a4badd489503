//! The JSON schema of a pipeline file, generated from the types.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pipeline::PipelineSpec;

/// The schema of a pipeline file, as committed in `pipelines/pipeline.schema.json`.
pub fn pipeline_schema() -> String {
    let schema = schemars::schema_for!(PipelineSpec);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// The kinds that are written as a map (`chi` of `{chi: 0.01}`), read off the schema.
pub fn kinds_with_options() -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    collect_kinds(schemars::schema_for!(PipelineSpec).as_value(), &mut kinds);
    kinds
}

fn collect_kinds(schema: &Value, kinds: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            let forms = map.get("oneOf").and_then(Value::as_array);
            let required = forms.into_iter().flatten().filter_map(|form| form.pointer("/required/0"));
            kinds.extend(required.filter_map(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect_kinds(value, kinds));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_kinds(value, kinds)),
        _ => {}
    }
}

/// Names of a family's kinds with the first sentence of their documentation, read off the schema; `name` is the
/// Rust type, such as `StopRule`.
pub fn family(name: &str) -> Vec<(String, String)> {
    let schema = schemars::schema_for!(PipelineSpec);
    let forms = schema.as_value().pointer(&format!("/$defs/{name}/oneOf")).and_then(Value::as_array).cloned();
    forms.into_iter().flatten().flat_map(|form| kinds_of(&form)).collect()
}

fn kinds_of(form: &Value) -> Vec<(String, String)> {
    let about = form.get("description").and_then(Value::as_str).unwrap_or_default();
    let first = first_sentence(about).replace('\n', " ");
    let tag = form.pointer("/required/0").or_else(|| form.get("const"));
    let several = form.get("enum").and_then(Value::as_array).into_iter().flatten();
    tag.into_iter()
        .chain(several)
        .filter_map(Value::as_str)
        .map(|kind| (kind.to_owned(), first.clone()))
        .collect()
}

/// Up to the first full stop that ends no abbreviation and stands in no bracket.
fn first_sentence(text: &str) -> &str {
    let ends = |end: &usize| {
        let before = &text[..*end];
        let open = before.matches('(').count() > before.matches(')').count();
        !open && !["eq", "al", "e.g", "i.e"].iter().any(|word| before.ends_with(word))
    };
    text.match_indices(". ").map(|(end, _)| end).find(ends).map_or(text.trim(), |end| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_ends_neither_in_a_bracket_nor_after_an_abbreviation() {
        for (text, first) in [
            ("One. Two.", "One."),
            ("The norm (eq. 3), of Song et al. 2023. More.", "The norm (eq. 3), of Song et al. 2023."),
            ("No stop", "No stop"),
        ] {
            assert_eq!(first_sentence(text), first);
        }
    }

    #[test]
    fn kinds_are_those_of_every_family() {
        let kinds = kinds_with_options();
        for kind in ["dflow", "pinv", "center_mask", "chi", "midpoint", "lbfgs", "evals", "blend", "fixed"] {
            assert!(kinds.contains(kind), "{kind}");
        }
        for word in ["none", "source", "psnr", "weight", "name"] {
            assert!(!kinds.contains(word), "{word}");
        }
    }

    #[test]
    fn families_list_every_kind_with_a_text() {
        let kinds = |name| family(name).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
        let methods = ["dflow", "ot_ode", "pigdm", "red_diff", "pinv", "sample", "ancestral", "likelihood"];
        assert_eq!(kinds("MethodSpec"), methods);
        assert!(kinds("RegularizerSpec").contains(&"none".to_owned()));
        assert!(family("StopRule").iter().all(|(_, about)| !about.is_empty()));
    }

    #[test]
    fn the_committed_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/pipeline.schema.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let current = pipeline_schema();
        assert!(committed == current, "{path} is out of date: run `make schema`");
    }
}
