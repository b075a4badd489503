//! `dflow table N RUN --explain METHOD/TASK`: the resolved configuration of a table's cell.

use serde_json::{Value, json};

use crate::cli::CliError;
use crate::plan::{Cell, Plan};

/// The cells whose method and task begin with the two parts of `wanted` (`d-flow/inpainting`), as JSON.
///
/// # Errors
/// When no cell matches: names what there is.
pub(super) fn explain(plan: &Plan, wanted: &str) -> Result<String, CliError> {
    let (method, task) = wanted.split_once('/').unwrap_or((wanted, ""));
    let exact = |cell: &&Cell| cell.method == method && cell.task == task;
    let begins = |cell: &&Cell| cell.method.starts_with(method) && cell.task.starts_with(task);
    let mut cells: Vec<&Cell> = plan.cells.iter().filter(exact).collect();
    if cells.is_empty() {
        cells = plan.cells.iter().filter(begins).collect();
    }
    if cells.is_empty() {
        let names = plan.cells.iter().map(|cell| format!("{}/{}", cell.method, cell.task));
        let names = names.collect::<Vec<_>>().join(", ");
        return Err(CliError::usage(format!(
            "--explain: no cell begins with `{wanted}` (METHOD/TASK); there are {names}"
        )));
    }
    let explained: Vec<Value> = cells.into_iter().map(|cell| explained(plan, cell)).collect();
    serde_json::to_string_pretty(&explained).map_err(CliError::failure)
}

fn explained(plan: &Plan, cell: &Cell) -> Value {
    json!({
        "method": cell.method,
        "task": cell.task,
        "goal": cell.goal,
        "solve": cell.solve,
        "model": cell.model,
        "dataset": { "id": plan.dataset.id, "split": plan.dataset.split, "manifest": plan.dataset.manifest },
        "seed": plan.seed,
        "metrics": plan.metrics,
        "cell_hash": cell.hash,
        "hash_of": cell.determinants,
    })
}
