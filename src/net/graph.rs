//! A network as a list of ops over values, built once, and its evaluation on one sample.
//!
//! The forward pass runs the list, the pull-back runs it backwards. Where every value lies is planned when the graph
//! is built ([`super::memory`]): evaluation allocates nothing.

use super::kernel::{Aligned, Plane, PlaneMut, Shape, Team};
use super::memory::{Lifetime, Slots, assign};
use super::op::{Call, MAX_INPUTS, Op};

/// A value of the graph under construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueId(usize);

#[derive(Debug)]
struct Node {
    op: Box<dyn Op>,
    inputs: Vec<ValueId>,
    output: ValueId,
    /// Per input: whether its gradient already holds something when this node's pull-back runs.
    accumulate: [bool; MAX_INPUTS],
    /// Where the op's saved numbers lie.
    saved: std::ops::Range<usize>,
}

/// Collects ops; the first value is the network's input.
#[derive(Debug)]
pub(crate) struct GraphBuilder {
    nodes: Vec<Node>,
    shapes: Vec<Shape>,
}

impl GraphBuilder {
    /// An empty graph and its input.
    pub(crate) fn new(input: Shape) -> (Self, ValueId) {
        (Self { nodes: Vec::new(), shapes: vec![input] }, ValueId(0))
    }

    /// Appends an op; returns its output.
    pub(crate) fn add(&mut self, op: impl Op + 'static, inputs: &[ValueId]) -> ValueId {
        let shapes: Vec<_> = inputs.iter().map(|&v| self.shape(v)).collect();
        let output = ValueId(self.shapes.len());
        self.shapes.push(op.output(&shapes));
        self.nodes.push(Node {
            op: Box::new(op),
            inputs: inputs.to_vec(),
            output,
            accumulate: [false; MAX_INPUTS],
            saved: 0..0,
        });
        output
    }

    /// Shape of a value.
    pub(crate) fn shape(&self, value: ValueId) -> Shape {
        self.shapes[value.0]
    }

    /// Ends the graph; its last op made the network's output.
    pub(crate) fn finish(self) -> Graph {
        Graph::plan(self.nodes, self.shapes)
    }
}

/// Where a value of a taped forward pass lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the tape, until the pull-back.
    Tape(usize),
    /// In the workspace, until its last use.
    Workspace(usize),
}

/// A network without its conditioning, ready to run.
#[derive(Debug)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    /// Shapes of values, with the border that their readers need.
    shapes: Vec<Shape>,
    /// Shapes of the values' gradients, with the border that the producers' pull-backs need.
    gradient_shapes: Vec<Shape>,
    untaped: Vec<Place>,
    taped: Vec<Place>,
    gradients: Vec<usize>,
    /// Lengths of the workspace's slots.
    slots: Vec<usize>,
    /// Lengths of the tape's values.
    kept: Vec<usize>,
    saved: usize,
    scratch: usize,
}

/// What a taped forward pass of one sample keeps.
#[derive(Debug, Default)]
pub(crate) struct SampleTape {
    kept: Vec<Aligned>,
    saved: Aligned,
}

/// Buffers of one running evaluation, used again and again.
#[derive(Debug)]
pub(crate) struct Workspace {
    slots: Vec<Aligned>,
    scratch: Aligned,
    tape: SampleTape,
}

impl Graph {
    fn plan(mut nodes: Vec<Node>, mut shapes: Vec<Shape>) -> Self {
        let (values, steps) = (shapes.len(), nodes.len());
        let mut gradient_shapes = shapes.clone();
        let mut kept = vec![false; values];
        // Steps of the forward pass are 0 .. steps; the last value is read by the caller at `steps`.
        let mut lives = vec![Lifetime { birth: 0, death: 0 }; values];
        let (mut saved, mut scratch) = (0, 0);
        for (step, node) in nodes.iter_mut().enumerate() {
            let inputs: Vec<_> = node.inputs.iter().map(|v| shapes[v.0]).collect();
            scratch = scratch.max(node.op.scratch_len(&inputs));
            node.saved = saved..saved + node.op.saved_len();
            saved = node.saved.end.next_multiple_of(16);
            lives[node.output.0].birth = step;
            gradient_shapes[node.output.0].border = node.op.cotangent_border();
            for input in &node.inputs {
                lives[input.0].death = step;
                kept[input.0] |= node.op.keeps_inputs();
            }
            let first = &mut shapes[node.inputs[0].0];
            first.border = first.border.max(node.op.input_border());
        }
        lives[values - 1].death = steps;
        let all: Vec<_> = (0..values).map(|v| Some((lives[v], shapes[v].len()))).collect();
        let scratch_only: Vec<_> = (0..values).map(|v| all[v].filter(|_| !kept[v])).collect();
        let backward = Self::gradient_lives(&mut nodes, &gradient_shapes);
        let [untaped, taped, gradients] = [all, scratch_only, backward].map(|v| assign(&v));
        let slots = Slots::merge(&[&untaped, &taped, &gradients]);
        let kept_values: Vec<_> = (0..values).filter(|&v| kept[v]).collect();
        let place = |v: usize| match kept_values.binary_search(&v) {
            Ok(i) => Place::Tape(i),
            Err(_) => Place::Workspace(taped.slot[v]),
        };
        Self {
            untaped: untaped.slot.iter().map(|&s| Place::Workspace(s)).collect(),
            taped: (0..values).map(place).collect(),
            gradients: gradients.slot,
            slots,
            kept: kept_values.iter().map(|&v| shapes[v].len()).collect(),
            saved,
            scratch,
            nodes,
            shapes,
            gradient_shapes,
        }
    }

    /// Lifetimes of gradients in steps of the pull-back, and which contributions add to an earlier one.
    fn gradient_lives(nodes: &mut [Node], shapes: &[Shape]) -> Vec<Option<(Lifetime, usize)>> {
        let steps = nodes.len();
        let mut born = vec![None; shapes.len()];
        let mut lives = vec![Lifetime { birth: 0, death: steps }; shapes.len()];
        born[shapes.len() - 1] = Some(0);
        for (step, node) in nodes.iter_mut().rev().enumerate() {
            lives[node.output.0].death = step;
            for (input, accumulate) in node.inputs.iter().zip(&mut node.accumulate) {
                *accumulate = born[input.0].is_some();
                lives[input.0].birth = *born[input.0].get_or_insert(step);
            }
        }
        (0..shapes.len()).map(|v| Some((lives[v], shapes[v].len()))).collect()
    }

    /// The ops in order, each with the indices of its inputs and of its output; value 0 is the network's input.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (&dyn Op, Vec<usize>, usize)> {
        self.nodes.iter().map(|node| (&*node.op, node.inputs.iter().map(|v| v.0).collect(), node.output.0))
    }

    /// Shape of the input.
    pub(crate) fn input(&self) -> Shape {
        self.shapes[0].bordered(0)
    }

    /// Channels of the output.
    pub(crate) fn output_channels(&self) -> usize {
        self.shapes[self.shapes.len() - 1].channels
    }

    /// Bytes of one sample's tape.
    pub(crate) fn tape_bytes(&self) -> usize {
        4 * (self.kept.iter().sum::<usize>() + self.saved)
    }

    /// Bytes of one workspace.
    pub(crate) fn workspace_bytes(&self) -> usize {
        4 * (self.slots.iter().sum::<usize>() + self.scratch + self.saved)
    }

    /// Buffers for a taped pass.
    pub(crate) fn new_tape(&self) -> SampleTape {
        SampleTape {
            kept: self.kept.iter().map(|&len| Aligned::zeros(len)).collect(),
            saved: Aligned::zeros(self.saved),
        }
    }

    /// Buffers for evaluations.
    pub(crate) fn new_workspace(&self) -> Workspace {
        Workspace {
            slots: self.slots.iter().map(|&len| Aligned::zeros(len)).collect(),
            scratch: Aligned::zeros(self.scratch),
            tape: SampleTape { kept: Vec::new(), saved: Aligned::zeros(self.saved) },
        }
    }

    /// Evaluates one sample, channels outermost: writes as many channels of the output as `out` has.
    ///
    /// With a `tape`, keeps there what [`Self::pull_back`] needs.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        conditioning: &[f32],
        workspace: &mut Workspace,
        tape: Option<&mut SampleTape>,
        out: &mut [f32],
        team: Team,
    ) {
        let Workspace { slots, scratch, tape: unkept } = workspace;
        let (places, tape) = match tape {
            Some(tape) => (&self.taped, tape),
            None => (&self.untaped, unkept),
        };
        let mut values = Values { places, slots, kept: &mut tape.kept };
        from_channels_first(x, PlaneMut::new(values.get_mut(0), self.shapes[0]));
        for node in &self.nodes {
            let mut buffer = values.take(node.output.0);
            let mut output = PlaneMut::new(&mut buffer, self.shapes[node.output.0]);
            output.clear_border();
            let mut inputs = [EMPTY; MAX_INPUTS];
            for (input, &v) in inputs.iter_mut().zip(&node.inputs) {
                *input = Plane::new(values.get(v.0), self.shapes[v.0]);
            }
            let call = Call { conditioning, scratch, team };
            let saved = &mut tape.saved[node.saved.clone()];
            node.op.forward(call, &inputs[..node.inputs.len()], saved, output);
            values.put(node.output.0, buffer);
        }
        let last = self.shapes.len() - 1;
        to_channels_first(Plane::new(values.get(last), self.shapes[last]), out);
    }

    /// Pulls `cotangent` (channels outermost; zero for the output channels that it lacks) back to the input.
    pub(crate) fn pull_back(
        &self,
        cotangent: &[f32],
        conditioning: &[f32],
        workspace: &mut Workspace,
        tape: &SampleTape,
        out: &mut [f32],
        team: Team,
    ) {
        let Workspace { slots, scratch, .. } = workspace;
        let last = self.shapes.len() - 1;
        let output = PlaneMut::new(&mut slots[self.gradients[last]], self.gradient_shapes[last]);
        from_channels_first(cotangent, output);
        for node in self.nodes.iter().rev() {
            let mut inputs = [EMPTY; MAX_INPUTS];
            for (input, v) in inputs.iter_mut().zip(&node.inputs) {
                input.shape = self.shapes[v.0];
                if let (true, Place::Tape(i)) = (node.op.keeps_inputs(), self.taped[v.0]) {
                    *input = Plane::new(&tape.kept[i], input.shape);
                }
            }
            let call = Call { conditioning, scratch, team };
            let kept = (&inputs[..node.inputs.len()], &tape.saved[node.saved.clone()]);
            self.pull_back_node(node, call, kept, slots);
        }
        to_channels_first(Plane::new(&slots[self.gradients[0]], self.gradient_shapes[0]), out);
    }

    /// The pull-back of one op, from the gradient of its output to those of its inputs.
    fn pull_back_node(
        &self,
        node: &Node,
        call: Call<'_>,
        kept: (&[Plane<'_>], &[f32]),
        slots: &mut [Aligned],
    ) {
        let slot = |v: ValueId| self.gradients[v.0];
        let cotangent = std::mem::take(&mut slots[slot(node.output)]);
        let plane = Plane::new(&cotangent, self.gradient_shapes[node.output.0]);
        let gradient = |buffer, i: usize| {
            let mut plane = PlaneMut::new(buffer, self.gradient_shapes[node.inputs[i].0]);
            plane.accumulate = node.accumulate[i];
            if !plane.accumulate {
                plane.clear_border();
            }
            plane
        };
        let mut first = std::mem::take(&mut slots[slot(node.inputs[0])]);
        if let Some(&v) = node.inputs.get(1) {
            let mut second = std::mem::take(&mut slots[slot(v)]);
            let gradients = &mut [gradient(&mut first, 0), gradient(&mut second, 1)];
            node.op.pull_back(call, kept.0, kept.1, plane, gradients);
            slots[slot(v)] = second;
        } else {
            node.op.pull_back(call, kept.0, kept.1, plane, &mut [gradient(&mut first, 0)]);
        }
        slots[slot(node.inputs[0])] = first;
        slots[slot(node.output)] = cotangent;
    }
}

/// A place for a view.
const EMPTY: Plane<'static> = Plane { data: &[], shape: Shape::new(0, 0, 0) };

/// The buffers of the values of a forward pass.
struct Values<'a> {
    places: &'a [Place],
    slots: &'a mut [Aligned],
    kept: &'a mut [Aligned],
}

impl Values<'_> {
    fn get(&self, value: usize) -> &Aligned {
        match self.places[value] {
            Place::Tape(i) => &self.kept[i],
            Place::Workspace(i) => &self.slots[i],
        }
    }

    fn get_mut(&mut self, value: usize) -> &mut Aligned {
        match self.places[value] {
            Place::Tape(i) => &mut self.kept[i],
            Place::Workspace(i) => &mut self.slots[i],
        }
    }

    /// Takes the buffer out, to write it while others are read.
    fn take(&mut self, value: usize) -> Aligned {
        std::mem::take(self.get_mut(value))
    }

    fn put(&mut self, value: usize, buffer: Aligned) {
        *self.get_mut(value) = buffer;
    }
}

/// Writes `[channels, height, width]` numbers into a plane; channels that `x` lacks become zero.
fn from_channels_first(x: &[f32], mut plane: PlaneMut<'_>) {
    plane.clear_border();
    let Shape { channels, width, .. } = plane.shape;
    let pixels = plane.shape.pixels();
    for y in 0..plane.shape.height {
        for (i, pixel) in plane.row_mut(y).chunks_exact_mut(channels).enumerate() {
            for (c, value) in pixel.iter_mut().enumerate() {
                *value = x.get(c * pixels + y * width + i).copied().unwrap_or(0.0);
            }
        }
    }
}

/// Reads the first channels of a plane as `[channels, height, width]`.
fn to_channels_first(plane: Plane<'_>, out: &mut [f32]) {
    let width = plane.shape.width;
    for (c, out) in out.chunks_exact_mut(plane.shape.pixels()).enumerate() {
        for (y, out) in out.chunks_exact_mut(width).enumerate() {
            for (value, pixel) in out.iter_mut().zip(plane.row(y).chunks_exact(plane.shape.channels)) {
                *value = pixel[c];
            }
        }
    }
}
