//! The command line: one file per command. Results go to stdout, logs and progress to stderr.

mod cancel;
mod collect;
mod data;
mod devices;
mod draws;
mod execute;
mod figure;
mod list;
mod merge;
mod model;
mod pipeline;
mod plan;
mod report;
mod run;
mod schema;
mod score;
mod status;
mod submit;
mod table;
mod timeline;
mod verify;
mod work;
mod worker;

use std::io::{ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::exit;
use crate::net::kernel::InstructionSet;
use crate::store::StoreError;
use crate::ui::stdout;

/// Evaluates D-Flow (controlled generation by differentiating through a pretrained flow) over whole benchmarks.
#[derive(Debug, Parser)]
#[command(name = "dflow", version, about, after_help = exit_help(), max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
struct Global {
    /// Folder holding one sub-folder per public dataset or weight set.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder with `models/`; default: the working directory, then the program's own checkout.
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// No progress, only errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Machine-readable: events or results as JSON on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Log filter, such as `debug` or `dflow::worker=trace`.
    #[arg(long, global = true, default_value = "warn", value_name = "FILTER")]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline; in a directory that holds some of its rows already, continue.
    Run(run::RunArgs),
    /// Show what a pipeline would run, without running it.
    Plan(plan::PlanArgs),
    /// Write every random draw of a pipeline (y, z, x0) as safetensors, for peers.
    Draws(draws::DrawsArgs),
    /// Solve one chunk of a submission: what a task of the cluster runs.
    Work(work::WorkArgs),
    /// One device of a run as a process of its own; started by `dflow run`.
    #[command(hide = true)]
    Worker,
    /// Run a pipeline on a cluster: as arrays of Slurm, or as a job of Kubernetes.
    Submit(submit::SubmitArgs),
    /// Cancel what was submitted of a run; rows that are done stay.
    Cancel(cancel::CancelArgs),
    /// Merge, check and tabulate a submission, and submit again what failed; the last job of a submission runs this.
    Collect(collect::CollectArgs),
    /// Show how far a run is.
    Status(status::StatusArgs),
    /// Merge journals and parts of a run into `samples.parquet`.
    Merge(merge::MergeArgs),
    /// Check a run against its plan, or against another run bit for bit; writes nothing.
    Verify(verify::VerifyArgs),
    /// Print one of the paper's tables from a run.
    Table(table::TableArgs),
    /// Draw one of the paper's figures from a run, as SVG and PNG, with the plotted numbers as Parquet and CSV.
    Figure(figure::FigureArgs),
    /// Show when every device solved what, as a picture and a table.
    Timeline(timeline::TimelineArgs),
    /// Make metrics of a finished run again from its reconstructions, beside its rows.
    Score(score::ScoreArgs),
    /// Draw the picture grid of a run.
    Report(report::ReportArgs),
    /// Datasets: list them, or look at one.
    Data(data::DataArgs),
    /// Models: list, check, import, fetch public weights, time an evaluation.
    Model(model::ModelArgs),
    /// Show the devices, cores and memory that a run would use here.
    Devices(devices::DevicesArgs),
    /// List methods, operators, solvers, stop rules, metrics and columns.
    List(list::ListArgs),
    /// Print the JSON schema of pipeline files, or write the generated files.
    Schema(schema::SchemaArgs),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

fn exit_help() -> String {
    let lines = exit::ALL.iter().map(|(code, meaning)| format!("  {code:<4} {meaning}"));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// An error with the exit code that it asks for.
#[derive(Debug)]
struct CliError {
    code: i32,
    text: String,
}

impl CliError {
    /// Wrong input: nothing was done.
    fn usage(error: impl std::fmt::Display) -> Self {
        Self { code: exit::USAGE, text: error.to_string() }
    }

    /// The run directory: a conflict is wrong input, a refusal of the file system may be this machine's alone, everything
    /// else is a failure.
    fn store(error: StoreError) -> Self {
        let usage = matches!(
            error,
            StoreError::Conflict { .. }
                | StoreError::OtherDataset { .. }
                | StoreError::Reserved { .. }
                | StoreError::NoRun { .. }
        );
        let code = match &error {
            _ if usage => exit::USAGE,
            // A file is in the way, elsewhere as well.
            StoreError::Io { source, .. } if source.kind() == ErrorKind::NotADirectory => exit::USAGE,
            StoreError::Io { .. } => exit::UNWRITABLE,
            _ => exit::FAILURE,
        };
        Self { code, text: error.to_string() }
    }

    /// Anything else.
    fn failure(error: impl std::fmt::Display) -> Self {
        Self { code: exit::FAILURE, text: error.to_string() }
    }
}

/// What a command answers: an exit code, or an error that carries one.
type CliResult = Result<i32, CliError>;

/// Parses the command line, runs the command, and maps its end to an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_task = matches!(cli.command, Command::Work(_));
    let ended = init_logs(&cli.global.log).and_then(|()| dispatch(cli));
    let code = match ended.and_then(|code| printed(code, is_task)) {
        Ok(code) => code,
        Err(CliError { code, text }) => {
            eprintln_lossy(&format!("error: {text}"));
            code
        }
    };
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The end of a command, if stdout took all that it printed. A code by which others go on stays, and every code of a task:
/// its results are rows, and what it prints is but a line in its log.
fn printed(code: i32, is_task: bool) -> CliResult {
    let Some(error) = stdout::refused() else { return Ok(code) };
    let stays = is_task || [exit::DEVICES, exit::UNWRITABLE, exit::STOPPED_EARLY].contains(&code);
    let text = format!(
        "cannot write to stdout: {error}; what was printed is not whole: make room, or send it elsewhere"
    );
    Err(CliError { code: if stays { code } else { exit::FAILURE }, text })
}

fn dispatch(cli: Cli) -> CliResult {
    // `DFLOW_CPU` is a column of every row.
    InstructionSet::detect().map_err(CliError::usage)?;
    let global = cli.global;
    match cli.command {
        Command::Run(args) => run::run(&args, &global),
        Command::Submit(args) => submit::run(&args, &global),
        Command::Cancel(args) => cancel::run(&args, &global),
        Command::Collect(args) => collect::run(&args, &global),
        Command::Plan(args) => plan::run(&args, &global),
        Command::Draws(args) => draws::run(&args, &global),
        Command::Work(args) => work::run(&args, &global),
        Command::Worker => worker::run(),
        Command::Status(args) => status::run(&args, &global),
        Command::Merge(args) => merge::run(&args, &global),
        Command::Verify(args) => verify::run(&args, &global),
        Command::Table(args) => table::run(&args, &global),
        Command::Figure(args) => figure::run(&args, &global),
        Command::Report(args) => report::run(&args, &global),
        Command::Timeline(args) => timeline::run(&args, &global),
        Command::Score(args) => score::run(&args, &global),
        Command::Data(args) => data::run(&args, &global),
        Command::Model(args) => model::run(&args, &global),
        Command::Devices(args) => devices::run(&args, &global),
        Command::List(args) => list::run(&args, &global),
        Command::Schema(args) => schema::run(&args, &global),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "dflow", &mut script);
            print_lossy(&String::from_utf8_lossy(&script));
            Ok(exit::OK)
        }
    }
}

fn init_logs(filter: &str) -> Result<(), CliError> {
    // Remarks of the drawing libraries, such as on the second font that signs are taken from, are no news.
    let quiet = format!("usvg=error,tiny_skia=error,{filter}");
    let filter = tracing_subscriber::EnvFilter::try_new(quiet).map_err(|error| {
        CliError::usage(format!(
            "--log {filter}: {error}; write a level such as `debug`, or `dflow::worker=trace`"
        ))
    })?;
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .without_time();
    // Only tests that call twice get an error here, and the first filter stays.
    let _ = logs.try_init();
    Ok(())
}

/// Prints a result; a reader that has gone away (`| head`) is no error, anything else is one of the [end](printed).
fn print_lossy(text: &str) {
    stdout::print(text);
}

fn eprintln_lossy(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
