//! `dflow model fetch`: public weights.

use std::io::IsTerminal;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::{CliError, CliResult, Global, eprintln_lossy, print_lossy};
use crate::exit;
use crate::fetch::{Download, FetchError, Fetched, Patience};
use crate::net::model::{PublicFile, public_files};

/// Options of `dflow model fetch`.
#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    /// Names under `models/`, such as `imagenet128` or `lpips/alex`.
    #[arg(conflicts_with = "all")]
    names: Vec<String>,
    /// The public files of all models.
    #[arg(long)]
    all: bool,
    /// Only compare the files that are here with their hashes; nothing is fetched.
    #[arg(long)]
    check: bool,
}

pub(super) fn run(args: &FetchArgs, global: &Global) -> CliResult {
    let files = wanted(args, global)?;
    let (mut lines, mut list, mut code) = (Vec::new(), Vec::new(), exit::OK);
    for file in &files {
        let (text, value) = match result(file, args.check, global) {
            Ok(Some(fetched)) => (said(file, &fetched), json!({ "fetched": fetched })),
            Ok(None) => {
                if code == exit::OK {
                    code = exit::INCOMPLETE;
                }
                (format!("{}: not here; it is at {}", file.path.display(), file.source.url), Value::Null)
            }
            Err(error) => {
                code = exit::FAILURE;
                (error.to_string(), json!({ "error": error.to_string() }))
            }
        };
        lines.push(format!("{}: {text}", file.model));
        list.push(json!({ "model": file.model, "path": file.path, "url": file.source.url, "result": value }));
    }
    print_lossy(&if global.json { Value::from(list).to_string() } else { lines.join("\n") });
    Ok(code)
}

fn wanted(args: &FetchArgs, global: &Global) -> Result<Vec<PublicFile>, CliError> {
    let (home, data) = (global.home.as_deref(), global.data.as_deref());
    let of = |name: Option<&str>| public_files(name, home, data).map_err(CliError::usage);
    if args.all {
        return of(None);
    }
    if args.names.is_empty() {
        return Err(CliError::usage("name models, such as `imagenet128` or `lpips/alex`, or say --all"));
    }
    let mut files = Vec::new();
    for name in &args.names {
        let found = of(Some(name))?;
        if found.is_empty() {
            let error = format!(
                "the model `{name}` names no public files: its weights are shipped, or it says in `about` \
                                 where they are"
            );
            return Err(CliError::usage(error));
        }
        files.extend(found);
    }
    Ok(files)
}

/// The file as it is here at the end; none if it is only looked for, and not there.
fn result(file: &PublicFile, check: bool, global: &Global) -> Result<Option<Fetched>, FetchError> {
    let download = Download {
        url: &file.source.url,
        path: &file.path,
        sha256: file.source.sha256.as_deref(),
        patience: Patience::default(),
    };
    if check {
        return if file.path.exists() { download.present().map(Some) } else { Ok(None) };
    }
    let mut progress = Progress::new(file, global);
    download.run(&mut |here, total| progress.show(here, total)).map(Some)
}

fn said(file: &PublicFile, fetched: &Fetched) -> String {
    let Fetched { bytes, sha256, blake3, verified, .. } = fetched;
    let hash = if *verified {
        "as stated"
    } else {
        "unverified: no public source states one; `fetch` records it beside the file"
    };
    let note = file.source.note.as_ref().map_or(String::new(), |note| format!("\n  {}", note.trim()));
    format!("{}: {bytes} bytes\n  sha256 {sha256} ({hash})\n  blake3 {blake3}{note}", file.path.display())
}

/// A bar on a terminal, a line at every tenth elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    quiet: bool,
    tenths: u64,
}

impl Progress {
    fn new(file: &PublicFile, global: &Global) -> Self {
        let quiet = global.quiet || global.json;
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(0).with_message(file.source.file().to_owned());
            let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
            bar.with_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        Self { bar, name: file.source.file().to_owned(), quiet, tenths: 0 }
    }

    fn show(&mut self, here: u64, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            bar.set_length(total.unwrap_or(here));
            bar.set_position(here);
            return;
        }
        let tenths = total.map_or(0, |total| 10 * here / total.max(1));
        if !self.quiet && tenths > self.tenths {
            self.tenths = tenths;
            eprintln_lossy(&format!("{}: {here} of {} bytes", self.name, total.unwrap_or(here)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
