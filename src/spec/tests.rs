//! Whole pipeline files, good and bad.

use proptest::prelude::*;

use super::check::check;
use super::diagnostic::Source;
use super::document::Document;
use super::init::{BlendSpec, InitSpec};
use super::method::{MethodSpec, RegularizerSpec};
use super::pipeline::PipelineSpec;
use super::solver::{FixedSteps, SolverSpec};
use super::stop::StopRule;

fn read(text: &str) -> Result<Document, String> {
    Document::parse(Source { name: "p.yaml".to_owned(), text: text.to_owned() }).map_err(|e| e.to_string())
}

const EXAMPLE: &str = r"
# yaml-language-server: $schema=./pipeline.schema.json
name: table1-mini
seed: 0
dataset: { name: mini-images, limit: 8 }     # the first n in manifest order: 8 ⊂ 64
model: mini-images                           # models/mini-images.yaml: network, weights, path, parametrisation
devices: auto        # auto | [cuda:0, cuda:1] | cpu (one worker, all allowed cores) | cpu:2 (two workers)
tasks:
  - { name: inpainting-center, operator: { center_mask: { size: 10 } }, noise: 0.0 }
  - { name: super-resolution-x2-noisy, operator: { bicubic: { factor: 2 } }, noise: 0.05 }
methods:
  - dflow:
      name: d-flow                           # default = kind; unique
      condition: { label: dataset }          # dataset | none | fixed: 7
      solver: { midpoint: { nfe: 6 } }
      init: { blend: 0.1 }
      loss: { neg_psnr: measurement }        # | pinv ; | squared_error …
      regularizer: none
      optimizer: { lbfgs: { inner: 20, history: 100 } }
      stop: [ { target_psnr: 45 }, { evals: 300 } ]      # any of them
      per_task:                              # replaces whole fields
        super-resolution-x2-noisy: { regularizer: { chi: 0.01 }, stop: [ { target_psnr: 32 }, { evals: 300 } ] }
  - pinv: {}
metrics: [ psnr, ssim ]
save: [ reconstructions ]
output: reports/table1-mini
";

/// The error of the example with `from` replaced by `to`: its text, and the characters above the carets.
fn fails(from: &str, to: &str) -> (String, String) {
    assert!(EXAMPLE.contains(from), "{from}");
    let error = read(&EXAMPLE.replacen(from, to, 1)).expect_err(to);
    let lines: Vec<&str> = error.lines().collect();
    let caret = lines.iter().position(|line| line.contains("| ") && line.trim_end().ends_with('^'));
    let under = caret.map_or(String::new(), |caret| {
        let over = lines[caret - 1].chars().zip(lines[caret].chars().chain(std::iter::repeat(' ')));
        over.filter(|(_, mark)| *mark == '^').map(|(c, _)| c).collect()
    });
    (error, under)
}

#[test]
fn the_example_of_the_design_reads() {
    let spec = read(EXAMPLE).unwrap().spec;
    assert_eq!(spec.tasks.len(), 2);
    let MethodSpec::Dflow(dflow) = &spec.methods[0] else { panic!("the first method is D-Flow") };
    assert_eq!(dflow.init, InitSpec::Blend(BlendSpec::new(0.1)));
    let noisy = dflow.for_task("super-resolution-x2-noisy");
    assert_eq!(noisy.regularizer, RegularizerSpec::Chi(0.01));
    assert_eq!(noisy.stop, [StopRule::TargetPsnr(32.0), StopRule::Evals(300)]);
    assert_eq!(check(&spec), []);
}

#[test]
fn every_other_form_reads() {
    for (from, to) in [
        ("{ blend: 0.1 }", "{ blend: 1 }"),
        ("{ blend: 0.1 }", "{ blend: { weight: 0.1, lift: pinv, solver: { dopri5: {} } } }"),
        ("{ blend: 0.1 }", "source"),
        ("model: mini-images ", "model: { gaussian: { fit: train } } "),
        ("devices: auto", "devices: [cuda:0, cuda:1]"),
        ("devices: auto", "devices: cpu:2x1"),
        ("condition: { label: dataset }", "condition: none"),
        ("condition: { label: dataset }", "condition: { fixed: 7 }"),
        ("regularizer: none", "regularizer: { nll: { probes: 1 } }"),
        ("{ midpoint: { nfe: 6 } }", "{ dopri5: {} }"),
        ("{ evals: 300 } ]      #", "{ stagnation: { outer: 3, min_db: 0.01 } } ]      #"),
        ("{ center_mask: { size: 10 } }", "{ gaussian_blur: { sigma: 1, pinv_cutoff: { product: 0.27 } } }"),
        ("seed: 0", "seed: 18446744073709551615"),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        let document = read(&EXAMPLE.replacen(from, to, 1)).expect(to);
        assert_eq!(check(&document.spec), [], "{to}");
    }
}

#[test]
fn a_wrong_file_is_answered_with_place_cause_and_nearest_name() {
    for (from, to, under, message) in [
        ("noise: 0.05", "nois: 0.05", "nois", "did you mean `noise`?"),
        ("center_mask:", "centre_mask:", "centre_mask", "did you mean `center_mask`?"),
        ("  - pinv: {}", "  - ddrm: {steps: 20}", "ddrm", "there are: dflow, ot_ode, pigdm, red_diff, pinv"),
        ("psnr, ssim", "psnr, {feature: mini}", "feature", "did you mean `features`?"),
        ("{ blend: 0.1 }", "{ blend: {weight: 0.1, lif: pinv} }", "lif", "did you mean `lift`?"),
        ("{ blend: 0.1 }", "{ blend: abc }", "abc", "expected a weight in [0, 1] or a map"),
        ("{ blend: 0.1 }", "{ blend: .inf }", ".inf", "expected a finite number"),
        ("model: mini-images ", "model: { gausian: {} } ", "gausian", "did you mean `gaussian`?"),
        ("noise: 0.05", "noise: abc", "abc", "expected a number, got `abc`"),
        ("noise: 0.05", "noise: 0.05, noise: 1", "noise", "`noise` is given twice"),
        ("nfe: 6", "nfe: -6", "-6", "a whole number that is not negative, got `-6`"),
        ("nfe: 6", "nfe: six", "six", "a whole number that is not negative, got `six`"),
        ("size: 10", "size: -10", "-10", "not negative"),
        (
            "size: 10",
            "size: 99999999999",
            "99999999999",
            "a whole number of at most 4294967295, got `99999999999`",
        ),
        (
            "seed: 0",
            "seed: 18446744073709551616",
            "18446744073709551616",
            "a whole number of at most 18446744073709551615, got",
        ),
        ("seed: 0", "seed: 1.5", "1.5", "expected a whole number that is not negative, got `1.5`"),
        ("seed: 0", "seed:", ":", "expected a whole number that is not negative, but there is no value"),
        ("noise: 0.05", "noise: null", "null", "expected a number, but there is no value"),
        ("name: table1-mini", "name:", ":", "expected a text, but there is no value"),
        ("name: inpainting-center", "name: ~", "~", "write one after the colon"),
        ("output: reports/table1-mini", "output: a\n---\nname: b", "n", "a file holds one"),
        ("devices: auto", "devices: gpu", "gpu", "\"gpu\" is no device"),
        ("regularizer: none", "regularizer: chi", "chi", "write {chi: …}"),
        ("  - pinv: {}", "  - pinv", "pinv", "{pinv: {}}"),
        ("  - dflow:", "  - pinv\n  - dflow:", "pinv", "{pinv: {}}"),
        ("  - pinv: {}", "  - {pinv: {}, dflow: {}}", "dflow", "the map names two"),
        ("seed: 0", "seed: 0\nseed: 1", "seed", "`seed` is given twice"),
        ("name: table1-mini\n", "", "output", "missing field `name`"),
        ("      solver", "\tsolver", "s", "tabs disallowed"),
        ("name: inpainting-center", "name: [a", "[", "mismatched bracket"),
    ] {
        let (error, shown) = fails(from, to);
        assert_eq!(shown, under, "{error}");
        assert!(error.starts_with("p.yaml:") && error.contains(message), "{error}");
    }
}

#[test]
fn texts_that_are_no_map_are_refused() {
    for (text, message) in [("", "is the file empty?"), ("[]", "expected a map"), ("7", "expected a map")] {
        let error = read(text).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn semantic_errors_come_together_in_the_order_of_the_file() {
    let text = EXAMPLE
        .replace("size: 10", "size: 0")
        .replace("noise: 0.05", "noise: -1")
        .replace("nfe: 6", "nfe: 5")
        .replace("blend: 0.1", "blend: {weight: .inf}")
        .replace("- pinv: {}", "- pinv: { name: d-flow }")
        .replace("        super-resolution-x2-noisy: ", "        super-resolution-x4: ");
    let document = read(&text).unwrap();
    let error = document.report(check(&document.spec)).unwrap_err().to_string();
    let mut rest = &*error;
    for message in [
        "6 errors in p.yaml",
        "size must be at least 1",
        "p.yaml:10:85: noise must be a finite number that is not negative, got -1",
        "midpoint takes 2 evaluations a step: 5 is no multiple of it, 4 or 6 would be",
        "weight must be a finite number between 0 and 1, got inf",
        "p.yaml:22:9: there is no task `super-resolution-x4`",
        "did you mean `super-resolution-x2-noisy`?",
        "two methods of the name `d-flow`",
    ] {
        let place = rest.find(message).unwrap_or_else(|| panic!("{message:?} in its place in\n{error}"));
        rest = &rest[place..];
    }
}

#[test]
fn a_task_that_no_method_runs_on_is_refused() {
    let limit = "tasks: [ inpainting-center ]";
    let text = EXAMPLE
        .replace("- pinv: {}", &format!("- pinv: {{ {limit} }}"))
        .replace("- dflow:\n", &format!("- dflow:\n      {limit}\n"));
    let document = read(&text).unwrap();
    let error = document.report(check(&document.spec)).unwrap_err().to_string();
    assert!(error.starts_with("p.yaml:10:13: no method runs on this task"), "{error}");
}

/// Errors of the example with a further method.
fn of_method(method: &str) -> String {
    let document =
        read(&EXAMPLE.replace("  - pinv: {}", &format!("  - {method}"))).unwrap_or_else(|e| panic!("{e}"));
    document.report(check(&document.spec)).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn baselines_are_read_with_their_defaults_and_replaced_task_by_task() {
    for method in [
        "ot_ode: { start: 0.4, gamma: adaptive, lift: adjoint }",
        "pigdm: { form: { flow: { steps: 50, init: { lifted: auto } } } }",
        "pigdm: { form: { ddim: { eta: 1, init: pinv, scale: product, replace_observed: true } } }",
        "red_diff: { times: { uniform: { min: 0.01, max: 0.9 } }, weight: power_two_thirds, loss: sum }",
    ] {
        assert_eq!(of_method(method), "", "{method}");
    }
    let method = "red_diff: { lr: 0.5, per_task: { inpainting-center: { lambda: 1 } } }";
    let document = read(&EXAMPLE.replace("pinv: {}", method)).unwrap();
    let on = |task: &str| match document.spec.methods[1].for_task(task) {
        MethodSpec::RedDiff(spec) => (spec.lr, spec.lambda, spec.steps, spec.per_task.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(on("inpainting-center"), (0.5, 1.0, 1000, 0));
    assert_eq!(on("super-resolution-x2-noisy"), (0.5, 0.25, 1000, 0));
}

#[test]
fn options_of_baselines_that_mean_nothing_are_refused() {
    for (method, message) in [
        ("ot_ode: { steps: 0 }", "steps must be at least 1"),
        ("ot_ode: { start: 0 }", "start must be a finite number between 0 and 1, both excluded"),
        ("ot_ode: { start: .nan }", "start must be a finite number"),
        ("ot_ode: { steps: 4, start: 0.8 }", "no step is made: a grid of 4 steps"),
        ("ot_ode: { lift: measurement }", "cannot be its own lift"),
        ("ot_ode: { per_task: { inpainting: {} } }", "there is no task `inpainting`"),
        ("ot_ode: { per_task: { inpainting-center: { start: 1.5 } } }", "both excluded, got 1.5"),
        ("pigdm: { form: { flow: { steps: 1 } } }", "no step is made"),
        ("pigdm: { form: { flow: { init: { lifted: measurement } } } }", "cannot be its own lift"),
        ("pigdm: { form: { ddim: { steps: 1001 } } }", "at most 1000, those of the diffusion"),
        ("pigdm: { form: { ddim: { eta: 1.1 } } }", "eta must be a finite number between 0 and 1"),
        ("red_diff: { steps: 1001 }", "at most 1000, those of the diffusion"),
        ("red_diff: { lr: 0 }", "lr must be a finite number above 0"),
        ("red_diff: { lambda: -1 }", "lambda must be a finite number that is not negative"),
        ("red_diff: { betas: [0.9, 1.0] }", "betas[1] must be a finite number from 0 to below 1"),
        ("red_diff: { eps: 0 }", "eps must be a finite number above 0"),
        ("red_diff: { sigma_x0: .inf }", "sigma_x0 must be a finite number"),
        ("red_diff: { times: { uniform: { min: 0 } } }", "min must be a finite number between 0 and 1"),
        (
            "red_diff: { times: { uniform: { min: 0.9, max: 0.2 } } }",
            "the last time 0.2 lies before the first",
        ),
        ("red_diff: { per_task: { inpainting-center: { lr: -1 } } }", "lr must be a finite number above 0"),
    ] {
        let error = of_method(method);
        assert!(error.contains(message), "{method}: {error}");
        assert!(error.contains("p.yaml:23:"), "{method}: {error}");
    }
}

#[test]
fn every_value_that_means_nothing_is_refused() {
    for (from, to, message) in [
        ("name: table1-mini", "name: ' '", "needs a name"),
        ("pinv: {}", "pinv: { tasks: [] }", "limited to no task"),
        ("pinv: {}", "pinv: { tasks: [inpainting] }", "there is no task `inpainting`"),
        ("limit: 8", "limit: 0", "no sample"),
        ("name: inpainting-center", "name: ../a", "cannot be a file name"),
        ("name: super-resolution-x2-noisy", "name: Inpainting-Center", "two tasks of the name"),
        ("{ center_mask: { size: 10 } }", "{ random_mask: { keep: 1 } }", "between 0 and 1"),
        ("factor: 2", "factor: 1", "at least 2"),
        ("{ center_mask: { size: 10 } }", "{ gaussian_blur: { sigma: .nan, size: 4 } }", "odd"),
        ("{ midpoint: { nfe: 6 } }", "{ dopri5: { rtol: 0 } }", "rtol must be"),
        ("{ midpoint: { nfe: 6 } }", "{ rk4: { nfe: 0 } }", "nfe must be at least 1"),
        (
            "{ midpoint: { nfe: 6 } }",
            "{ rk4: { nfe: 4294967295 } }",
            "nfe must be at most 1000000, got 4294967295",
        ),
        ("{ neg_psnr: measurement }", "{ lp: { p: 0.5 } }", "p must be"),
        ("regularizer: none", "regularizer: { chi: -.inf }", "chi must be"),
        (
            "{ regularizer: { chi: 0.01 },",
            "{ solver: { dopri5: {} }, regularizer: { nll: { probes: 1 } },",
            "needs a solver with fixed steps",
        ),
        ("inner: 20", "inner: 0", "inner must be at least 1"),
        ("{ target_psnr: 45 }", "{ target_psnr: 121 }", "up to 120 dB"),
        ("[ { target_psnr: 45 }, { evals: 300 } ]", "[]", "nothing would end a solve of inpainting-center"),
        ("[ { target_psnr: 45 }, { evals: 300 } ]", "[ { noise_level: 1 } ]", "never fires without noise"),
        ("{ blend: 0.1 }", "{ blend: { weight: 1, lift: measurement } }", "cannot be its own lift"),
        ("model: mini-images", "#", "`d-flow` has no model"),
        ("psnr, ssim", "psnr, psnr", "listed twice"),
        ("output: reports/table1-mini", "output: reports/paper", "reserved"),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        let document = read(&EXAMPLE.replacen(from, to, 1)).expect(to);
        let error = document.report(check(&document.spec)).expect_err(to).to_string();
        assert!(error.contains(message), "{to}: {error}");
    }
}

#[test]
fn set_replaces_one_value() {
    let mut document = read(EXAMPLE).unwrap();
    for text in [
        "tasks[0].noise=0.1",
        "dataset.limit=3",
        "methods[0].dflow.init.blend=0.3",
        "methods[0].dflow.solver={rk4: {nfe: 8}}",
        "model={gaussian: {fit: train}}",
        "devices=[cpu, cuda:0]",
        "name=a=b",
    ] {
        document.set(text).expect(text);
    }
    let spec = &document.spec;
    assert_eq!((spec.tasks[0].noise, spec.dataset.limit, &*spec.name), (0.1, Some(3), "a=b"));
    assert_eq!(spec.devices.to_string(), "cpu,cuda:0");
    let MethodSpec::Dflow(dflow) = &spec.methods[0] else { panic!("the first method is D-Flow") };
    assert_eq!(dflow.solver, SolverSpec::Rk4(FixedSteps { nfe: 8 }));
    assert_eq!(dflow.init, InitSpec::Blend(BlendSpec::new(0.3)));
    assert_eq!(document.sets().count(), 7);
}

#[test]
fn a_wrong_set_names_itself_and_changes_nothing() {
    for (text, message) in [
        ("noise", "there is no `=`"),
        ("=1", "is not a path"),
        ("tasks[0].noise=[", "not YAML"),
        ("tasks[0].noise=abc", "expected a number"),
        ("name=null", "expected a text, but there is no value"),
        ("seed=18446744073709551616", "a whole number of at most 18446744073709551615"),
        ("dataset.limit=99999999999999999999999999999999999999999999", "a whole number of at most"),
        ("tasks[0].nois=1", "did you mean `noise`?"),
        ("tasks[5].noise=1", "the list ends at [1]"),
        ("tasks.noise=1", "this is a list"),
        ("methods[0].dflow.solver.rk4.nfe=8", "set the whole value"),
        ("methods[0].dflow.regularizer.chi=1", "set the whole value"),
        ("metrics=[psnr, fid]", "there are: psnr, ssim"),
    ] {
        let mut document = read(EXAMPLE).unwrap();
        let before = document.spec.clone();
        let error = document.set(text).expect_err(text).to_string();
        assert!(error.starts_with(&format!("--set {text}: ")) && error.contains(message), "{error}");
        assert_eq!(document.spec, before);
    }
}

#[test]
fn a_semantic_error_of_a_set_names_the_set() {
    let mut document = read(EXAMPLE).unwrap();
    document.set("tasks[0].noise=-1").unwrap();
    document.set("methods[0].dflow.solver={rk4: {nfe: 6}}").unwrap();
    let error = document.report(check(&document.spec)).unwrap_err().to_string();
    assert!(error.contains("--set tasks[0].noise=-1: noise must be"), "{error}");
    assert!(error.contains("--set methods[0].dflow.solver={rk4: {nfe: 6}}: rk4 takes 4"), "{error}");
}

#[test]
fn a_spec_survives_json_and_binary_formats() {
    let spec = read(EXAMPLE).unwrap().spec;
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<PipelineSpec>(&json).unwrap(), spec);
    let bytes = postcard::to_stdvec(&spec).unwrap();
    assert_eq!(postcard::from_bytes::<PipelineSpec>(&bytes).unwrap(), spec);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// No text makes the reader panic, and every error prints.
    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[ -~\t\n\u{e9}\u{1F980}{}:\\[\\]&*!|>%@`'\"-]{0,4}"), 1..6)
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (place, cut, insert) in edits {
            let start = place.index(text.len() + 1);
            let end = (start + cut).min(text.len());
            text.splice(start..end, insert.chars());
        }
        match read(&text.iter().collect::<String>()) {
            Ok(document) => {
                if let Err(error) = document.report(check(&document.spec)) {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
            Err(error) => prop_assert!(error.contains("p.yaml")),
        }
    }

    /// No assignment panics.
    #[test]
    fn arbitrary_sets_never_panic(text in "[a-z.\\[\\]0-9=:{} -]{0,30}") {
        let mut document = read(EXAMPLE).unwrap();
        let _ = document.set(&text);
    }
}

/// A cell's hash is that of its settings as they are written: those of earlier versions must stay.
#[test]
fn options_that_came_later_are_written_only_where_they_are_used() {
    // Nulls do not enter a hash.
    let written = |options: serde_json::Value| {
        let spec: super::method::DflowSpec = serde_json::from_value(options).unwrap();
        serde_json::to_value(spec).unwrap()
    };
    let plain = written(serde_json::json!({ "stop": [{ "evals": 5 }] }));
    assert!(plain["stop_tests"].is_null() && plain["optimizer"]["lbfgs"]["initial"].is_null(), "{plain}");
    let defaults = written(serde_json::json!({
        "stop": [{ "evals": 5 }], "stop_tests": "outer_step", "optimizer": { "lbfgs": { "initial": "scalar" } }
    }));
    assert_eq!(defaults, plain, "what is written as it is anyway is the same cell");
    let bands = serde_json::json!({ "lbfgs": { "initial": { "bands": {} } } });
    let fast = written(serde_json::json!({ "optimizer": bands, "stop_tests": "evaluation" }));
    assert_eq!(fast["stop_tests"], "evaluation");
    assert_eq!(fast["optimizer"]["lbfgs"]["initial"]["bands"]["pairs"], 5);
}
