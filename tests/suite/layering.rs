//! The import directions of ARCHITECTURE.md, checked against the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Module, and the modules of this crate that it may name (itself always).
const ALLOWED: &[(&str, &[&str])] = &[
    ("real", &[]),
    ("atomic", &[]),
    ("user_cache", &[]),
    ("fetch", &["atomic"]),
    ("random", &[]),
    ("exit", &[]),
    ("test_data", &[]),
    ("spec", &[]),
    ("plan", &["spec"]),
    ("dataset", &["spec", "random", "atomic", "user_cache", "molecule"]),
    ("molecule", &[]),
    ("operator", &["spec", "random", "real"]),
    ("path", &["spec", "real"]),
    ("flow", &["spec", "real", "random", "path", "atomic", "user_cache"]),
    ("net", &["fetch", "spec", "real", "random", "path", "flow", "atomic", "molecule"]),
    ("optim", &["spec", "real"]),
    ("method", &["spec", "real", "random", "path", "flow", "optim", "operator"]),
    ("metric", &["spec", "real", "random", "operator", "molecule"]),
    ("store", &["spec", "plan", "metric"]),
    ("telemetry", &["store"]),
    ("status", &["plan", "store", "cluster"]),
    ("points", &["spec"]),
    ("catalog", &["spec", "plan", "molecule", "dataset", "operator", "path", "flow", "net", "points"]),
    (
        "score",
        &[
            "spec",
            "plan",
            "random",
            "operator",
            "metric",
            "net",
            "catalog",
            "store",
            "user_cache",
            // The columns that it fills.
            "report",
        ],
    ),
    (
        "worker",
        &[
            "spec",
            "plan",
            "real",
            "random",
            "dataset",
            "operator",
            "path",
            "flow",
            "net",
            "optim",
            "method",
            "metric",
            "molecule",
            "points",
            "catalog",
            "store",
            "score",
            // What it has measured of a device is kept.
            "atomic",
            "user_cache",
            // `run::Launch`, which its threads implement.
            "run",
        ],
    ),
    ("run", &["spec", "plan", "exit", "worker", "store", "telemetry"]),
    ("cluster", &["spec", "plan", "exit", "atomic", "store"]),
    ("report", &["spec", "plan", "random", "operator", "metric", "molecule", "store"]),
    ("ui", &["spec", "plan", "exit", "worker", "run", "store", "status"]),
];

/// Modules that may name everything.
const TOP: &[&str] = &["cli", "main", "lib"];

/// A word, and the files (or folders, with a slash) of `src` that may hold it: nothing else may.
const RESERVED: &[(&str, &[&str])] = &[
    // Tensors: where networks are, and where devices are.
    ("candle_core", &["net/", "worker/"]),
    ("new_cuda", &["worker/"]),
    ("nvml_wrapper", &["telemetry/"]),
    ("arrow::array", &["store/", "dataset/parquet.rs", "report/parquet.rs"]),
    ("parquet::arrow", &["store/", "dataset/parquet.rs", "report/parquet.rs"]),
    ("parquet::file", &["store/", "dataset/parquet.rs", "dataset/parquet/", "report/parquet.rs"]),
    // Results and messages have one way out.
    ("println!", &["ui/", "cli/"]),
    ("print!", &["ui/", "cli/"]),
    ("eprintln!", &["ui/", "cli/", "test_data.rs"]),
    ("eprint!", &["ui/", "cli/"]),
    ("stdout()", &["ui/", "cli/", "worker/"]),
    ("stderr()", &["ui/", "cli/", "main.rs"]),
    // All randomness is keyed in one place.
    ("rand_core::", &["random.rs"]),
    ("rand_chacha::", &["random.rs"]),
    ("serde_yaml::", &["spec/parse.rs", "dataset/description.rs", "net/model/"]),
    ("unsafe ", &["net/kernel/", "net/kernel.rs", "optim/prefetch.rs"]),
];

/// Modules that touch no file, with the files that are the exception.
const PURE: &[(&str, &[&str])] = &[
    ("spec", &["spec/document.rs"]),
    ("plan", &[]),
    ("method", &[]),
    ("operator", &[]),
    ("optim", &[]),
    // Caches the statistics of the training images outside of the repository.
    ("flow", &["flow/gaussian_fit.rs"]),
    ("path", &[]),
    ("real.rs", &[]),
    ("random.rs", &[]),
];

struct SourceFile {
    /// Path below `src`, such as `spec/check.rs`.
    name: String,
    /// Its lines of code with their numbers: neither comments nor tests.
    code: Vec<(usize, String)>,
}

impl SourceFile {
    fn module(&self) -> &str {
        self.name.split('/').next().expect("a name has a first part").trim_end_matches(".rs")
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places
            .iter()
            .any(|place| self.name == *place || (place.ends_with('/') && self.name.starts_with(place)))
    }
}

fn sources() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                // Tests may use everything.
                if !name.ends_with("tests.rs") && !name.contains("tests/") {
                    files.push(SourceFile { name, code: code(&fs::read_to_string(&path).unwrap()) });
                }
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(files.len() > 20, "the sources are where the test looks for them");
    files
}

/// The lines outside of tests, without comments and the contents of plain string literals.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut lines = text.lines().enumerate();
    let mut code = Vec::new();
    while let Some((i, line)) = lines.next() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            skip_item(&mut lines, indent(line));
        } else if !line.trim_start().starts_with("//") {
            code.push((i + 1, without_strings(line)));
        }
    }
    code
}

/// Passes the item that begins on the next line, with its other attributes: one line that ends with `;`, or all up to
/// the brace that rustfmt puts below the item's first letter.
fn skip_item<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>, depth: usize) {
    let in_place = |line: &str| indent(line) == depth;
    let mut begun = false;
    for (_, line) in lines {
        let is_attribute =
            !begun && (line.trim_start().starts_with("#[") || !in_place(line) || line.trim() == ")]");
        if is_attribute {
            continue;
        }
        let is_one_line = !begun && (line.ends_with(';') || line.ends_with('}'));
        if is_one_line || begun && in_place(line) && line.trim_start().starts_with('}') {
            return;
        }
        begun = true;
    }
}

/// Spaces before a line's first letter.
fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The line up to `//`, string literals emptied.
fn without_strings(line: &str) -> String {
    let mut code = String::new();
    let (mut in_string, mut escaped) = (false, false);
    for c in line.chars() {
        match (in_string, c) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (_, '"') => in_string = !in_string,
            (true, _) => {}
            (false, _) => code.push(c),
        }
    }
    code.split("//").next().unwrap_or_default().to_owned()
}

/// The modules after `crate::` in a line.
fn imports(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        &rest[..end]
    })
}

/// Whether `word` stands in `line` by itself: `print!` is not in `eprint!`, nor the crate `parquet` in `self::parquet`.
fn holds(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "_:$".contains(c);
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(is_part))
}

#[test]
fn modules_import_in_the_allowed_directions_only() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(module, others)| (*module, others.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for file in sources() {
        let module = file.module();
        if TOP.contains(&module) {
            continue;
        }
        let Some(allowed) = allowed.get(module) else {
            wrong.push(format!("src/{}: the module {module} is not in the table of this test", file.name));
            continue;
        };
        for (number, line) in &file.code {
            for other in imports(line).filter(|other| *other != module && !allowed.contains(other)) {
                wrong.push(format!("src/{}:{number}: {module} may not import {other}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn reserved_words_stay_in_their_places() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (word, places) in RESERVED.iter().filter(|(_, places)| !file.is_in(places)) {
            let lines = file.code.iter().filter(|(_, line)| holds(line, word));
            wrong.extend(lines.map(|(number, _)| {
                format!("src/{}:{number}: only {} may name `{word}`", file.name, places.join(", "))
            }));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_modules_touch_no_file() {
    let mut wrong = Vec::new();
    for file in sources() {
        let pure = PURE.iter().any(|(module, exceptions)| {
            (file.module() == *module || file.name == *module) && !exceptions.contains(&&*file.name)
        });
        let lines = file
            .code
            .iter()
            .filter(|(_, line)| pure && (holds(line, "std::fs") || holds(line, "File::open")));
        wrong.extend(
            lines.map(|(number, _)| format!("src/{}:{number}: this module touches no file", file.name)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources() {
        let text = fs::read_to_string(root.join(&file.name)).unwrap();
        assert!(text.starts_with("//! "), "src/{} does not begin with `//! `", file.name);
    }
}

#[test]
fn the_reader_of_sources_sees_code_only() {
    let text =
        "use crate::spec::x; // crate::worker\n/// crate::run\nlet a = \"crate::cli \\\" crate::ui\";\n";
    assert_eq!(named(text), ["spec"]);
    assert!(holds("print!(1)", "print!") && !holds("eprint!(1)", "print!"));
}

/// The modules that a text of code names.
fn named(text: &str) -> Vec<String> {
    code(text).iter().flat_map(|(_, line)| imports(line).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn the_reader_of_sources_goes_on_after_an_item_for_tests() {
    let after = "use crate::plan;";
    for item in [
        "mod tests;",
        "pub(crate) use crate::net::{\n    a,\n    b,\n};",
        "mod tests {\n    use crate::net;\n\n    fn a() {\n        crate::net::b()\n    }\n}",
        "#[expect(clippy::unwrap_used)]\nmod tests {\n    use crate::net;\n}",
        "#[expect(\n    clippy::unwrap_used,\n    reason = \"crate::net\"\n)]\nfn a(\n    b: u32,\n) -> u32 {\n    crate::net::c(b)\n}",
        "fn a() {}",
    ] {
        let text = format!("use crate::spec;\n#[cfg(test)]\n{item}\n{after}\n");
        assert_eq!(named(&text), ["spec", "plan"], "{text}");
        let numbers: Vec<usize> = code(&text).iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, text.lines().count()], "{text}");
    }
    let inner = "impl A {\n    #[cfg(test)]\n    fn b() {\n        crate::net::c()\n    }\n\n    fn d() {\n        crate::plan::e()\n    }\n}\n";
    assert_eq!(named(inner), ["plan"]);
}
