//! Every op against a naive f64 version: outputs, and pull-backs against its central differences.

use super::*;
use crate::net::kernel::{Aligned, Attention, HeadOrder, InstructionSet, Kernel};

/// ‖a − b‖ ≤ this · ‖b‖: f32 sums of up to 600 terms are at 1e-7 … 1e-6.
const TOLERANCE: f64 = 1e-5;

/// A naive op: f64 inputs `[height, width, channels]` to an output.
type Naive<'a> = &'a dyn Fn(&[Vec<f64>]) -> Vec<f64>;

/// Numbers in (−1, 1) that look random.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn distance(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (difference / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

/// A plane with a border in a buffer of any content.
fn bordered(pixels: &[f32], shape: Shape) -> Aligned {
    let mut buffer = Aligned::zeros(shape.len());
    buffer.fill(f32::NAN);
    let mut plane = PlaneMut::new(&mut buffer, shape);
    plane.clear_border();
    for (y, row) in pixels.chunks_exact(shape.row_len()).enumerate() {
        plane.row_mut(y).copy_from_slice(row);
    }
    buffer
}

fn pixels(plane: Plane<'_>) -> Vec<f32> {
    (0..plane.shape.height).flat_map(|y| plane.row(y).to_vec()).collect()
}

/// Runs an op on one thread and on the pool; both must give the same bits.
fn check(op: &dyn Op, shapes: &[Shape], conditioning: &[f32], naive: Naive<'_>) {
    let solo = run(op, shapes, conditioning, Team::SOLO);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let team = pool.install(|| run(op, shapes, conditioning, Team::pool()));
    assert_eq!(solo, team, "{op:?}: threads change bits");

    let inputs: Vec<Vec<f64>> = shapes
        .iter()
        .enumerate()
        .map(|(i, s)| noise(i as u64 + 1, s.pixels() * s.channels).iter().map(|&x| f64::from(x)).collect())
        .collect();
    let error = distance(&solo.0, &naive(&inputs));
    assert!(error < TOLERANCE, "{op:?}: output differs by {error:.1e}");
    let cotangent = noise(77, solo.0.len());
    for (which, gradient) in solo.1.iter().enumerate() {
        // What was there before (0.5) is added to: `run` asks for accumulation.
        let wanted: Vec<_> =
            differences(naive, &inputs, which, &cotangent).into_iter().map(|d| d + 0.5).collect();
        let error = distance(gradient, &wanted);
        assert!(error < TOLERANCE, "{op:?}: gradient of input {which} differs by {error:.1e}");
    }
}

/// Output, and gradients added to 0.5.
fn run(op: &dyn Op, shapes: &[Shape], conditioning: &[f32], team: Team) -> (Vec<f32>, Vec<Vec<f32>>) {
    let shapes: Vec<_> = (shapes.iter().enumerate())
        .map(|(i, s)| s.bordered(if i == 0 { op.input_border() } else { 0 }))
        .collect();
    let buffers: Vec<_> = (shapes.iter().enumerate())
        .map(|(i, &s)| bordered(&noise(i as u64 + 1, s.pixels() * s.channels), s))
        .collect();
    let planes: Vec<_> = buffers.iter().zip(&shapes).map(|(b, &s)| Plane::new(b, s)).collect();
    let mut scratch = Aligned::zeros(op.scratch_len(&shapes));
    let mut saved = Aligned::zeros(op.saved_len());
    let shape = op.output(&shapes);
    let mut out = Aligned::zeros(shape.len());
    out.fill(f32::NAN);
    op.forward(
        Call { conditioning, scratch: spoiled(&mut scratch), team },
        &planes,
        &mut saved,
        PlaneMut::new(&mut out, shape),
    );
    let cotangent_shape = shape.bordered(op.cotangent_border());
    let cotangent = bordered(&noise(77, shape.pixels() * shape.channels), cotangent_shape);
    let mut gradients: Vec<_> = shapes
        .iter()
        .map(|s| {
            let mut buffer = Aligned::zeros(s.bordered(0).len());
            buffer.fill(0.5);
            buffer
        })
        .collect();
    let mut views: Vec<_> = (gradients.iter_mut().zip(&shapes))
        .map(|(buffer, s)| PlaneMut { accumulate: true, ..PlaneMut::new(buffer, s.bordered(0)) })
        .collect();
    let call = Call { conditioning, scratch: spoiled(&mut scratch), team };
    op.pull_back(call, &planes, &saved, Plane::new(&cotangent, cotangent_shape), &mut views);
    (pixels(Plane::new(&out, shape)), gradients.iter().map(|g| g.to_vec()).collect())
}

/// Fills scratch with NaN, so that an op that reads what it has not written is found.
fn spoiled(scratch: &mut Aligned) -> &mut [f32] {
    scratch.fill(f32::NAN);
    scratch
}

/// Central differences of ⟨cotangent, naive⟩ in one input.
fn differences(naive: Naive<'_>, inputs: &[Vec<f64>], which: usize, cotangent: &[f32]) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut moved = inputs.to_vec();
    let product = |inputs: &[Vec<f64>]| -> f64 {
        naive(inputs).iter().zip(cotangent).map(|(y, &c)| y * f64::from(c)).sum()
    };
    (0..inputs[which].len())
        .map(|i| {
            let x = inputs[which][i];
            let sides = [x + STEP, x - STEP].map(|x| {
                moved[which][i] = x;
                product(&moved)
            });
            moved[which][i] = x;
            (sides[0] - sides[1]) / (2.0 * STEP)
        })
        .collect()
}

fn sets() -> impl Iterator<Item = InstructionSet> {
    InstructionSet::ALL.into_iter().filter(|set| set.is_supported())
}

/// A convolution as the definition has it; weights `[outputs, inputs, k, k]`.
fn naive_conv(x: &[f64], shape: Shape, w: &[f32], bias: &[f32], k: usize, stride: usize) -> Vec<f64> {
    let (inputs, pad) = (shape.channels, k / 2);
    let mut out = Vec::new();
    for y in (0..shape.height).step_by(stride) {
        for column in (0..shape.width).step_by(stride) {
            for (o, bias) in bias.iter().enumerate() {
                let mut sum = f64::from(*bias);
                for (dy, dx) in (0..k * k).map(|tap| (tap / k, tap % k)) {
                    let (Some(sy), Some(sx)) = ((y + dy).checked_sub(pad), (column + dx).checked_sub(pad))
                    else {
                        continue;
                    };
                    if sy < shape.height && sx < shape.width {
                        let pixel = &x[(sy * shape.width + sx) * inputs..][..inputs];
                        for (i, x) in pixel.iter().enumerate() {
                            sum += x * f64::from(w[((o * inputs + i) * k + dy) * k + dx]);
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

#[test]
fn convolution_and_its_pull_back() {
    // Output channels that fill no vector, more than one block of channels, rows of no whole tile.
    let cases =
        [(Kernel::Three, 5, 7), (Kernel::Three, 3, 40), (Kernel::Point, 19, 70), (Kernel::Three, 17, 3)];
    for (set, (kernel, inputs, outputs)) in sets().flat_map(|set| cases.map(|case| (set, case))) {
        let shape = Shape::new(inputs, 3, 13);
        let k = kernel.size();
        let w = noise(5, outputs * inputs * k * k);
        let bias = noise(6, outputs);
        let op = Conv::new(set, kernel, (outputs, inputs), &w, &bias);
        check(&op, &[shape], &[], &|x| naive_conv(&x[0], shape, &w, &bias, k, 1));
    }
}

/// With a residual and conditioning; tiles of one row of which are taken one by one, and not all of one size of block.
#[test]
fn winograd_convolution_and_its_pull_back() {
    for set in sets() {
        let (inputs, outputs) = (set.lanes(), 3 * set.lanes());
        let (shape, w) = (Shape::new(inputs, 4, 8), noise(5, outputs * inputs * 9));
        let (bias, conditioning) = (noise(6, outputs), noise(8, outputs + 2));
        let sum: Vec<_> = bias.iter().zip(&conditioning[2..]).map(|(b, c)| b + c).collect();
        let op =
            Conv::new(set, Kernel::Three, (outputs, inputs), &w, &bias).with_conditioning(2..outputs + 2);
        let op = op.by_winograd(shape);
        assert!(format!("{op:?}").contains("points: Some"));
        check(&op, &[shape, Shape::new(outputs, 4, 8)], &conditioning, &|x| {
            let conv = naive_conv(&x[0], shape, &w, &sum, 3, 1);
            conv.iter().zip(&x[1]).map(|(c, r)| c + r).collect()
        });
    }
}

/// Larger than what is transformed at once, and with a last part that is smaller; in both directions.
#[test]
fn winograd_convolution_equals_the_direct_one() {
    for (set, (inputs, outputs)) in
        sets().flat_map(|set| [(16, 48), (64, 16), (32, 32)].map(|case| (set, case)))
    {
        let shape = Shape::new(inputs, 40, 36);
        let (w, bias) = (noise(5, outputs * inputs * 9), noise(6, outputs));
        let op = || Conv::new(set, Kernel::Three, (outputs, inputs), &w, &bias);
        let shapes = [shape, Shape::new(outputs, 40, 36)];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let [solo, team] = [Team::SOLO, pool.install(Team::pool)]
            .map(|team| pool.install(|| run(&op().by_winograd(shape), &shapes, &[], team)));
        assert_eq!(solo, team, "threads change bits");
        let direct = run(&op(), &shapes, &[], Team::SOLO);
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let errors = [distance(&solo.0, &wide(&direct.0)), distance(&solo.1[0], &wide(&direct.1[0]))];
        assert!(errors.iter().all(|error| *error < 5e-6), "{set:?} {inputs} -> {outputs}: {errors:?}");
        assert_eq!(solo.1[1], direct.1[1], "of the residual");
    }
}

/// The error that the transforms cost, in sums over as many channels as networks have: the range that `winograd.rs` states.
#[test]
fn winograd_convolution_keeps_its_error_up_to_512_channels() {
    for (set, inputs) in sets().flat_map(|set| [32, 512].map(|inputs| (set, inputs))) {
        let (shape, outputs) = (Shape::new(inputs, 16, 16), 32);
        let (w, bias) = (noise(5, outputs * inputs * 9), vec![0.0; outputs]);
        let op = || Conv::new(set, Kernel::Three, (outputs, inputs), &w, &bias);
        let shapes = [shape, Shape::new(outputs, 16, 16)];
        let x: Vec<f64> = noise(1, inputs * 256).iter().map(|&x| f64::from(x)).collect();
        let residual = noise(2, outputs * 256);
        let conv = naive_conv(&x, shape, &w, &bias, 3, 1);
        let exact: Vec<f64> = conv.iter().zip(&residual).map(|(c, &r)| c + f64::from(r)).collect();
        let [direct, winograd] =
            [op(), op().by_winograd(shape)].map(|op| distance(&run(&op, &shapes, &[], Team::SOLO).0, &exact));
        assert!(
            direct < 2e-6 && (2.0 * direct..6e-6).contains(&winograd),
            "{set:?} {inputs}: {direct:e} {winograd:e}"
        );
    }
}

/// Few tiles, layers that are too large, strides, 1x1, channels or pixels that are no whole vectors or tiles.
#[test]
fn the_convolution_is_chosen_by_the_shape_of_the_layer() {
    let set = InstructionSet::Portable;
    let is_winograd = |kernel: Kernel, (outputs, inputs): (usize, usize), side: usize| {
        let weights = vec![0.0; outputs * inputs * kernel.size() * kernel.size()];
        let op = Conv::new(set, kernel, (outputs, inputs), &weights, &vec![0.0; outputs]);
        format!("{:?}", op.tuned(Shape::new(inputs, side, side))).contains("points: Some")
    };
    assert!(is_winograd(Kernel::Three, (64, 32), 16));
    assert!(!is_winograd(Kernel::Three, (64, 32), 12), "few tiles");
    assert!(!is_winograd(Kernel::Three, (64, 32), 18), "no whole tiles");
    assert!(!is_winograd(Kernel::Three, (64, 3), 32), "no whole vectors");
    assert!(!is_winograd(Kernel::Point, (64, 32), 32));
    assert!(is_winograd(Kernel::Three, (256, 512), 32));
    assert!(!is_winograd(Kernel::Three, (512, 512), 32), "the weights would be too many");
}

#[test]
fn convolution_with_residual_and_conditioning() {
    for set in sets() {
        let (shape, w, bias) = (Shape::new(4, 3, 5), noise(5, 6 * 4 * 9), noise(6, 6));
        let conditioning = noise(8, 10);
        let sum: Vec<_> = bias.iter().zip(&conditioning[2..]).map(|(b, c)| b + c).collect();
        let op = Conv::new(set, Kernel::Three, (6, 4), &w, &bias).with_conditioning(2..8);
        check(&op, &[shape, Shape::new(6, 3, 5)], &conditioning, &|x| {
            let conv = naive_conv(&x[0], shape, &w, &sum, 3, 1);
            conv.iter().zip(&x[1]).map(|(c, r)| c + r).collect()
        });
    }
}

#[test]
fn strided_convolution_and_its_pull_back() {
    for set in sets() {
        let (shape, w, bias) = (Shape::new(4, 6, 4), noise(5, 9 * 4 * 9), noise(6, 9));
        let op = Conv::new(set, Kernel::Three, (9, 4), &w, &bias).strided();
        check(&op, &[shape], &[], &|x| naive_conv(&x[0], shape, &w, &bias, 3, 2));
    }
}

fn naive_norm(
    x: &[f64],
    shape: Shape,
    groups: usize,
    affine: impl Fn(usize) -> (f64, f64),
    silu: bool,
) -> Vec<f64> {
    let (channels, size) = (shape.channels, shape.channels / groups);
    let members = |group: usize| (0..x.len()).filter(move |i| i % channels / size == group).map(|i| x[i]);
    let moments: Vec<_> = (0..groups)
        .map(|group| {
            let count = (shape.pixels() * size) as f64;
            let mean = members(group).sum::<f64>() / count;
            (mean, members(group).map(|x| (x - mean).powi(2)).sum::<f64>() / count)
        })
        .collect();
    x.iter()
        .enumerate()
        .map(|(i, x)| {
            let (mean, variance) = moments[i % channels / size];
            let (gain, offset) = affine(i % channels);
            let n = (x - mean) / (variance + 1e-5).sqrt() * gain + offset;
            if silu { n / (1.0 + (-n).exp()) } else { n }
        })
        .collect()
}

#[test]
fn normalisation_with_modulation_and_silu() {
    let wide = |x: f32| f64::from(x);
    for (set, silu) in sets().flat_map(|set| [(set, false), (set, true)]) {
        let (shape, gamma, beta) = (Shape::new(48, 3, 2), noise(5, 48), noise(6, 48));
        let conditioning = noise(8, 100);
        let plain = NormAct::new(set, 16, gamma.clone(), beta.clone(), silu);
        check(&plain, &[shape], &conditioning, &|x| {
            naive_norm(&x[0], shape, 16, |c| (wide(gamma[c]), wide(beta[c])), silu)
        });
        let modulated = NormAct::new(set, 16, gamma.clone(), beta.clone(), silu).with_film(3..99);
        check(&modulated, &[shape], &conditioning, &|x| {
            let affine = |c: usize| {
                let scale = 1.0 + wide(conditioning[3 + c]);
                (wide(gamma[c]) * scale, wide(beta[c]) * scale + wide(conditioning[51 + c]))
            };
            naive_norm(&x[0], shape, 16, affine, silu)
        });
    }
}

/// Attention by the definition, with the channel of part (q, k, v), head and dimension given.
fn naive_attention(x: &[f64], op: &Attention, channel: impl Fn(usize, usize, usize) -> usize) -> Vec<f64> {
    let total = 3 * op.heads * op.dim;
    let at = |token: usize, part: usize, head: usize, d: usize| x[token * total + channel(part, head, d)];
    let mut out = vec![0.0; op.tokens * op.heads * op.dim];
    for (head, t) in (0..op.heads).flat_map(|head| (0..op.tokens).map(move |t| (head, t))) {
        let score = |s: usize| (0..op.dim).map(|d| at(t, 0, head, d) * at(s, 1, head, d)).sum::<f64>();
        let weights: Vec<_> = (0..op.tokens).map(|s| (score(s) / (op.dim as f64).sqrt()).exp()).collect();
        let total: f64 = weights.iter().sum();
        for d in 0..op.dim {
            let value: f64 = weights.iter().enumerate().map(|(s, w)| w * at(s, 2, head, d)).sum();
            out[(t * op.heads + head) * op.dim + d] = value / total;
        }
    }
    out
}

#[test]
fn attention_and_its_pull_back() {
    // 66 tokens: more than one block of queries, and no whole number of vectors.
    for (set, (height, order)) in sets().flat_map(|set| {
        [(2, HeadOrder::Legacy), (2, HeadOrder::Grouped), (22, HeadOrder::Legacy)].map(|case| (set, case))
    }) {
        let op = Attention { set, heads: 2, dim: 3, tokens: 3 * height, order };
        let shape = Shape::new(18, height, 3);
        check(&SelfAttention(op), &[shape], &[], &|x| {
            naive_attention(&x[0], &op, |part, head, d| match order {
                HeadOrder::Legacy => (3 * head + part) * op.dim + d,
                HeadOrder::Grouped => (part * op.heads + head) * op.dim + d,
            })
        });
    }
}

#[test]
fn resampling_and_concatenation() {
    let shape = Shape::new(3, 4, 6);
    let pixel = |x: &[f64], y: usize, column: usize, c: usize| x[(y * 6 + column) * 3 + c];
    check(&Up2, &[shape], &[], &|x| {
        let out = |i: usize| pixel(&x[0], i / 36 / 2, i / 3 % 12 / 2, i % 3);
        (0..8 * 12 * 3).map(out).collect()
    });
    check(&Down2, &[shape], &[], &|x| {
        let out = |i: usize| {
            let (y, column, c) = (i / 9, i / 3 % 3, i % 3);
            let four = (0..4).map(|k| pixel(&x[0], 2 * y + k / 2, 2 * column + k % 2, c));
            four.sum::<f64>() / 4.0
        };
        (0..2 * 3 * 3).map(out).collect()
    });
    check(&Concat { first: 3, second: 2 }, &[shape, Shape::new(2, 4, 6)], &[], &|x| {
        x[0].chunks(3).zip(x[1].chunks(2)).flat_map(|(a, b)| [a, b].concat()).collect()
    });
}
