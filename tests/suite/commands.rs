//! What the commands beside `run` print and write.

use std::path::Path;
use std::process::Stdio;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::run::{PIPELINE, suite};
use crate::run_test::RunTest;

fn shipped(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Two samples of the suite's pipeline, solved.
fn finished() -> RunTest {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "2"]).succeeds();
    test
}

#[test]
fn status_verify_and_merge_count_what_is_there_and_what_is_missing() {
    let test = suite();
    let limit = ["run", "p.yaml", "--limit", "2"];
    test.run(&[&limit as &[&str], &["--shard", "1/2"]].concat()).succeeds();
    let cell = |task: &str, method: &str, ok: u32| json!({ "task": task, "method": method, "ok": ok, "failed": 0, "planned": 2 });
    let cells = |ok| {
        let tasks = ["inpainting", "super-resolution-noisy"];
        Value::from_iter(tasks.map(|task| [cell(task, "d-flow", ok), cell(task, "pinv", ok)]).concat())
    };
    let status = || {
        let mut cells = test.run(&["status", "a", "--json"]).succeeds().json()["cells"].take();
        for cell in cells.as_array_mut().unwrap() {
            let seconds = cell.as_object_mut().unwrap().remove("seconds_per_sample");
            assert!(seconds.is_some_and(|seconds| seconds.as_f64().is_some_and(|seconds| seconds >= 0.0)));
        }
        cells
    };
    assert_eq!(status(), cells(1));
    let verdict = test.run(&["verify", "a", "--json"]).fails_with(4).json();
    assert_eq!(
        (&verdict["planned"], &verdict["ok"], &verdict["problems"]),
        (&json!(8), &json!(4), &json!([]))
    );
    let missing = verdict["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 4, "{verdict}");
    for (missing, method) in missing.iter().zip(["d-flow", "pinv", "d-flow", "pinv"]) {
        let expected = (&json!(method), &json!(["test/000001"]), &json!(0));
        assert_eq!((&missing["method"], &missing["sample_ids"], &missing["unmerged"]), expected);
    }
    let merged = test.run(&["merge", "a", "--json"]).fails_with(4).json();
    assert_eq!(merged, json!({ "planned": 8, "ok": 4, "failed": 0, "missing": 4, "duplicates": 0 }));

    test.run(&limit).succeeds();
    assert_eq!(status(), cells(2));
    let verdict = test.run(&["verify", "a", "--json"]).succeeds().json();
    assert_eq!(
        (&verdict["ok"], &verdict["missing"], &verdict["failed"]),
        (&json!(8), &json!([]), &json!([]))
    );
    let merged = test.run(&["merge", "a", "--json"]).succeeds().json();
    assert_eq!(merged, json!({ "planned": 8, "ok": 8, "failed": 0, "missing": 0, "duplicates": 0 }));
}

#[test]
fn runs_without_rows_are_not_the_same() {
    let test = suite();
    for output in ["a", "b"] {
        test.run(&["run", "p.yaml", "--limit", "1", "--output", output]).succeeds();
        std::fs::remove_file(test.path(output).join("samples.parquet")).unwrap();
        std::fs::remove_dir_all(test.path(output).join("parts")).unwrap();
    }
    test.run(&["verify", "a", "--same-as", "b"]).fails_with(4);
}

#[test]
fn runs_of_other_seeds_share_no_row() {
    let test = finished();
    test.run(&["run", "p.yaml", "--limit", "2", "--output", "b", "--set", "seed=1"]).succeeds();
    // Another seed is another cell: no row is in both.
    let compared = test.run(&["verify", "a", "--same-as", "b", "--json"]).fails_with(4).json();
    assert_eq!((&compared["same"], &compared["different"]), (&json!(0), &json!(0)), "{compared}");
    for side in ["only_left", "only_right"] {
        assert_eq!(compared[side].as_array().unwrap().len(), 8, "{compared}");
    }
}

/// The figure of one row and column of a table in CSV.
fn csv_value(csv: &str, method: &str, column: &str) -> f64 {
    let mut lines = csv.lines().filter(|line| !line.starts_with('#'));
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = lines.map(|line| line.split(',').collect::<Vec<_>>()).find(|row| row[2] == method).unwrap();
    assert_eq!(row.len(), columns.len(), "a value per column");
    row[columns.iter().position(|name| *name == column).unwrap()].parse().unwrap()
}

#[test]
fn a_table_holds_the_same_figures_in_every_format() {
    let test = finished();
    let table = |format: &str| test.run(&["table", "1", "a", "--format", format]).succeeds().results();
    let tables: Value = serde_json::from_str(&table("json")).unwrap();
    let row = &tables[0]["rows"][0];
    assert_eq!(
        (&row["task"], &row["method"], &row["rows"]),
        (&json!("inpainting"), &json!("d-flow"), &json!("2/0/2"))
    );
    assert_eq!(row["psnr_paper"], 37.67, "the paper's Table 1");
    let (mean, error) =
        (row["psnr"]["mean"].as_f64().unwrap(), row["psnr"]["standard_error"].as_f64().unwrap());
    assert!((5.0..60.0).contains(&mean) && error > 0.0, "{row}");
    assert_eq!(csv_value(&table("csv"), "d-flow", "psnr"), mean);
    assert_eq!(csv_value(&table("csv"), "d-flow", "psnr_standard_error"), error);
    for (format, start, between) in [
        ("md", "| inpainting | 0 | d-flow | 2/0/2 |", "±"),
        ("latex", "inpainting & 0 & d-flow & 2/0/2 &", "$\\pm$"),
    ] {
        let text = table(format);
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(&format!("{mean:.2} {between} {error:.2}")), "{line}");
    }
    let text = table("text");
    assert!(text.contains(&format!("{mean:.2} ± {error:.2}")) && text.contains("Not comparable"), "{text}");
    assert_eq!(test.run(&["table", "1", "a", "--json"]).json(), tables);
    test.run(&["table", "1", "a", "--format", "xml"])
        .fails_with(2)
        .stderr("choose from text, md, csv, latex, json");
    test.run(&["table", "9", "a"])
        .fails_with(2)
        .stderr("run `suite` has no task for table 9, which is about denoising");
}

#[test]
fn the_settings_table_needs_no_run() {
    let test = suite();
    let tables = test.run(&["table", "6", "--format", "json"]).succeeds().json();
    assert!(tables[0]["rows"].as_array().unwrap().len() >= 4, "{tables}");
    test.run(&["table", "6", "p.yaml"]).succeeds().stdout("Table 6");
}

#[test]
fn a_report_draws_every_task_in_its_own_picture() {
    let test = finished();
    test.run(&["report", "a", "--scale", "2"])
        .succeeds()
        .stdout("a/figures/inpainting.png: columns ground truth, H†y, d-flow");
    for task in ["inpainting", "super-resolution-noisy"] {
        let picture = image::open(test.path(format!("a/figures/{task}.png"))).unwrap().to_rgb8();
        // Two samples below each other, three columns, with gaps.
        let (width, height) = picture.dimensions();
        assert!((3 * 64..4 * 64).contains(&width) && (2 * 64..3 * 64).contains(&height), "{width}×{height}");
        let colours: std::collections::BTreeSet<[u8; 3]> = picture.pixels().map(|pixel| pixel.0).collect();
        assert!(colours.len() > 100, "{} colours", colours.len());
    }
    test.run(&["report", "a", "--task", "inpainting", "--samples", "1", "--out", "elsewhere"]).succeeds();
    assert!(image::open(test.path("elsewhere/inpainting.png")).unwrap().height() < 2 * 96);
    assert!(!test.path("elsewhere/super-resolution-noisy.png").exists());
    test.run(&["report", "a", "--task", "nothing"]).fails_with(2).stderr("has no task `nothing`");
}

/// Tensors of a file by name.
fn tensors(bytes: &[u8]) -> Vec<(String, Vec<f32>)> {
    let read =
        |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let file = SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Vec<(String, Vec<f32>)> =
        file.tensors().into_iter().map(|(name, view)| (name, read(view.data()))).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

#[test]
fn draws_hold_every_random_number_of_a_pipeline() {
    let test = suite();
    let text = PIPELINE
        .replace("{ chi: 0.01 }", "{ nll: { probes: 2 } }")
        .replace("{ bicubic: { factor: 2 } }", "{ random_mask: { keep: 0.5 } }")
        .replace("super-resolution-noisy", "random");
    test.file("p.yaml", &text);
    test.run(&["draws", "p.yaml", "draws.safetensors", "--limit", "1"])
        .succeeds()
        .stdout("draws.safetensors: ");
    let bytes = std::fs::read(test.path("draws.safetensors")).unwrap();
    let tensors = tensors(&bytes);
    let names: Vec<&str> = tensors.iter().map(|(name, _)| &**name).collect();
    let expected = [
        "hole/inpainting/test/000000",
        "hole/random/test/000000",
        "probes/d-flow/inpainting/test/000000",
        "probes/d-flow/random/test/000000",
        "truth/test/000000",
        "x0/d-flow/inpainting/test/000000",
        "x0/d-flow/random/test/000000",
        "y/inpainting/test/000000",
        "y/random/test/000000",
        "z/test/000000",
    ];
    assert_eq!(names, expected);
    let values = |name: &str| &tensors.iter().find(|(other, _)| other.starts_with(name)).unwrap().1;
    let pixels = 32 * 32;
    for name in ["truth", "z", "x0/d-flow/inpainting"] {
        assert_eq!(values(name).len(), 3 * pixels, "{name}");
    }
    assert_eq!(values("hole/inpainting").iter().sum::<f32>(), 100.0, "a hole of 10×10");
    let hidden = values("hole/random").iter().sum::<f32>() as usize;
    assert!(
        hidden.abs_diff(pixels / 2) < 6 * 16,
        "half of {pixels} within six standard deviations: {hidden}"
    );
    let signs = values("probes");
    assert!(signs.len() == 2 * 3 * pixels && signs.iter().all(|sign| sign.abs() == 1.0));
    // The noise is that of the standard normal, within six standard errors.
    let z = values("z");
    let mean = z.iter().sum::<f32>() / z.len() as f32;
    let square = z.iter().map(|z| z * z).sum::<f32>() / z.len() as f32;
    assert!(
        mean.abs() < 6.0 / (z.len() as f32).sqrt()
            && (square - 1.0).abs() < 6.0 * (2.0 / z.len() as f32).sqrt()
    );
    let labels = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap()["labels"].clone();
    assert_eq!(labels, r#"{"test/000000":0}"#);

    test.run(&["draws", "p.yaml", "again.safetensors", "--limit", "1", "--devices", "cpu"]).succeeds();
    assert!(std::fs::read(test.path("again.safetensors")).unwrap() == bytes, "draws do not change");
}

#[test]
fn lists_name_every_member_of_a_family() {
    let test = RunTest::new();
    let all = test.run(&["list"]);
    all.succeeds();
    for (family, members) in [
        (
            "methods",
            &["dflow", "ot_ode", "pigdm", "red_diff", "pinv", "sample", "ancestral", "likelihood"]
                as &[&str],
        ),
        ("operators", &["center_mask", "random_mask", "bicubic", "gaussian_blur", "identity"]),
        ("solvers", &["euler", "midpoint", "heun", "rk4", "dopri5"]),
        ("hessians", &["scalar", "bands"]),
        ("stops", &["target_psnr", "evals", "outer_steps", "time_limit", "noise_level", "stagnation"]),
        ("metrics", &["psnr", "ssim", "molecule", "lpips", "features"]),
    ] {
        let listed = test.run(&["list", family]);
        listed.succeeds();
        let named: Vec<String> = listed
            .results()
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next().map(str::to_owned))
            .collect();
        assert_eq!(named, members, "{family}");
        for member in members {
            all.stdout(&format!("  {member} "));
        }
        let json = test.run(&["list", family, "--json"]).json();
        let (_, list) = json.as_object().unwrap().iter().next().unwrap();
        let named: Vec<&str> =
            list.as_array().unwrap().iter().map(|kind| kind["name"].as_str().unwrap()).collect();
        assert_eq!(named, members, "{family}");
    }
    assert_eq!(test.run(&["list", "columns"]).succeeds().results(), shipped("reports/SCHEMA.md"));
}

#[test]
fn devices_show_what_a_run_would_use() {
    let test = RunTest::new();
    let devices = test.run(&["devices", "cpu:1x1", "--json"]).succeeds().json();
    let list = devices["devices"].as_array().unwrap();
    assert_eq!(
        (list.len(), &list[0]["name"], &list[0]["kind"]["Cpu"]["threads"]),
        (1, &json!("cpu:0"), &json!(1))
    );
    assert_eq!(list[0]["kind"]["Cpu"]["cores"].as_array().unwrap().len(), 1);
    assert!(devices["free_memory"].as_u64().unwrap() > 0);
    let set = devices["instruction_set"].as_str().unwrap();
    test.run(&["devices", "cpu"]).succeeds().stdout(&format!("instruction set {set}")).stdout("cpu:0: ");
    let portable = test.command(&["devices", "cpu"]).env("DFLOW_CPU", "portable").output().unwrap();
    assert!(String::from_utf8_lossy(&portable.stdout).contains("instruction set portable"));
    test.run(&["devices", "cpu,cpu"]).fails_with(2).stderr("would share the same cores");
}

#[test]
fn two_pinned_workers_have_a_core_each_or_are_refused() {
    let found = RunTest::new().run(&["devices", "cpu:1x1,cpu:1x1", "--json"]);
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2) {
        let devices = found.succeeds().json();
        let cores = |i: usize| devices["devices"][i]["kind"]["Cpu"]["cores"].as_array().unwrap().clone();
        assert_eq!((cores(0).len(), cores(1).len()), (1, 1));
        assert_ne!(cores(0), cores(1));
    } else {
        found.fails_with(2).stderr("`devices: cpu:1x1,cpu:1x1` needs 2 cores, but this process may use 1");
    }
}

#[test]
fn the_generated_files_are_those_in_the_repository() {
    let test = RunTest::new();
    let schema = test.run(&["schema"]).succeeds().results();
    assert_eq!(schema, shipped("pipelines/pipeline.schema.json"), "`make schema` writes it anew");
    test.run(&["schema", "--write"]).succeeds();
    for name in ["pipelines/pipeline.schema.json", "reports/SCHEMA.md"] {
        assert_eq!(std::fs::read_to_string(test.path(name)).unwrap(), shipped(name), "{name}");
    }
}

#[test]
fn completions_know_every_command() {
    let test = RunTest::new();
    let help = test.run(&["--help"]).succeeds().results();
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"verify") && commands.len() >= 14, "{help}");
    for shell in ["bash", "zsh", "fish"] {
        let script = test.run(&["completions", shell]).succeeds().results();
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    test.run(&["completions", "tcsh"]).fails_with(2).stderr("possible values: bash");
}

#[test]
fn the_help_names_every_exit_code() {
    let help = RunTest::new().run(&["--help"]).succeeds().results();
    for (code, meaning) in dflow::exit::ALL {
        let line = help.lines().find(|line| line.trim_start().starts_with(&format!("{code} ")));
        let line = line.unwrap_or_else(|| panic!("{code} is not in\n{help}"));
        assert!(line.contains(meaning.split_whitespace().next().unwrap()), "{line}");
    }
}

#[test]
fn models_are_listed_and_checked() {
    let test = RunTest::new();
    let home = ["--home", env!("CARGO_MANIFEST_DIR")];
    let list = test.run(&[&["model", "list"] as &[&str], &home].concat());
    list.succeeds()
        .stdout("mini-images: 3×32×32, 10 classes")
        .stdout("cifar10: 3×32×32, 10 classes")
        .stdout("features/mini: 64 features")
        .stdout("lpips/alex: ");
    let weights = Path::new(home[1]).join("models/weights/mini-images.safetensors");
    let hash = blake3::hash(&std::fs::read(weights).unwrap()).to_hex().to_string();
    let check = [&["model", "check", "mini-images"] as &[&str], &home].concat();
    test.run(&check).succeeds().stdout("models/mini-images.yaml: blake3 ").stdout(&hash);
    assert_eq!(test.run(&[&check as &[&str], &["--json"]].concat()).json()["weights_blake3"], hash);
    let check = |name| test.run(&[&["model", "check", name] as &[&str], &home].concat());
    check("features/cifar10").succeeds().stdout("192 features, identity");
    check("features/cifar").fails_with(2).stderr("cifar10");
    check("lpips/alex").fails_with(2).stderr("--data");
    check("lpips/resnet").fails_with(2).stderr("alex, vgg and squeeze");
    test.run(&["model", "check", "mini-image"]).fails_with(2).stderr("no model `mini-image`");
}

#[test]
fn shipped_datasets_are_listed_and_checked() {
    let test = RunTest::new();
    test.run(&["data", "list"])
        .succeeds()
        .stdout("mini-images: ")
        .stdout("  1000 samples")
        .stdout("cifar10: ");
    let listed = test.run(&["data", "list", "--json"]).json();
    assert_eq!((&listed[0]["name"], &listed[0]["samples"]), (&json!("mini-images"), &json!(1000)));
    let error = listed[1]["error"].as_str().expect("without a data folder");
    assert!(error.contains("give the folder that holds `cifar10_jpeg/` (--data"), "{error}");
    let check = test.run(&["data", "check", "mini-images"]).succeeds().results();
    let manifest = check.trim().strip_prefix("mini-images: 1000 samples, manifest ").expect("the whole line");
    assert!(manifest.len() == 64 && manifest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{manifest}");
    test.run(&["data", "check", "mini"])
        .fails_with(2)
        .stderr("unknown dataset `mini`: shipped are mini-images, cifar10");
}

#[test]
fn molecules_and_targets_are_listed_checked_and_counted() {
    let test = RunTest::new();
    test.run(&["data", "list"])
        .succeeds()
        .stdout("  10000 targets, from 11,083 training molecules of qm9-test-split");
    let listed = test.run(&["data", "list", "--json"]).json();
    let named = |name: &str| {
        let all = listed.as_array().expect("a list");
        all.iter().find(|dataset| dataset["name"] == name).expect("a shipped dataset").clone()
    };
    let targets = named("qm9-targets");
    assert_eq!((&targets["kind"], &targets["samples"]), (&json!("targets for molecules"), &json!(10_000)));
    assert!(named("qm9")["error"].as_str().expect("without a data folder").contains("`qm9/` (--data"));
    test.run(&["data", "check", "qm9-targets"]).succeeds().stdout("qm9-targets: 10000 samples, manifest ");

    let statistics =
        |name| test.run(&["data", "statistics", name, "--split", "train", "s.json", "--data", "."]);
    statistics("mini-images").fails_with(2).stderr("dataset `mini-images` has images, not molecules");
    statistics("qm9-test-split")
        .fails_with(2)
        .stderr("cannot read ./qm9_test_split/test.npz")
        .stderr("from: ");
    test.file("qm9_test_split/test.npz", "PK");
    statistics("qm9-test-split")
        .fails_with(2)
        .stderr("./qm9_test_split/test.npz: the archive: this is no .npz file");
    let water = "3\ngdb 1 0 0 0 1.8 6.5 -0.3 0.1 0.4 19 0.02 -76 -76 -76 -76 6\nO 0 0 0 0\nH 0.8 0 0.5 0\nH -0.8 0 0.5 0\n0\n";
    test.file("qm9/xyz/1.xyz", water);
    test.file("qm9/xyz/2.xyz", &water.replace("gdb 1", "gdb 2"));
    let mine = "name: mine\nsource: here\nlicence: none\nfolder: qm9\nmax_atoms: 29\nlayout:\n  molecules:\n    - gdb9: { archive: xyz, split: { held_out: { seed: 0, count: 1 } } }\n";
    test.file("mine.yaml", mine);
    statistics("mine.yaml").fails_with(2).stderr("properties, alpha: mean 6.5, mad 0; ");
    test.run(&["data", "check", "mine.yaml", "--data", "."])
        .succeeds()
        .stdout("mine.yaml: 1 samples, manifest ");
    assert!(!test.path("s.json").exists());
    // Held out is the third: numpy's RandomState(0).permutation(3) is [2, 1, 0].
    test.file("qm9/xyz/3.xyz", &water.replace("gdb 1", "gdb 3"));
    let other = "1.8 6.5 -0.3 0.1 0.4 19 0.02 -76 -76 -76 -76 6";
    assert!(water.contains(other));
    test.file("qm9/xyz/1.xyz", &water.replace(other, "2 6 -0.2 0.2 0.5 19 0.02 -76 -76 -76 -76 7"));
    statistics("mine.yaml")
        .succeeds()
        .stdout("s.json: statistics of 2 training molecules of mine, manifest ");
    assert!(test.path("s.json").exists());
}

#[test]
fn the_cost_of_a_table_is_estimated_before_its_data_and_weights_are_here() {
    let test = RunTest::new();
    let paper = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/table1-paper.yaml");
    test.run(&["plan", paper])
        .fails_with(2)
        .stderr("dataset `imagenet128` needs files")
        .stderr("`dflow model fetch imagenet128");
    let estimate = ["plan", paper, "--seconds-per-eval", "4", "--evals-per-row", "300", "--on", "8"];
    test.run(&estimate)
        .succeeds()
        .stdout("by description of dataset imagenet128 (10000 samples)")
        .stdout("on 8 devices");
    let found = test.run(&[&estimate[..], &["--json"]].concat()).succeeds().json();
    let hours = found["estimate"]["device_hours"].as_f64().unwrap();
    // Seven tasks of 10,000 samples: D-Flow's evaluations alone, and the other methods on top.
    let dflow = 7.0 * 10_000.0 * 300.0 * 4.0 / 3600.0;
    assert!(dflow < hours && hours < 1.5 * dflow, "{hours} beside {dflow}");
    assert_eq!(found["described"].as_array().unwrap().len(), 2, "{found}");
    test.run(&["plan", paper, "--seconds-per-eval", "4", "--set", "dataset.name=nothing"]).fails_with(2);
    test.run(&["plan", paper, "--evals-per-row", "300"])
        .fails_with(2)
        .stderr("needs --seconds-per-eval or --measured");
    let molecules = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/table4-qm9.yaml");
    test.run(&["plan", molecules, "--seconds-per-eval", "1", "--limit", "10"])
        .succeeds()
        .stdout("classifier ");
    assert!(std::fs::read_dir(test.path("")).unwrap().next().is_none(), "a plan writes nothing");
    // What another network took on other images says nothing.
    test.file("p.yaml", crate::run::PIPELINE).run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    test.run(&["plan", paper, "--measured", "a"]).fails_with(2).stderr("its shape of a sample is 3×32×32");
    test.run(&["plan", "p.yaml", "--measured", "a", "--on", "2"]).succeeds().stdout("mean of 1 row");
    // Other settings: its seconds, but not its number of calls.
    let set = "methods[0].dflow.stop[1].evals=50";
    let other = ["plan", "p.yaml", "--measured", "a", "--output", "b", "--set", set, "--json"];
    let cells = test.run(&other).succeeds().json()["estimate"]["cells"].clone();
    assert_eq!(cells[0]["calls_from"], "bound", "{cells}");
    assert!(cells[0]["device_hours"].as_f64().unwrap() > 0.0);
}

#[test]
fn results_that_stdout_refuses_are_an_error_and_a_reader_that_has_gone_is_none() {
    let test = suite();
    test.run(&["run", "p.yaml", "--limit", "1"]).succeeds();
    let into = |arguments: &[&str], stdout: Stdio| {
        let output = test.command(arguments).stdout(stdout).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let gone = || Stdio::from(std::io::pipe().unwrap().1);
    let commands: [&[&str]; 5] = [
        &["status", "a"],
        &["status", "a", "--watch"],
        &["verify", "a", "--json"],
        &["table", "1", "a"],
        &["run", "p.yaml", "--limit", "1", "--json"],
    ];
    for arguments in commands {
        let (code, text) = into(arguments, full());
        assert_eq!((code, text.matches("cannot write to stdout: ").count()), (Some(1), 1), "{text}");
        let (code, text) = into(arguments, gone());
        assert_eq!((code, text.contains("stdout")), (Some(0), false), "{text}");
    }
}
