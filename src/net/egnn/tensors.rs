//! Names and shapes of the tensors of EGNN checkpoints, in the layouts of the public code.

use super::ClassifierConfig;
use super::config::EgnnConfig;
use crate::molecule::ELEMENTS;

/// The tensors of the dynamics of a checked configuration, each with its shape; those of a public EDM or EquiFM
/// checkpoint without their prefix `dynamics.egnn.`.
pub fn tensors(config: &EgnnConfig) -> Vec<(String, Vec<usize>)> {
    let nf = config.nf;
    let mut list = List::default();
    list.linear("embedding", nf, config.node_inputs());
    list.linear("embedding_out", config.node_inputs(), nf);
    for b in 0..config.n_layers {
        for i in 0..config.inv_sublayers {
            list.messages(&format!("e_block_{b}.gcl_{i}"), nf, 2 * nf + 2, config.attention);
        }
        let key = format!("e_block_{b}.gcl_equiv.coord_mlp");
        list.linear(&format!("{key}.0"), nf, 2 * nf + 2);
        list.linear(&format!("{key}.2"), nf, nf);
        list.0.push((format!("{key}.4.weight"), vec![1, nf]));
    }
    list.0
}

/// The tensors of a property classifier, each with its shape.
pub fn classifier_tensors(config: &ClassifierConfig) -> Vec<(String, Vec<usize>)> {
    let nf = config.nf;
    let mut list = List::default();
    list.linear("embedding", nf, ELEMENTS);
    for i in 0..config.n_layers {
        list.messages(&format!("gcl_{i}"), nf, 2 * nf + 1, config.attention);
    }
    list.linear("node_dec.0", nf, nf);
    list.linear("node_dec.2", nf, nf);
    list.linear("graph_dec.0", nf, nf);
    list.linear("graph_dec.2", 1, nf);
    list.0
}

#[derive(Default)]
struct List(Vec<(String, Vec<usize>)>);

impl List {
    fn linear(&mut self, key: &str, outputs: usize, inputs: usize) {
        self.0.push((format!("{key}.weight"), vec![outputs, inputs]));
        self.0.push((format!("{key}.bias"), vec![outputs]));
    }

    fn messages(&mut self, key: &str, nf: usize, edge_inputs: usize, attention: bool) {
        self.linear(&format!("{key}.edge_mlp.0"), nf, edge_inputs);
        self.linear(&format!("{key}.edge_mlp.2"), nf, nf);
        self.linear(&format!("{key}.node_mlp.0"), nf, 2 * nf);
        self.linear(&format!("{key}.node_mlp.2"), nf, nf);
        if attention {
            self.linear(&format!("{key}.att_mlp.0"), 1, nf);
        }
    }
}
