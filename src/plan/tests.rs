//! Plans against a small made-up world.

use std::collections::BTreeSet;

use super::*;
use crate::spec::dataset::DatasetRef;
use crate::spec::diagnostic::Source;
use crate::spec::document::Document;
use crate::spec::property::Property;

const PIPELINE: &str = "
name: small
dataset: { name: toy }
model: net
tasks:
  - { name: hole, operator: { center_mask: { size: 10 } } }
  - { name: blur-noisy, operator: { gaussian_blur: { sigma: 1 } }, noise: 0.05 }
methods:
  - dflow:
      stop: [ { target_psnr: 45 }, { evals: 300 } ]
      per_task: { blur-noisy: { regularizer: { chi: 0.01 } } }
  - pinv: {}
output: reports/small
";

/// A dataset of ten images and one network, each of which a test can spoil.
struct World {
    dataset: DatasetInfo,
    model: ModelInfo,
}

const SHAPE: StateShape = StateShape::Image(ImageShape { channels: 3, height: 32, width: 32 });
const TALL: StateShape = StateShape::Image(ImageShape { channels: 3, height: 64, width: 32 });

impl World {
    fn new() -> Self {
        let samples = (0..10).map(|i| format!("s{i}")).collect();
        let (id, manifest, split) = ("toy".to_owned(), "m0".to_owned(), "test".to_owned());
        let dataset = DatasetInfo { id, manifest, split, shape: SHAPE, classes: 10, samples };
        Self {
            dataset,
            model: ModelInfo {
                identity: "w0".to_owned(),
                shape: SHAPE,
                classes: 10,
                predicts_noise: false,
                finish: false,
                gpu_only: false,
            },
        }
    }
}

impl Resources for World {
    fn dataset(&self, reference: &DatasetRef) -> Result<DatasetInfo, String> {
        if reference.name == "toy" {
            Ok(self.dataset.clone())
        } else {
            Err(format!("no dataset {}", reference.name))
        }
    }

    fn model(&self, reference: &ModelRef, _: &DatasetRef) -> Result<ModelInfo, String> {
        if *reference == ModelRef::Name("missing".to_owned()) {
            return Err("the weights of missing are not there".to_owned());
        }
        Ok(self.model.clone())
    }

    fn classifier(&self, reference: &str) -> Result<ClassifierInfo, String> {
        let property = Property::ALL.into_iter().find(|property| reference.ends_with(property.key()));
        let property = property.ok_or_else(|| format!("there is no classifier {reference}"))?;
        Ok(ClassifierInfo { identity: reference.to_owned(), property, small: true, held_out: None })
    }

    fn metric(&self, metric: &MetricSpec) -> Result<(), String> {
        match metric {
            MetricSpec::Features(name) if name == "broken" => Err("its weights are damaged".to_owned()),
            _ => Ok(()),
        }
    }

    fn operator(&self, operator: &OperatorSpec, _: ImageShape) -> Result<(), String> {
        let heavy = matches!(operator, OperatorSpec::RandomMask(_));
        if heavy { Err("no such mask can be built".to_owned()) } else { Ok(()) }
    }

    fn initial_points(&self, path: &str, _: &DatasetInfo) -> Result<String, String> {
        if path == "points" { Ok("p0".to_owned()) } else { Err(format!("there is no file {path}")) }
    }
}

fn resolve(text: &str, world: &World) -> Result<Plan, String> {
    let document = Document::parse(Source { name: "p.yaml".to_owned(), text: text.to_owned() }).unwrap();
    Plan::resolve(&document, world).map_err(|error| error.to_string())
}

fn plan(text: &str) -> Plan {
    resolve(text, &World::new()).unwrap()
}

fn hashes(plan: &Plan) -> Vec<CellHash> {
    plan.cells.iter().map(|cell| cell.hash).collect()
}

#[test]
fn cells_are_tasks_by_methods_with_per_task_applied() {
    let plan = plan(PIPELINE);
    let names: Vec<_> = plan.cells.iter().map(|cell| (&*cell.task, &*cell.method)).collect();
    assert_eq!(names, [("hole", "dflow"), ("hole", "pinv"), ("blur-noisy", "dflow"), ("blur-noisy", "pinv")]);
    let penalty = |cell: &Cell| match &cell.solve {
        MethodSpec::Dflow(dflow) => format!("{:?}", dflow.regularizer),
        _ => String::new(),
    };
    assert_eq!(plan.cells.iter().map(penalty).collect::<Vec<_>>(), ["None", "", "Chi(0.01)", ""]);
    assert_eq!(plan.cells[1].model, None);
    assert_eq!(hashes(&plan).iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn a_method_can_be_limited_to_some_tasks() {
    let limited = plan(&PIPELINE.replace("pinv: {}", "pinv: { tasks: [hole] }"));
    let names: Vec<_> = limited.cells.iter().map(|cell| (&*cell.task, &*cell.method)).collect();
    assert_eq!(names, [("hole", "dflow"), ("hole", "pinv"), ("blur-noisy", "dflow")]);
    assert_eq!(hashes(&limited)[..], hashes(&plan(PIPELINE))[..3], "the limit determines no number");
}

#[test]
fn two_names_for_one_cell_are_refused() {
    let twins = PIPELINE.replace("  - pinv: {}", "  - pinv: {}\n  - pinv: { name: again }");
    let error = resolve(&twins, &World::new()).unwrap_err();
    let message = "task `hole`, method `again` is the same as task `hole`, method `pinv`: remove one of them";
    assert!(error.contains(message), "{error}");
}

#[test]
fn the_hash_ignores_what_does_not_determine_the_numbers() {
    let base = hashes(&plan(PIPELINE));
    for (from, to) in [
        ("name: small", "name: large"),
        ("{ name: toy }", "{ name: toy, limit: 3 }"),
        ("model: net", "model: other-name-of-net"),
        (
            "output: reports/small",
            "output: elsewhere\ndevices: cpu:2\nmetrics: [psnr]\nsave: [reconstructions]",
        ),
        ("  - dflow:\n", "  - dflow:\n      name: d-flow\n"),
        ("name: hole", "name: inpainting"),
        ("noise: 0.05", "noise: 0.050"),
        ("      stop:", "      init: { blend: 0.1 }\n      optimizer: { lbfgs: {} }\n      stop:"),
    ] {
        assert!(PIPELINE.contains(from), "{from}");
        assert_eq!(hashes(&plan(&PIPELINE.replacen(from, to, 1))), base, "{to}");
    }
}

#[test]
fn the_hash_follows_everything_that_determines_the_numbers() {
    let base = plan(PIPELINE).cells[2].hash;
    for (from, to) in [
        ("noise: 0.05", "noise: 0.06"),
        ("sigma: 1 ", "sigma: 1.5 "),
        ("chi: 0.01", "chi: 0.02"),
        ("evals: 300", "evals: 301"),
        ("model: net", "model: net\nseed: 1"),
        ("      stop:", "      solver: { midpoint: { nfe: 8 } }\n      stop:"),
        ("      stop:", "      init: source\n      stop:"),
        ("      stop:", "      init: { given: points }\n      stop:"),
    ] {
        assert!(PIPELINE.contains(from), "{from}");
        assert_ne!(plan(&PIPELINE.replacen(from, to, 1)).cells[2].hash, base, "{to}");
    }
    for spoil in [
        |world: &mut World| world.dataset.manifest = "m1".to_owned(),
        |world: &mut World| world.dataset.id = "toy2".to_owned(),
        |world: &mut World| world.model.identity = "w1".to_owned(),
    ] {
        let mut world = World::new();
        spoil(&mut world);
        assert_ne!(resolve(PIPELINE, &world).unwrap().cells[2].hash, base);
    }
}

/// Rows of finished runs are found by this hash: it changes only with `NUMERICS`, on purpose.
#[test]
fn the_hash_of_a_known_cell_is_pinned() {
    let cell = &plan(PIPELINE).cells[3];
    let expected = "{\"dataset\":{\"id\":\"toy\",\"manifest\":\"m0\"},\"method\":{\"pinv\":{}},\"noise\":5e-2,\"numerics\":2,\
                    \"operator\":{\"gaussian_blur\":{\"boundary\":\"reflect\",\"pinv_cutoff\":\"none\",\"sigma\":1e0,\"size\":61}},\
                    \"seed\":0}";
    assert_eq!(identity::canonical(&cell.determinants), expected);
    assert_eq!(cell.hash.to_string(), blake3::hash(expected.as_bytes()).to_hex().to_string());
    assert_eq!(cell.hash.to_string().parse(), Ok(cell.hash));
}

#[test]
fn everything_missing_is_reported_together_and_placed() {
    let text = PIPELINE
        .replace("size: 10", "size: 32")
        .replace("model: net", "model: missing")
        .replace("  - pinv: {}", "  - dflow: { name: b, stop: [], init: { given: nowhere } }");
    let error = resolve(&text, &World::new()).unwrap_err();
    for message in [
        "4 errors in p.yaml",
        "p.yaml:4:8: the weights of missing are not there",
        "p.yaml:6:52: a hole of 32×32 leaves nothing of an image of 3×32×32",
        "p.yaml:12:23: nothing would end a solve of hole, blur-noisy: stop lists no rule",
        "there is no file nowhere",
    ] {
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn what_does_not_fit_the_dataset_or_model_is_refused() {
    for (from, to, message) in [
        ("{ name: toy }", "{ name: cats }", "no dataset cats"),
        ("{ center_mask: { size: 10 } }", "{ bicubic: { factor: 3 } }", "does not divide"),
        ("sigma: 1 ", "sigma: 1, size: 65 ", "at most 63 taps"),
        ("{ center_mask: { size: 10 } }", "{ random_mask: { keep: 0.5 } }", "no such mask can be built"),
        ("      stop:", "      condition: { fixed: 10 }\n      stop:", "label 10 is out of range"),
        ("      stop:", "      condition: none\n      stop:", "must be told one"),
    ] {
        assert!(PIPELINE.contains(from), "{from}");
        let error = resolve(&PIPELINE.replacen(from, to, 1), &World::new()).expect_err(to);
        assert!(error.contains(message), "{error}");
    }
    let spoils: [(fn(&mut World), &str); 4] = [
        (|world| world.dataset.samples.clear(), "has no sample"),
        (|world| world.dataset.samples[3] = "s1".to_owned(), "two samples `s1`, at places 1 and 3"),
        (|world| world.model.shape = TALL, "makes images of 3×64×32"),
        (|world| world.model.classes = 5, "labels are out of range"),
    ];
    for (spoil, message) in spoils {
        let mut world = World::new();
        spoil(&mut world);
        let error = resolve(PIPELINE, &world).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_changed_cell_of_a_known_name_is_a_conflict_that_says_what_differs() {
    let old = plan(PIPELINE);
    let hashes: Vec<String> = old.cells.iter().map(|cell| cell.hash.to_string()).collect();
    let rows = || old.cells.iter().zip(&hashes).map(|(cell, hash)| (&*cell.task, &*cell.method, &**hash));
    assert_eq!(old.conflicts(rows(), &old.cells), []);
    let new = plan(&PIPELINE.replace("evals: 300", "evals: 400").replace("noise: 0.05", "noise: 0.1"));
    let conflicts = new.conflicts(rows(), &old.cells);
    let texts: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 3, "the pinv row without noise is as before");
    assert!(texts[0].contains("task `hole`, method `dflow`"), "{texts:?}");
    assert!(texts[0].contains("method.dflow.stop[1].evals: 300 there, 400 here"), "{texts:?}");
    assert!(texts[1].contains("noise: 0.05 there, 0.1 here"), "{texts:?}");
    let unexplained = new.conflicts(rows(), &[]);
    assert_eq!(unexplained.len(), 3);
    assert!(unexplained[0].to_string().contains("(run.json is missing"), "{}", unexplained[0]);
}

#[test]
fn shards_share_out_the_units_and_keep_a_samples_cells_together() {
    let plan = plan(PIPELINE);
    let whole: BTreeSet<Unit> = plan.units(Shard::WHOLE).collect();
    assert_eq!(whole.len(), 40);
    let parts: Vec<BTreeSet<Unit>> =
        ["1/3", "2/3", "3/3"].iter().map(|text| plan.units(text.parse().unwrap()).collect()).collect();
    assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), 40);
    assert_eq!(parts.iter().flatten().copied().collect::<BTreeSet<_>>(), whole);
    for part in &parts {
        let samples: BTreeSet<usize> = part.iter().map(|unit| unit.sample).collect();
        assert_eq!(part.len(), samples.len() * 4);
    }
}

#[test]
fn a_limit_keeps_the_first_samples() {
    let plan = plan(&PIPELINE.replace("{ name: toy }", "{ name: toy, limit: 3 }"));
    assert_eq!(plan.dataset.samples, ["s0", "s1", "s2"]);
}

#[test]
fn the_summary_counts_what_is_done_and_bounds_the_rest() {
    let plan = plan(PIPELINE);
    let keys = |unit: Unit| (plan.key(unit).0, plan.key(unit).1.to_owned());
    let mut finished: BTreeSet<_> =
        plan.units(Shard::WHOLE).filter(|unit| unit.cell == 0).map(keys).collect();
    finished.insert((plan.cells[2].hash, "not planned".to_owned()));
    let summary = Summary::new(&plan, Shard::WHOLE, &finished);
    assert_eq!((summary.planned(), summary.done(), summary.remaining()), (40, 10, 30));
    // 300 evaluations of 6 calls forward and 6 back, and one backward solve.
    assert_eq!(summary.cells[2].calls_per_row, Some(3606));
    assert_eq!(summary.calls(), Some(36060));
    let part = Summary::new(&plan, "1/4".parse().unwrap(), &finished);
    assert_eq!((part.samples, part.planned(), part.done()), (3, 12, 3));
}

#[test]
fn a_plan_survives_json() {
    let plan = plan(PIPELINE);
    let json = serde_json::to_string(&plan).unwrap();
    let read: Plan = serde_json::from_str(&json).unwrap();
    assert_eq!(read, plan);
    assert_eq!(
        read.cells.iter().map(|cell| CellHash::of(&cell.determinants)).collect::<Vec<_>>(),
        hashes(&plan)
    );
}

/// A dataset of molecule targets and a diffusion model of molecules.
fn molecules() -> World {
    let shape = StateShape::Molecule(MoleculeShape { max_atoms: 29 });
    let world = World::new();
    let dataset = DatasetInfo { shape, classes: 0, ..world.dataset };
    World { dataset, model: ModelInfo { shape, classes: 0, predicts_noise: true, ..world.model } }
}

const MOLECULES: &str = "
name: small
dataset: { name: toy }
model: net
tasks:
  - { name: alpha, property: { name: alpha, classifier: small-alpha } }
  - { name: free, generate: {} }
methods:
  - dflow:
      tasks: [alpha]
      init: source
      loss: { squared_error: measurement }
      normalize: { per_feature: {} }
      stop: [ { outer_steps: 5 } ]
  - sample: {}
  - ancestral: { tasks: [free], steps: 200 }
output: reports/small
";

#[test]
fn properties_and_generation_are_cells_of_molecules() {
    let plan = resolve(MOLECULES, &molecules()).unwrap();
    let names: Vec<_> = plan.cells.iter().map(|cell| (&*cell.task, &*cell.method)).collect();
    let expected = [("alpha", "dflow"), ("alpha", "sample"), ("free", "sample"), ("free", "ancestral")];
    assert_eq!(names, expected);
    assert_eq!(plan.metrics, [MetricSpec::Molecule], "image metrics are left out");
    assert!(plan.cells[0].goal.property().is_some_and(|goal| goal.classifier.small));
    assert_eq!(hashes(&plan).iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn the_target_and_the_classifier_determine_a_property_cell() {
    let base = hashes(&resolve(MOLECULES, &molecules()).unwrap());
    let alpha = "classifier: small-alpha";
    for (to, same) in
        [("classifier: other-alpha", false), ("classifier: small-alpha, value: 70", false), (alpha, true)]
    {
        let other = hashes(&resolve(&MOLECULES.replace(alpha, to), &molecules()).unwrap());
        assert_eq!(other[0] == base[0], same, "{to}");
        assert_eq!(other[2..], base[2..], "generation looks at no property");
    }
}

#[test]
fn what_does_not_fit_molecules_is_said_together() {
    let cases = [
        (
            "property: { name: alpha, classifier: small-alpha }",
            "operator: { center_mask: { size: 4 } }",
            "`operator` is not for molecules",
        ),
        ("classifier: small-alpha", "classifier: small-mu", "the classifier small-mu reads mu, not alpha"),
        ("classifier: small-alpha", "classifier: none", "there is no classifier none"),
        ("classifier: small-alpha", "classifier: ''", "needs a classifier"),
        ("small-alpha }", "small-alpha, value: .nan }", "value must be a finite number"),
        ("init: source", "init: { blend: 0.1 }", "no measurement that could be inverted"),
        ("squared_error: measurement", "neg_psnr: measurement", "compares a property with its target"),
        ("outer_steps: 5", "target_psnr: 30", "target_psnr is for images"),
        ("outer_steps: 5", "noise_level: 1", "noise_level is for images"),
        ("tasks: [alpha]", "tasks: [alpha, free]", "there is nothing to optimise for"),
        ("steps: 200", "steps: 0", "steps must be at least 1"),
        ("generate: {}", "noise: 0.1, generate: {}", "only the measurement of an `operator` has noise"),
        ("generate: {}", "noise: 0", "needs one of `operator`, `property` and `generate`"),
        ("sample: {}", "pinv: {}", "there is no operator to invert"),
        ("{ per_feature: {} }", "{ per_feature: { std: some } }", "some"),
    ];
    for (from, to, message) in cases {
        let text = MOLECULES.replace(from, to);
        assert_ne!(text, MOLECULES, "{from}");
        let source = Source { name: "p.yaml".to_owned(), text };
        let error = match Document::parse(source) {
            Ok(document) => Plan::resolve(&document, &molecules()).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(message), "{to}: {error}");
    }
    let velocity = World { model: ModelInfo { predicts_noise: false, ..molecules().model }, ..molecules() };
    let error = resolve(MOLECULES, &velocity).unwrap_err();
    assert!(error.contains("needs a diffusion model that predicts the noise"), "{error}");
}

#[test]
fn what_does_not_fit_images_is_said() {
    for (from, to, message) in [
        (
            "operator: { center_mask: { size: 10 } }",
            "property: { name: mu, classifier: small-mu }",
            "`property` is not for images",
        ),
        (
            "stop: [ { target_psnr: 45 }, { evals: 300 } ]",
            "stop: [ { evals: 9 } ]\n      normalize: { per_feature: {} }",
            "over the atoms of a molecule",
        ),
        ("pinv: {}", "sample: {}", "does not look at the measurement"),
    ] {
        let text = PIPELINE.replace(from, to);
        assert_ne!(text, PIPELINE, "{from}");
        let error = resolve(&text, &World::new()).unwrap_err();
        assert!(error.contains(message), "{to}: {error}");
    }
}

#[test]
fn networks_of_metrics_are_checked_before_any_work() {
    let with = |metrics: &str| {
        let text = format!("{PIPELINE}metrics: {metrics}\n");
        resolve(&text, &World::new()).map(|plan| plan.metrics)
    };
    let metrics = with("[ psnr, { lpips: alex }, { features: mini } ]").unwrap();
    assert_eq!(metrics.len(), 3);
    assert!(with("[ { features: broken } ]").unwrap_err().contains("its weights are damaged"));
    assert!(with("[ { lpips: alex }, { lpips: vgg } ]").unwrap_err().contains("a second trunk of LPIPS"));
    assert!(with("[ { features: '' } ]").unwrap_err().contains("is empty"));
    assert!(with("[ psnr, psnr ]").is_err());
}

#[test]
fn metrics_are_no_part_of_a_cell() {
    let hashes_with =
        |metrics: &str| hashes(&resolve(&format!("{PIPELINE}metrics: {metrics}\n"), &World::new()).unwrap());
    assert_eq!(hashes_with("[ psnr ]"), hashes_with("[ ssim, { features: mini } ]"));
}
