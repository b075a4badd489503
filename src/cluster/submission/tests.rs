//! What is frozen, read back, damaged and changed.

use super::*;
use crate::cluster::chunks::Stretch;
use crate::plan::toy::Toy;

/// A pipeline of two tasks; `text` adds top-level keys, `methods` among them.
pub(in crate::cluster) fn document_of(text: &str) -> Document {
    let text = format!(
        "name: small\ndataset: {{ name: toy }}\nmodel: toy\noutput: reports/small\n\
         tasks: [ {{ name: a, operator: {{ center_mask: {{ size: 10 }} }} }}, {{ name: b, operator: {{ center_mask: {{ size: 4 }} }} }} ]\n\
         {text}\n"
    );
    Document::parse(Source { name: "small.yaml".to_owned(), text }).unwrap()
}

/// Its plan, on ten images.
pub(in crate::cluster) fn plan_of(text: &str) -> Plan {
    Plan::resolve(&document_of(text), &Toy(10)).unwrap()
}

pub(in crate::cluster) const PINV: &str = "methods: [ pinv: {} ]";

/// A submission of two chunks of the plan of [`PINV`] for the run in `root`: all of task a, half of task b.
pub(in crate::cluster) fn submission_in(root: &Path, cluster: ClusterSpec) -> Submission {
    let document = document_of(PINV);
    let plan = plan_of(PINV);
    let new = New {
        document: &document,
        plan: &plan,
        engine: Engine::Slurm,
        home: None,
        data: Some(PathBuf::from("data")),
        directory: PathBuf::from("/home/user/work"),
        options: options(),
        cluster,
        command: "/home/user/bin/dflow".to_owned(),
    };
    let chunk = |cell, count| Chunk {
        seconds: 5.0,
        units: vec![Stretch { cell, first: 0, count }],
        checkpoints: Vec::new(),
    };
    Submission::new(root, &new, vec![chunk(0, 10), chunk(1, 5)])
}

fn options() -> WorkOptions {
    WorkOptions {
        slots: "auto".to_owned(),
        memory: "auto".to_owned(),
        keep_failed: false,
        checkpoint_every: 60,
    }
}

fn created(root: &Path) -> Submission {
    let submission = submission_in(root, ClusterSpec::default());
    submission.create(&document_of(PINV)).unwrap();
    submission
}

#[test]
fn what_is_frozen_reads_back_and_names_its_units() {
    let root = tempfile::tempdir().unwrap();
    let written = created(root.path());
    let read = Submission::open(written.dir()).unwrap();
    assert_eq!((read.file(), read.chunks()), (written.file(), written.chunks()));
    assert_eq!((read.run_dir(), read.file().units), (root.path(), 15));
    assert_eq!(read.file().data.as_deref(), Some(Path::new("/home/user/work/data")));
    let plan = plan_of(PINV);
    assert_eq!(read.units(&plan, 0).unwrap().len(), 10);
    assert_eq!(read.units(&plan, 1).unwrap()[4], Unit { cell: 1, sample: 4 });
    let document = read.document().unwrap();
    assert_eq!(document.spec.output, root.path().display().to_string());
    assert_eq!(document.source().text, document_of(PINV).source().text);
    assert!(read.tag(7).starts_with("c7s") && read.id().ends_with(read.short()), "{}", read.tag(7));
    assert_eq!(Submission::all(root.path()).unwrap().len(), 1);
    assert!(Submission::all(Path::new("/nowhere")).unwrap().is_empty());
}

#[test]
fn samples_are_found_by_their_ids_where_the_list_changed() {
    let root = tempfile::tempdir().unwrap();
    let submission = created(root.path());
    let mut plan = plan_of(PINV);
    plan.dataset.samples.insert(0, "new".to_owned());
    assert_eq!(submission.units(&plan, 1).unwrap()[4], Unit { cell: 1, sample: 5 });
    plan.dataset.samples.retain(|id| id != "s3");
    let error = submission.units(&plan, 1).unwrap_err().to_string();
    assert!(error.contains("sample `s3`") && error.contains("submit again"), "{error}");
}

#[test]
fn another_cell_is_an_error_that_names_it() {
    let root = tempfile::tempdir().unwrap();
    let submission = created(root.path());
    let plan = plan_of("seed: 3\nmethods: [ pinv: {} ]");
    let error = submission.units(&plan, 1).unwrap_err().to_string();
    assert!(error.contains("task `b`, method `pinv`") && error.contains("submit again"), "{error}");
    let error = submission.units(&plan_of(PINV), 2).unwrap_err().to_string();
    assert!(error.contains("no chunk 2") && error.contains("from 0 to 1"), "{error}");
}

#[test]
fn damaged_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let submission = created(root.path());
    let path = submission.dir().join("chunks.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, word) in [
        ("[1,0,5]", "[1,0,11]", "not in the file"),
        ("[1,0,5]", "[2,0,5]", "not in the file"),
        ("[1,0,5]", "[1,0,0]", "not in the file"),
        ("[1,0,5]", "[0,9,1]", "in two chunks"),
        ("\"dflow_chunks\":1", "\"dflow_chunks\":2", "form 2"),
        ("]}\n", "", "line"),
        (",\n{\"seconds\":5.0,\"units\":[[1,0,5]]}", "", "has 1 chunks"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = Submission::open(submission.dir()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("chunks.json"), "{error}");
    }
    let error = Submission::open(root.path()).unwrap_err().to_string();
    assert!(error.contains("is no submission"), "{error}");
}

#[test]
fn what_was_submitted_is_on_disk_before_the_next_step() {
    let root = tempfile::tempdir().unwrap();
    let mut submission = created(root.path());
    submission.update(|file| file.cancelled = true).unwrap();
    assert!(Submission::open(submission.dir()).unwrap().file().cancelled);
    std::fs::remove_dir_all(submission.dir()).unwrap();
    std::fs::write(submission.dir(), "in the way").unwrap();
    assert!(submission.update(|file| file.cancelled = false).is_err());
    assert!(submission.file().cancelled, "it is what the file says");
}

#[test]
fn writers_of_the_same_moment_lose_nothing_of_each_other() {
    let root = tempfile::tempdir().unwrap();
    let submission = created(root.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut submission = submission.clone();
            scope
                .spawn(move || (0..10).for_each(|i| submission.update(|file| file.missing.push(i)).unwrap()));
        }
    });
    assert_eq!(Submission::open(submission.dir()).unwrap().file().missing.len(), 40);
}
