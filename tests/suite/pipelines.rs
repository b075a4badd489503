//! The shipped pipeline files: they read, they mean something, and those of the paper say what the paper says.

use std::path::{Path, PathBuf};

use dflow::report::settings;
use dflow::spec::check::check;
use dflow::spec::document::Document;
use dflow::spec::init::InitSpec;
use dflow::spec::method::{
    DflowSpec, LossSpace, LossSpec, MethodSpec, NormalizeSpec, OptimizerSpec, RegularizerSpec,
};
use dflow::spec::pipeline::{PipelineSpec, TaskSpec};
use dflow::spec::solver::{FixedSteps, SolverSpec};
use dflow::spec::stop::StopRule;
use dflow::store::fs::OsFs;
use dflow::store::{Columns, Layout, read_samples};

use crate::run_test::RunTest;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> PipelineSpec {
    let path = root().join("pipelines").join(name);
    let document = Document::read(&path).unwrap_or_else(|error| panic!("{error}"));
    document.report(check(&document.spec)).unwrap_or_else(|error| panic!("{error}"));
    document.spec
}

fn shipped() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("pipelines")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn every_shipped_pipeline_is_right_and_names_its_schema() {
    assert!(shipped().len() >= 13);
    for path in shipped() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let spec = read(name);
        assert_eq!(format!("{}.yaml", spec.name), name, "a pipeline has the name of its file");
        assert_eq!(spec.output, format!("reports/{}", spec.name));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=./pipeline.schema.json\n"), "{name}");
    }
}

/// What `make bench` compares with PyTorch: the paper's algorithm, and the preset that the README names.
#[test]
fn the_fast_preset_reaches_the_target_in_half_the_evaluations() {
    let test = RunTest::new();
    let pipeline = root().join("benches/solve.yaml");
    let tasks = "inpainting-center,super-resolution-x2";
    let arguments = ["run", pipeline.to_str().unwrap(), "--limit", "1", "--tasks", tasks, "--output", "a"];
    test.run(&arguments).succeeds().stdout("4 ok");
    let rows = read_samples(&OsFs, &Layout::new(test.path("a")), Columns::WithoutTrace).unwrap();
    for task in tasks.split(',') {
        let row = |method: &str| {
            let row = rows.iter().find(|row| row.task == task && row.method == method).unwrap();
            assert_eq!(row.stop_reason.as_deref(), Some("target_psnr"), "{task}, {method}");
            row
        };
        let (paper, fast) = (row("d-flow"), row("d-flow-fast"));
        assert!(2 * fast.evals <= paper.evals, "{task}: {} of {}", fast.evals, paper.evals);
        // One sample: the path to another solution, not a measure of quality.
        assert!(fast.ssim_tm19.unwrap() > paper.ssim_tm19.unwrap() - 0.03, "{task}");
    }
}

/// Rows ended by `time_limit` are not reproducible: the small profiles do without.
#[test]
fn small_profiles_stop_by_reproducible_rules_within_a_cap() {
    for name in
        ["table1-mini.yaml", "table1-cifar10.yaml", "table9-mini.yaml", "table9-cifar10.yaml", "smoke.yaml"]
    {
        let spec = read(name);
        for (task, dflow) in resolved(&spec) {
            assert!(
                dflow.stop.iter().any(|rule| matches!(rule, StopRule::Evals(_))),
                "{name}: {}",
                task.name
            );
            assert!(
                !dflow.stop.iter().any(|rule| matches!(rule, StopRule::TimeLimit(_))),
                "{name}: {}",
                task.name
            );
        }
    }
}

#[test]
fn the_small_profiles_have_the_tasks_of_the_paper() {
    let tasks =
        |name: &str| read(name).tasks.into_iter().map(|task| (task.name, task.noise)).collect::<Vec<_>>();
    assert_eq!(tasks("table1-mini.yaml"), tasks("table1-paper.yaml"));
    assert_eq!(tasks("table1-cifar10.yaml"), tasks("table1-paper.yaml"));
}

#[test]
fn molecules_are_solved_by_the_settings_of_appendix_b_3() {
    for name in ["table4-mini.yaml", "table4-qm9.yaml", "figure6-mini.yaml", "figure6-qm9.yaml"] {
        let spec = read(name);
        assert!(spec.tasks.iter().all(|task| task.property.is_some()), "{name}");
        for (_, dflow) in resolved(&spec) {
            assert_eq!(dflow.solver, SolverSpec::Midpoint(FixedSteps { nfe: 100 }), "{name}");
            assert_eq!((dflow.init, dflow.regularizer), (InitSpec::Source, RegularizerSpec::None), "{name}");
            assert_eq!(dflow.loss, LossSpec::SquaredError(LossSpace::Measurement), "{name}");
            assert_eq!(dflow.stop, [StopRule::OuterSteps(5)], "{name}");
            assert!(matches!(dflow.normalize, NormalizeSpec::PerFeature(_)), "{name}");
            let OptimizerSpec::Lbfgs(lbfgs) = dflow.optimizer;
            assert_eq!((lbfgs.inner, lbfgs.lr, lbfgs.max_eval), (5, 1.0, None), "{name}");
        }
    }
}

#[test]
fn the_molecule_profiles_have_the_same_tasks_and_methods() {
    for table in ["table4", "table7", "figure6"] {
        let [mini, qm9] = ["mini", "qm9"].map(|profile| read(&format!("{table}-{profile}.yaml")));
        let tasks = |spec: &PipelineSpec| -> Vec<String> {
            spec.tasks.iter().map(|task| task.name.clone()).collect()
        };
        assert_eq!(tasks(&mini), tasks(&qm9));
        // A velocity network has no ancestral sampler.
        let methods = qm9.methods.iter().filter(|method| !matches!(method, MethodSpec::Ancestral(_)));
        assert!(methods.eq(&mini.methods), "{table}");
    }
}

/// Every D-Flow of a pipeline on every task.
fn resolved(spec: &PipelineSpec) -> Vec<(&TaskSpec, DflowSpec)> {
    let methods = spec.methods.iter().filter_map(|method| match method {
        MethodSpec::Dflow(dflow) => Some(dflow),
        _ => None,
    });
    methods.flat_map(|dflow| spec.tasks.iter().map(|task| (task, dflow.for_task(&task.name)))).collect()
}

#[test]
fn the_settings_of_the_paper_profile_are_those_of_its_table_6() {
    for name in ["table1-paper.yaml", "table9-paper.yaml"] {
        assert_eq!(settings::differences(&read(name)), [], "{name}");
    }
}

/// The one setting in which the small profiles differ on purpose: noisy deblurring compares (Hx, y).
#[test]
fn the_small_profiles_differ_from_table_6_in_noisy_deblurring_only() {
    for name in ["table1-mini.yaml", "table1-cifar10.yaml"] {
        let differences = settings::differences(&read(name));
        assert!(!differences.is_empty());
        for (task, _, setting) in differences {
            assert_eq!((&*task, setting), ("gaussian-deblur σ_y = 0.05", "space"), "{name}");
        }
    }
}
