//! `reports/SCHEMA.md`: the columns of `samples.parquet`, generated from the table in the code.

use std::fmt::Write;

use super::columns::Column;
use super::record::{COLUMNS, SCHEMA_VERSION};
use super::telemetry::{TELEMETRY_COLUMNS, TelemetryColumn};

/// The documentation of every column, as Markdown.
pub fn columns_markdown() -> String {
    let mut text = format!(
        "# Columns of `samples.parquet`\n\n\
         Generated from the code by `dflow schema --write`; schema version {SCHEMA_VERSION}.\n\n\
         One row per solved sample; (`cell_hash`, `sample_id`) identify it. Metrics are null in failed rows and \
         where they do not apply. Columns marked \"repro\" have the same bits whenever the same sample is solved on \
         the same instruction set, whatever the batch, threads, shard or interruptions.\n\n\
         A reconstruction that was kept is read with \
         `numpy.fromfile(f\"artifacts/{{x1_file}}\", \"<f4\", prod(x1_shape), offset=x1_offset)`.\n"
    );
    let mut group = "";
    for column in COLUMNS {
        if column.group != group {
            group = column.group;
            let _ = write!(
                text,
                "\n## {group}\n\n| column | type | unit | null | repro | |\n|---|---|---|---|---|---|\n"
            );
        }
        let _ = writeln!(text, "{}", line(column));
    }
    text += TELEMETRY;
    TELEMETRY_COLUMNS.iter().for_each(|column| text += &telemetry_line(column));
    text
}

const TELEMETRY: &str = "
# Columns of `telemetry.parquet`

One row per device and reading, of every process that solved; `attempt` joins it to the rows of `samples.parquet`. \
What a device, its driver or the machine does not offer is null.

| column | type | unit | null | |
|---|---|---|---|---|
";

fn telemetry_line(column: &TelemetryColumn) -> String {
    let TelemetryColumn { name, type_name, unit, description, .. } = column;
    let null = if column.nullable { "yes" } else { "" };
    format!("| `{name}` | {type_name} | {unit} | {null} | {description} |\n")
}

fn line(column: &Column) -> String {
    let Column { name, type_name, unit, description, .. } = column;
    let mark = |flag| if flag { "yes" } else { "" };
    let (null, same) = (mark(column.nullable), mark(column.reproducible));
    format!("| `{name}` | {type_name} | {unit} | {null} | {same} | {description} |")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/reports/SCHEMA.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let current = columns_markdown();
        assert!(
            committed == current,
            "write {path} anew with `dflow schema --write`; it must read\n{current}"
        );
    }

    #[test]
    fn names_are_unique_and_every_column_is_described() {
        let names: std::collections::BTreeSet<_> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), COLUMNS.len());
        assert!(
            COLUMNS
                .iter()
                .all(|column| column.description.ends_with('.') || column.description.contains('`'))
        );
    }
}
