//! The kit's promises: documents that are XML, equal bytes, and a PNG in which everything can be seen.

use super::*;

fn line(name: &str, ys: &[f64]) -> Series {
    let points = ys.iter().enumerate().map(|(i, &y)| Point { x: i as f64, y, error: Some(0.1) });
    Series { name: name.to_owned(), style: 0, mark: Mark::Line, points: points.collect() }
}

fn chart(series: Vec<Series>) -> Chart {
    Chart {
        title: "A panel".to_owned(),
        x: Axis::linear("time [s]"),
        y: Axis::linear("PSNR [dB] ↑"),
        series,
        plane: [260.0, 160.0],
        equal_units: false,
    }
}

fn figure(panels: Vec<Panel>) -> Figure {
    Figure { title: "Figure".to_owned(), panels, columns: 2, notes: vec!["A note.".to_owned()] }
}

fn grid(pictures: Vec<Picture>) -> ImageGrid {
    let row = ImageRow { label: "row".to_owned(), pictures };
    ImageGrid { shape: [3, 1, 2], scale: 20, columns: vec!["a".to_owned()], rows: vec![row] }
}

fn pixels(figure: &Figure) -> image::RgbImage {
    let png = png(&figure.svg().unwrap(), 1.0).unwrap();
    image::load_from_memory(&png).unwrap().to_rgb8()
}

fn ink(picture: &image::RgbImage) -> usize {
    picture.pixels().filter(|pixel| pixel.0.iter().any(|v| *v < 128)).count()
}

#[test]
fn documents_are_xml_whatever_the_texts_say() {
    let mut bad = figure(vec![Panel::Chart(chart(vec![line("a < b & \"c\" \u{7}\u{0}", &[1.0, 2.0])]))]);
    bad.title = "</svg><script>&".to_owned();
    bad.notes = vec!["'\u{ffff}<".to_owned()];
    let svg = bad.svg().unwrap();
    let tree = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
    assert_eq!(tree.root_element().tag_name().name(), "svg");
    assert!(!svg.contains("<script>"));
}

#[test]
fn equal_figures_give_equal_bytes() {
    let make = || {
        let picture = Picture { image: Some(vec![0.5; 6]), caption: "20.1 dB".to_owned() };
        figure(vec![Panel::Chart(chart(vec![line("a", &[1.0, 2.0])])), Panel::Images(grid(vec![picture]))])
    };
    let (a, b) = (make().svg().unwrap(), make().svg().unwrap());
    assert_eq!(a, b);
    assert_eq!(png(&a, 2.0).unwrap(), png(&b, 2.0).unwrap());
}

#[test]
fn text_is_seen_in_the_png() {
    let named = |name: &str| pixels(&figure(vec![Panel::Chart(chart(vec![line(name, &[1.0, 2.0])]))]));
    let (none, short, other) = (named(""), named("IIII"), named("MMMM"));
    assert_ne!(short, other);
    assert!(ink(&none) > 500, "axes, ticks and title");
    assert!(ink(&other) > ink(&none) + 40, "the name in the legend");
    // Signs that the first font lacks come from the second.
    let titled = |title: &str| {
        let mut chart = chart(vec![line("", &[1.0, 2.0])]);
        title.clone_into(&mut chart.title);
        pixels(&figure(vec![Panel::Chart(chart)]))
    };
    assert_ne!(titled("∇"), titled(""));
    assert_ne!(titled("∇"), titled("↓"));
}

#[test]
fn values_that_are_no_numbers_are_left_out_and_said() {
    let svg = figure(vec![Panel::Chart(chart(vec![line("a", &[1.0, f64::NAN, 3.0, 4.0])]))]).svg().unwrap();
    assert!(svg.contains("1 value(s) without a finite place"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    for empty in [vec![], vec![line("a", &[])], vec![line("a", &[f64::NAN, f64::INFINITY])]] {
        let svg = figure(vec![Panel::Chart(chart(empty))]).svg().unwrap();
        assert!(svg.contains("no data"));
    }
    assert!(Figure::default().svg().is_ok());
}

#[test]
fn images_keep_their_pixels() {
    // A red and a blue pixel, planar.
    let image = vec![1.0, -1.0, -1.0, -1.0, -1.0, 9.0];
    let picture = pixels(&figure(vec![Panel::Images(grid(vec![Picture {
        image: Some(image),
        caption: String::new(),
    }]))]));
    let count = |colour: [u8; 3]| picture.pixels().filter(|pixel| pixel.0 == colour).count();
    assert_eq!((count([255, 0, 0]), count([0, 0, 255])), (400, 400));
}

#[test]
fn grids_that_do_not_fit_are_errors_and_absent_images_grey() {
    let of = |image| figure(vec![Panel::Images(grid(vec![Picture { image, caption: String::new() }]))]);
    assert!(matches!(of(Some(vec![0.0; 5])).svg(), Err(PlotError::Size { found: 5, expected: 6, .. })));
    assert!(of(None).svg().unwrap().contains(palette::MISSING));
    let two = ImageGrid { shape: [2, 1, 1], ..grid(Vec::new()) };
    assert_eq!(figure(vec![Panel::Images(two)]).svg(), Err(PlotError::Channels(2)));
    let none = ImageGrid { rows: Vec::new(), ..grid(Vec::new()) };
    assert!(figure(vec![Panel::Images(none)]).svg().unwrap().contains("no images"));
}

#[test]
fn arrows_point_where_they_are_told_in_equal_units() {
    let points = vec![Point::default(); 2];
    let arrows = Mark::Arrows(vec![[1.0, 0.0], [0.0, 1.0]]);
    let series = Series { name: "g".to_owned(), style: 1, mark: arrows, points };
    let chart = Chart { equal_units: true, ..chart(vec![series]) };
    let svg = figure(vec![Panel::Chart(chart)]).svg().unwrap();
    let tips: Vec<[f64; 2]> = svg
        .lines()
        .filter_map(|line| line.strip_prefix("<polygon points=\"")?.split(' ').next())
        .filter_map(|tip| {
            let (x, y) = tip.split_once(',')?;
            Some([x.parse().ok()?, y.parse().ok()?])
        })
        .collect();
    // Right of the origin and above it, at the same distance.
    let [right, up] = [tips[0], tips[1]];
    assert!((right[0] - up[0] - (right[1] - up[1])).abs() < 0.02 && right[0] > up[0], "{tips:?}");
}

#[test]
fn a_text_that_is_no_svg_is_an_error() {
    assert!(matches!(png("<svg", 1.0), Err(PlotError::Raster(_))));
    assert!(matches!(
        png("<svg xmlns='http://www.w3.org/2000/svg' width='0' height='0'/>", 1.0),
        Err(PlotError::Raster(_))
    ));
}
