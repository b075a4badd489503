//! `dflow list`: the closed families of a pipeline file, and the columns of a row.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{CliResult, Global, print_lossy};
use crate::exit;
use crate::spec::schema::family;
use crate::store::{COLUMNS, columns_markdown};

/// Options of `dflow list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// What to list; default: every family.
    what: Option<Family>,
}

/// A closed family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Family {
    /// Methods.
    Methods,
    /// Degradation operators.
    Operators,
    /// ODE solvers.
    Solvers,
    /// First source points.
    Inits,
    /// Data terms.
    Losses,
    /// Penalties on the source point.
    Regularizers,
    /// What L-BFGS takes for the inverse Hessian at first.
    Hessians,
    /// Stop rules.
    Stops,
    /// Metrics.
    Metrics,
    /// Columns of `samples.parquet`.
    Columns,
}

impl Family {
    /// The type's name in the schema, and a title.
    fn schema(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::Methods => ("MethodSpec", "methods"),
            Self::Operators => ("OperatorSpec", "operators"),
            Self::Solvers => ("SolverSpec", "solvers"),
            Self::Inits => ("InitSpec", "initialisations"),
            Self::Losses => ("LossSpec", "losses"),
            Self::Regularizers => ("RegularizerSpec", "regularisers"),
            Self::Hessians => ("InitialHessian", "initial inverse Hessians of L-BFGS"),
            Self::Stops => ("StopRule", "stop rules"),
            Self::Metrics => ("MetricSpec", "metrics"),
            Self::Columns => return None,
        })
    }
}

pub(super) fn run(args: &ListArgs, global: &Global) -> CliResult {
    let chosen: Vec<Family> = match args.what {
        Some(family) => vec![family],
        None => {
            Family::value_variants().iter().copied().filter(|family| *family != Family::Columns).collect()
        }
    };
    if global.json {
        let listed = chosen.into_iter().map(|listed| match listed.schema() {
            None => {
                let columns = COLUMNS.iter().map(|column| {
                    json!({
                        "name": column.name, "type": column.type_name, "unit": column.unit,
                        "null": column.nullable, "about": column.description
                    })
                });
                ("columns", columns.collect::<Value>())
            }
            Some((name, title)) => {
                let kinds =
                    family(name).into_iter().map(|(name, about)| json!({ "name": name, "about": about }));
                (title, kinds.collect::<Value>())
            }
        });
        let listed: Map<String, Value> = listed.map(|(title, list)| (title.to_owned(), list)).collect();
        print_lossy(&Value::Object(listed).to_string());
        return Ok(exit::OK);
    }
    let mut text = String::new();
    for listed in chosen {
        match listed.schema() {
            None => text += &columns_markdown(),
            Some((name, title)) => {
                text += &format!("{title}:\n");
                for (name, about) in family(name) {
                    text += &format!("  {name:<16} {about}\n");
                }
            }
        }
    }
    print_lossy(&text);
    Ok(exit::OK)
}
