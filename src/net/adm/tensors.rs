//! Names and shapes of the tensors of an ADM checkpoint.

use super::config::AdmConfig;
use super::layout::{Layer, Layout, Resample};

/// The tensors of the network of a checked configuration, in the order of evaluation, each with its shape.
pub fn tensors(config: &AdmConfig) -> Vec<(String, Vec<usize>)> {
    let layout = Layout::new(config);
    let (base, width) = (config.model_channels, config.embedding());
    let mut list = List::default();
    list.linear("time_embed.0", width, base);
    list.linear("time_embed.2", width, width);
    if let Some(classes) = config.num_classes {
        list.push("label_emb.weight", &[classes, width]);
    }
    for (key, layer) in layout.layers() {
        list.layer(config, &key, layer);
    }
    list.norm("out.0", layout.channels);
    list.conv("out.2", config.network_outputs(), layout.channels, 3);
    list.0
}

#[derive(Default)]
struct List(Vec<(String, Vec<usize>)>);

impl List {
    fn push(&mut self, name: &str, shape: &[usize]) {
        self.0.push((name.to_owned(), shape.to_vec()));
    }

    fn weighted(&mut self, key: &str, shape: &[usize]) {
        self.push(&format!("{key}.weight"), shape);
        self.push(&format!("{key}.bias"), &shape[..1]);
    }

    fn linear(&mut self, key: &str, outputs: usize, inputs: usize) {
        self.weighted(key, &[outputs, inputs]);
    }

    fn conv(&mut self, key: &str, outputs: usize, inputs: usize, size: usize) {
        self.weighted(key, &[outputs, inputs, size, size]);
    }

    fn norm(&mut self, key: &str, channels: usize) {
        self.weighted(key, &[channels]);
    }

    fn layer(&mut self, config: &AdmConfig, key: &str, layer: Layer) {
        match layer {
            Layer::Conv { inputs, outputs } => self.conv(key, outputs, inputs, 3),
            Layer::Residual { inputs, outputs, .. } => self.residual(config, key, inputs, outputs),
            Layer::Attention { channels } => {
                self.norm(&format!("{key}.norm"), channels);
                self.weighted(&format!("{key}.qkv"), &[3 * channels, channels, 1]);
                self.weighted(&format!("{key}.proj_out"), &[channels, channels, 1]);
            }
            Layer::Resample { channels, resample } if config.conv_resample => {
                let name = if resample == Resample::Down { "op" } else { "conv" };
                self.conv(&format!("{key}.{name}"), channels, channels, 3);
            }
            Layer::Resample { .. } => {}
        }
    }

    fn residual(&mut self, config: &AdmConfig, key: &str, inputs: usize, outputs: usize) {
        let modulation = if config.use_scale_shift_norm { 2 * outputs } else { outputs };
        self.norm(&format!("{key}.in_layers.0"), inputs);
        self.conv(&format!("{key}.in_layers.2"), outputs, inputs, 3);
        self.linear(&format!("{key}.emb_layers.1"), modulation, config.embedding());
        self.norm(&format!("{key}.out_layers.0"), outputs);
        self.conv(&format!("{key}.out_layers.3"), outputs, outputs, 3);
        if inputs != outputs {
            self.conv(&format!("{key}.skip_connection"), outputs, inputs, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn public_128_network_has_493_tensors_and_421529606_parameters() {
        let config: AdmConfig = serde_json::from_str(
            r#"{"image_size": 128, "in_channels": 3, "out_channels": 3, "learn_sigma": true, "model_channels": 256,
                "channel_mult": [1, 1, 2, 3, 4], "num_res_blocks": 2, "attention_resolutions": [32, 16, 8],
                "num_heads": 4, "num_classes": 1000, "resblock_updown": true, "use_scale_shift_norm": true}"#,
        )
        .unwrap();
        config.check().unwrap();
        let list = tensors(&config);
        assert_eq!(list.len(), 493);
        assert_eq!(list.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>(), 421_529_606);
        // Names and shapes of the public code (`tools/reference/adm.py`).
        let public = include_str!("../../../tests/golden/adm/public_128.txt").lines().map(|line| {
            let (name, shape) = line.split_once(' ').unwrap();
            (name.to_owned(), shape.split(' ').map(|length| length.parse().unwrap()).collect())
        });
        let sorted = |list: Vec<(String, Vec<usize>)>| list.into_iter().collect::<BTreeMap<_, _>>();
        assert_eq!(sorted(list), sorted(public.collect()));
    }
}
