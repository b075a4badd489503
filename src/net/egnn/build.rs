//! From configuration and weights to ops; channels are padded with zeros to whole vectors.

use super::ClassifierConfig;
use super::classifier::ClassifierNet;
use super::config::EgnnConfig;
use super::coord::Coordinates;
use super::dynamics::{Block, Dynamics};
use super::edge::EdgeMlp;
use super::linear::Linear;
use super::message::{Messages, Scale};
use super::node::NodeMlp;
use super::tensors::{classifier_tensors, tensors};
use crate::molecule::ELEMENTS;
use crate::net::NetError;
use crate::net::kernel::InstructionSet;
use crate::net::weights::Weights;

/// Channels are padded to a multiple of this: whole vectors of every instruction set.
const LANES: usize = 16;

/// The dynamics.
pub(super) fn dynamics(
    set: InstructionSet,
    config: &EgnnConfig,
    weights: &Weights,
) -> Result<Dynamics, NetError> {
    config.check()?;
    weights.check(&tensors(config))?;
    let from = Source::new(set, config.nf, weights);
    let scale =
        Scale { aggregation: config.aggregation_method, normalization_factor: config.normalization_factor };
    let range = config.tanh.then_some(config.coords_range as f32);
    let block = |b: usize| {
        let key = format!("e_block_{b}");
        let messages = (0..config.inv_sublayers)
            .map(|i| from.messages(&format!("{key}.gcl_{i}"), 2, config.attention, scale))
            .collect();
        let key = format!("{key}.gcl_equiv.coord_mlp");
        let head = from.matrix(&format!("{key}.4"));
        let coordinates = Coordinates {
            mlp: from.edge_mlp(&key, 2),
            head: from.padded(|channel| head(0, channel)),
            range,
            scale,
        };
        Block { messages, coordinates }
    };
    Ok(Dynamics {
        width: from.width,
        features: config.features(),
        condition_time: config.condition_time,
        norm_constant: config.norm_constant as f32,
        embedding: from.inputs("embedding", config.node_inputs()),
        blocks: (0..config.n_layers).map(block).collect(),
        embedding_out: from.outputs("embedding_out", config.node_inputs()),
    })
}

/// The network of a property classifier.
pub(super) fn classifier(
    set: InstructionSet,
    config: &ClassifierConfig,
    weights: &Weights,
) -> Result<ClassifierNet, NetError> {
    config.check()?;
    weights.check(&classifier_tensors(config))?;
    let from = Source::new(set, config.nf, weights);
    Ok(ClassifierNet {
        set,
        width: from.width,
        embedding: from.inputs("embedding", ELEMENTS),
        layers: (0..config.n_layers)
            .map(|i| from.messages(&format!("gcl_{i}"), 1, config.attention, Scale::ONE))
            .collect(),
        node: [from.square("node_dec.0"), from.square("node_dec.2")],
        graph: [from.square("graph_dec.0"), from.outputs("graph_dec.2", 1)],
    })
}

/// Checked weights of a network of `nf` channels.
struct Source<'a> {
    set: InstructionSet,
    nf: usize,
    width: usize,
    weights: &'a Weights,
}

impl<'a> Source<'a> {
    fn new(set: InstructionSet, nf: usize, weights: &'a Weights) -> Self {
        Self { set, nf, width: nf.next_multiple_of(LANES), weights }
    }

    fn values(&self, name: &str) -> &'a [f32] {
        &self.weights.get(name).expect("the weights were checked").values
    }

    /// The weights of a layer by (output, input).
    fn matrix(&self, key: &str) -> impl Fn(usize, usize) -> f32 + 'a {
        let tensor = self.weights.get(&format!("{key}.weight")).expect("the weights were checked");
        let inputs = tensor.shape[1];
        move |output, input| tensor.values[output * inputs + input]
    }

    fn bias(&self, key: &str) -> impl Fn(usize) -> f32 + 'a {
        let values = self.values(&format!("{key}.bias"));
        move |output| values[output]
    }

    /// A number for every channel, 0 for those that pad.
    fn padded(&self, value: impl Fn(usize) -> f32) -> Vec<f32> {
        (0..self.width).map(|channel| if channel < self.nf { value(channel) } else { 0.0 }).collect()
    }

    /// Channels to channels.
    fn square(&self, key: &str) -> Linear {
        self.part(self.matrix(key), self.bias(key))
    }

    fn part(&self, weight: impl Fn(usize, usize) -> f32, bias: impl Fn(usize) -> f32) -> Linear {
        let real = |channel: usize| channel < self.nf;
        Linear::new(
            self.set,
            (self.width, self.width),
            |o, i| if real(o) && real(i) { weight(o, i) } else { 0.0 },
            |o| if real(o) { bias(o) } else { 0.0 },
        )
    }

    /// `count` numbers to channels.
    fn inputs(&self, key: &str, count: usize) -> Linear {
        let (weight, bias) = (self.matrix(key), self.bias(key));
        let real = |channel: usize| channel < self.nf;
        Linear::new(
            self.set,
            (self.width, count),
            |o, i| if real(o) { weight(o, i) } else { 0.0 },
            |o| if real(o) { bias(o) } else { 0.0 },
        )
    }

    /// Channels to `count` numbers.
    fn outputs(&self, key: &str, count: usize) -> Linear {
        let weight = self.matrix(key);
        let weight = |o, i| if i < self.nf { weight(o, i) } else { 0.0 };
        Linear::new(self.set, (count, self.width), weight, self.bias(key))
    }

    /// Layers 0 and 2 of an MLP on edges whose inputs end with `distances` numbers, 1 or 2.
    fn edge_mlp(&self, key: &str, distances: usize) -> EdgeMlp {
        let (nf, width) = (self.nf, self.width);
        let (first, bias) = (self.matrix(&format!("{key}.0")), self.bias(&format!("{key}.0")));
        let project = Linear::new(
            self.set,
            (2 * width, width),
            |o, i| match (o / width, o % width) {
                (part, o) if o < nf && i < nf => first(o, part * nf + i),
                _ => 0.0,
            },
            |o| if o < nf { bias(o) } else { 0.0 },
        );
        let slope = |k: usize| self.padded(|o| if k < distances { first(o, 2 * nf + k) } else { 0.0 });
        let second = self.square(&format!("{key}.2"));
        EdgeMlp::new((self.set, width), project, [slope(0), slope(1)], second)
    }

    fn messages(&self, key: &str, distances: usize, attention: bool, scale: Scale) -> Messages {
        let gate = attention.then(|| {
            let key = format!("{key}.att_mlp.0");
            let weight = self.matrix(&key);
            (self.padded(|channel| weight(0, channel)), self.bias(&key)(0))
        });
        let first = self.matrix(&format!("{key}.node_mlp.0"));
        let node = NodeMlp {
            set: self.set,
            from_h: self.part(&first, self.bias(&format!("{key}.node_mlp.0"))),
            from_sums: self.part(|o, i| first(o, self.nf + i), |_| 0.0),
            second: self.square(&format!("{key}.node_mlp.2")),
        };
        Messages { mlp: self.edge_mlp(&format!("{key}.edge_mlp"), distances), gate, node, scale }
    }
}
