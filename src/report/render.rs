//! Tables as terminal text, Markdown, CSV, LaTeX and JSON.

use std::fmt;
use std::str::FromStr;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, TableStyle};
use serde_json::{Map, Value, json};

use super::table::{Kind, Rank, Table};

/// An output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For a terminal.
    #[default]
    Text,
    /// GitHub Markdown.
    Markdown,
    /// Comma-separated values; titles and notes as `#` lines, tables separated by an empty line.
    Csv,
    /// LaTeX `tabular` with booktabs rules.
    Latex,
    /// One array of tables.
    Json,
}

impl Format {
    /// Every format with its name on the command line.
    pub const ALL: [(&'static str, Self); 5] = [
        ("text", Self::Text),
        ("md", Self::Markdown),
        ("csv", Self::Csv),
        ("latex", Self::Latex),
        ("json", Self::Json),
    ];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        let names = || Self::ALL.map(|(name, _)| name).join(", ");
        found.map(|(_, format)| *format).ok_or_else(|| format!("no format `{text}`; choose from {}", names()))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, format)| format == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// Tables in one format, ending with a line break. `width` is the terminal's, for [`Format::Text`] only.
pub fn render(tables: &[Table], format: Format, width: Option<u16>) -> String {
    let join = |one: &dyn Fn(&Table) -> String| tables.iter().map(one).collect::<Vec<_>>().join("\n");
    match format {
        Format::Text => join(&|table| text(table, width)),
        Format::Markdown => join(&markdown),
        Format::Csv => join(&csv),
        Format::Latex => join(&latex),
        Format::Json => {
            let all = Value::Array(tables.iter().map(json_table).collect());
            format!("{all:#}\n")
        }
    }
}

/// Rules above and below the heading and at the end, none between rows.
const BOOKTABS: TableStyle = {
    let rule = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule)
};

fn text(table: &Table, width: Option<u16>) -> String {
    let mut grid = comfy_table::Table::new();
    grid.load_style(BOOKTABS);
    if let Some(width) = width {
        grid.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
    }
    grid.set_header(table.columns.iter().map(|column| &column.header));
    grid.add_rows(table.display_rows(|text, rank| match rank {
        Rank::Best => format!("{text}¹"),
        Rank::Second => format!("{text}²"),
    }));
    for (column, look) in table.columns.iter().zip(grid.column_iter_mut()) {
        if column.kind != Kind::Text {
            look.set_cell_alignment(CellAlignment::Right);
        }
    }
    let legend = (!table.ranks.is_empty()).then_some("¹ best of its task, ² second best.");
    let notes = table.notes.iter().map(String::as_str).chain(legend);
    let notes: String = notes.map(|note| format!("  {note}\n")).collect();
    format!("{}\n{}\n{notes}", table.title, grid.trim_fmt())
}

fn markdown(table: &Table) -> String {
    let escape = |text: &str| text.replace('|', "\\|");
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let headers: Vec<String> = table.columns.iter().map(|column| escape(&column.header)).collect();
    let rule = |kind| if kind == Kind::Text { ":--" } else { "--:" };
    let rules: Vec<String> = table.columns.iter().map(|column| rule(column.kind).to_owned()).collect();
    let rows = table.display_rows(|text, rank| match rank {
        Rank::Best => format!("**{text}**"),
        Rank::Second => format!("<u>{text}</u>"),
    });
    let body: String =
        rows.iter().map(|row| line(&row.iter().map(|cell| escape(cell)).collect::<Vec<_>>())).collect();
    let notes: String = table.notes.iter().map(|note| format!("- {note}\n")).collect();
    format!("**{}**\n\n{}{}{body}\n{notes}", table.title, line(&headers), line(&rules))
}

fn csv(table: &Table) -> String {
    let comment = |text: &String| format!("# {text}\n");
    let names = table.columns.iter().flat_map(|column| {
        let name = |suffix: &&str| format!("{}{suffix}", column.key);
        column.kind.suffixes().iter().map(name).collect::<Vec<_>>()
    });
    let head = csv_line(&names.collect::<Vec<_>>());
    let rows = table.rows.iter().map(|row| {
        let cells = row.iter().zip(&table.columns);
        csv_line(&cells.flat_map(|(cell, column)| cell.values(column.kind)).collect::<Vec<_>>())
    });
    let notes: String = std::iter::once(&table.title).chain(&table.notes).map(comment).collect();
    format!("{notes}{head}{}", rows.collect::<String>())
}

fn csv_line(fields: &[String]) -> String {
    let quote = |field: &String| {
        let plain = !field.contains([',', '"', '\n', '\r']);
        if plain { field.clone() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
    };
    fields.iter().map(quote).collect::<Vec<_>>().join(",") + "\n"
}

fn latex(table: &Table) -> String {
    let align: String =
        table.columns.iter().map(|column| if column.kind == Kind::Text { 'l' } else { 'r' }).collect();
    let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
    let head = line(table.columns.iter().map(|column| latex_text(&column.header)).collect());
    let mark = |text: String, rank| match rank {
        Rank::Best => format!("{BEST}{text}{END}"),
        Rank::Second => format!("{SECOND}{text}{END}"),
    };
    let rows = table.display_rows(mark);
    let body: String =
        rows.iter().map(|row| line(row.iter().map(|cell| latex_text(cell)).collect())).collect();
    let notes: String = table.notes.iter().map(|note| format!("% {note}\n")).collect();
    let title = format!("% {}\n", table.title);
    format!(
        "{title}{notes}\\begin{{tabular}}{{{align}}}\n\\toprule\n{head}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
    )
}

/// Stand for commands while text is escaped: characters that no text has.
const BEST: char = '\u{e000}';
const SECOND: char = '\u{e001}';
const END: char = '\u{e002}';

/// Text with LaTeX's special characters and the signs used in tables escaped.
fn latex_text(text: &str) -> String {
    let escape = |c: char| match c {
        '\\' => "\\textbackslash{}".to_owned(),
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{c}"),
        '~' => "\\textasciitilde{}".to_owned(),
        '^' => "\\textasciicircum{}".to_owned(),
        '±' => "$\\pm$".to_owned(),
        '>' => "$>$".to_owned(),
        '<' => "$<$".to_owned(),
        '×' => "$\\times$".to_owned(),
        'σ' => "$\\sigma$".to_owned(),
        'λ' => "$\\lambda$".to_owned(),
        'Δ' => "$\\Delta$".to_owned(),
        '†' => "$^\\dagger$".to_owned(),
        '↑' => "$\\uparrow$".to_owned(),
        '↓' => "$\\downarrow$".to_owned(),
        '≠' => "$\\neq$".to_owned(),
        '−' => "$-$".to_owned(),
        '–' => "--".to_owned(),
        BEST => "\\textbf{".to_owned(),
        SECOND => "\\underline{".to_owned(),
        END => "}".to_owned(),
        _ => c.to_string(),
    };
    text.chars().map(escape).collect::<String>().replace("$\\sigma$\\_y", "$\\sigma_y$")
}

fn json_table(table: &Table) -> Value {
    let row = |row: &Vec<super::table::Cell>| -> Value {
        let cells = table.columns.iter().zip(row);
        cells.map(|(column, cell)| (column.key.clone(), cell.json())).collect::<Map<_, _>>().into()
    };
    let rows: Vec<Value> = table.rows.iter().map(row).collect();
    let rank = |(&(row, column), rank): (&(usize, usize), &Rank)| {
        let place = if *rank == Rank::Best { 1 } else { 2 };
        json!({ "row": row, "column": table.columns[column].key, "rank": place })
    };
    let ranks: Vec<Value> = table.ranks.iter().map(rank).collect();
    json!({ "table": table.id, "title": table.title, "notes": table.notes, "rows": rows, "ranks": ranks })
}
