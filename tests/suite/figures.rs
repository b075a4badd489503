//! `dflow figure`: a picture, a bitmap and the plotted numbers of every figure, from runs of the built program.

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::run_test::RunTest;

/// D-Flow under two weights with its way kept, and likelihoods; the shipped prior.
const PIPELINE: &str = "\
name: figures
dataset: { name: mini-images, limit: 2 }
model: mini-images
devices: cpu:1x1
tasks:
  - { name: image, operator: { identity: {} } }
  - { name: masked, operator: { center_mask: { size: 10 } } }
  - { name: masked-noisy, operator: { center_mask: { size: 10 } }, noise: 0.05 }
methods:
  - dflow: { name: lambda-0, tasks: [ masked, masked-noisy ], stop: [ { evals: 5 } ] }
  - dflow: { name: lambda-1, tasks: [ masked-noisy ], regularizer: { chi: 1 }, stop: [ { evals: 5 } ] }
  - likelihood: { tasks: [ image, masked ], solver: { midpoint: { nfe: 4 } }, probes: 2 }
  - pinv: { tasks: [ image ] }
save: [ reconstructions, trajectory ]
output: a
";

/// D-Flow on points near a ring, whose flow is known exactly.
const PLANE: &str = "\
name: plane
dataset: { name: ring-mixture, limit: 3 }
model: { mixture: { of: dataset } }
devices: cpu:1x1
tasks:
  - { name: point, operator: { identity: {} }, noise: 0.3 }
methods:
  - dflow:
      name: d-flow
      condition: none
      solver: { midpoint: { nfe: 20 } }
      init: source
      loss: { squared_error: measurement }
      stop: [ { evals: 9 } ]
save: [ trajectory ]
output: a
";

fn finished(pipeline: &str) -> RunTest {
    let test = RunTest::new();
    test.file("p.yaml", pipeline);
    test.run(&["run", "p.yaml"]).succeeds();
    test.run(&["verify", "a", "--deep"]).succeeds();
    test
}

/// Lines of a figure's CSV that are no comments, after the heading.
fn numbers(test: &RunTest, figure: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(test.path(format!("a/figure{figure}.csv"))).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).skip(1);
    lines.map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Rows of a figure's Parquet file.
fn parquet_rows(test: &RunTest, figure: &str) -> usize {
    let file = std::fs::File::open(test.path(format!("a/figure{figure}.parquet"))).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.map(|batch| batch.unwrap().num_rows()).sum()
}

#[test]
fn every_figure_of_images_is_a_picture_a_bitmap_and_its_numbers() {
    let test = finished(PIPELINE);
    for (figure, lines) in [("2", 3 * 2 * 4), ("3", 4), ("5", 2), ("7", 2 * 2), ("8", 2 * 2), ("9", 2)] {
        test.run(&["figure", figure, "a"]).succeeds().stdout(&format!("a/figure{figure}.svg"));
        let svg = std::fs::read_to_string(test.path(format!("a/figure{figure}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("profile mini"), "{figure}");
        let picture = image::open(test.path(format!("a/figure{figure}.png"))).unwrap().to_rgb8();
        let colours: std::collections::BTreeSet<[u8; 3]> = picture.pixels().map(|pixel| pixel.0).collect();
        assert!(colours.len() > 20, "figure {figure}: {} colours", colours.len());
        assert_eq!(numbers(&test, figure).len(), lines, "figure {figure}");
        assert_eq!(parquet_rows(&test, figure), lines, "figure {figure}");
    }
    let bits: Vec<f64> = numbers(&test, "3").iter().map(|row| row[3].parse().unwrap()).collect();
    assert!(bits.iter().all(|bits| bits.is_finite()), "{bits:?}");
    test.run(&["figure", "4", "a"]).fails_with(2).stderr("points in the plane");
    test.run(&["figure", "6", "a"]).fails_with(2).stderr("of molecules");
    test.run(&["figure", "1", "a"]).fails_with(2).stderr("not figure 1");
}

#[test]
fn figures_are_the_same_bytes_whatever_slots_and_shards() {
    let (one, other) = (finished(PIPELINE), RunTest::new());
    other.file("p.yaml", PIPELINE);
    other.run(&["run", "p.yaml", "--slots", "1", "--shard", "2/2"]).succeeds();
    other.run(&["run", "p.yaml", "--memory", "recompute", "--slots", "3"]).succeeds();
    for figure in ["2", "3"] {
        let bytes = |test: &RunTest| {
            test.run(&["figure", figure, "a"]).succeeds();
            ["svg", "csv", "png"]
                .map(|kind| std::fs::read(test.path(format!("a/figure{figure}.{kind}"))).unwrap())
        };
        assert!(bytes(&one) == bytes(&other), "figure {figure}");
    }
}

#[test]
fn the_first_projected_gradients_lie_along_the_ring_and_raw_ones_do_not() {
    let test = finished(PLANE);
    test.run(&["figure", "4", "a", "--out", "elsewhere"]).succeeds();
    assert!(test.path("elsewhere/figure4.png").exists() && !test.path("a/figure4.png").exists());
    test.run(&["figure", "4", "a"]).succeeds();
    let rows = numbers(&test, "4");
    // Three solves, evaluations 1, 2, 4 and 8.
    assert_eq!(rows.len(), 12);
    let first: Vec<_> = rows.into_iter().filter(|row| row[row.len() - 7] == "1").collect();
    assert_eq!(first.len(), 3);
    let mut across = [0.0, 0.0];
    for row in first {
        let value = |i: usize| row[row.len() - 6 + i].parse::<f64>().unwrap();
        let (x1, raw, projected) = ([value(0), value(1)], [value(2), value(3)], [value(4), value(5)]);
        let radius = x1[0].hypot(x1[1]);
        // The share of each that is radial.
        let radial =
            |g: [f64; 2]| ((g[0] * x1[0] + g[1] * x1[1]) / radius).abs() / g[0].hypot(g[1]).max(1e-12);
        across[0] += radial(raw) / 3.0;
        across[1] += radial(projected) / 3.0;
    }
    // The law is six times as wide along the ring as across: its square is what D D^T weights with.
    assert!(across[1] < 0.35 && across[0] > 0.5, "{across:?}");
}

#[test]
fn pipelines_of_measurements_that_cannot_be_are_refused() {
    let test = RunTest::new();
    let cases = [
        ("solver: { midpoint: { nfe: 4 } }", "solver: { dopri5: {} }", "fixed steps"),
        ("probes: 2", "probes: 0", "probes"),
    ];
    for (from, to, says) in cases {
        test.file("p.yaml", &PIPELINE.replace(from, to));
        test.run(&["plan", "p.yaml"]).fails_with(2).stderr(says);
    }
    test.file("p.yaml", &PLANE.replace("ring-mixture", "mini-images"));
    test.run(&["plan", "p.yaml"]).fails_with(2).stderr("not drawn from a mixture");
}
