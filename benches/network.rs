//! Times of a network's forward pass and of forward + input VJP, as one line of JSON.
//!
//! usage: network CONFIG.json BATCH THREADS SECONDS [DEVICE]      (driven by tools/bench/bench.py, which alternates with PyTorch)
//!
//! CONFIG is that of an ADM UNet, or `{"egnn": …}` with that of an EGNN, whose rows are molecules of [`ATOMS`]. Weights are
//! random: times do not depend on them. DEVICE is `cpu` or, built with the feature `cuda`, one such as `cuda:0`: all rows
//! are then in one call, from host memory to host memory. (A worker's calls there always have 16, filled up.)
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::{Duration, Instant};

use dflow::flow::{Cond, RawNetwork, Rows};
use dflow::net::adm::{self, AdmConfig};
use dflow::net::egnn::{self, EgnnConfig, EgnnNetwork};
use dflow::net::weights::{Tensor, Weights};
use dflow::net::{Network, kernel};

/// Atoms of the molecules of a batch, over and over: 18 on average, as QM9 has. The same in tools/bench/bench.py.
const ATOMS: [u32; 8] = [18, 17, 19, 16, 20, 18, 21, 15];

/// Random numbers in (−0.1, 0.1).
fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state as f32 / u32::MAX as f32 - 0.5) * 0.2
    }
}

fn random_weights(tensors: Vec<(String, Vec<usize>)>) -> Weights {
    let mut next = noise(1);
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = (0..shape.iter().product()).map(|_| next()).collect();
        (name, Tensor { shape, values })
    };
    Weights::from_tensors("random", tensors.into_iter().map(tensor).collect())
}

/// Milliseconds of each repetition in about `limit`, after a first one for warming up.
fn time(limit: Duration, mut body: impl FnMut()) -> Vec<f64> {
    body();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed() < limit {
        let once = Instant::now();
        body();
        times.push(once.elapsed().as_secs_f64() * 1e3);
    }
    times
}

/// A network, and the condition of a row.
type Subject = (Box<dyn RawNetwork<f32>>, Box<dyn Fn(usize) -> Cond>);

type AnyError = Box<dyn std::error::Error>;

fn subject(config: &str, batch: usize, device: &str) -> Result<Subject, AnyError> {
    let mut config: serde_json::Value = serde_json::from_str(config)?;
    if let Some(egnn) = config.get_mut("egnn") {
        let config: EgnnConfig = serde_json::from_value(egnn.take())?;
        if device != "cpu" {
            return Err("molecules are evaluated on the CPU only".into());
        }
        let network = EgnnNetwork::new(&config, &random_weights(egnn::tensors(&config)))?;
        return Ok((Box::new(network), Box::new(|row| Cond::Atoms(ATOMS[row % ATOMS.len()]))));
    }
    let config: AdmConfig = serde_json::from_value(config)?;
    let network = on_device(Network::adm(&config, &random_weights(adm::tensors(&config)))?, batch, device)?;
    Ok((network, Box::new(move |_| config.num_classes.map_or(Cond::None, |_| Cond::Class(0)))))
}

#[cfg(feature = "cuda")]
fn on_device(network: Network, batch: usize, device: &str) -> Result<Box<dyn RawNetwork<f32>>, AnyError> {
    let Some(index) = device.strip_prefix("cuda:") else { return Ok(Box::new(network)) };
    let device = candle_core::Device::new_cuda(index.parse()?)?;
    Ok(Box::new(dflow::net::DeviceNetwork::new(&network, &device, batch)?))
}

#[cfg(not(feature = "cuda"))]
fn on_device(network: Network, _batch: usize, device: &str) -> Result<Box<dyn RawNetwork<f32>>, AnyError> {
    if device != "cpu" {
        return Err(format!("{device}: this was built without the feature `cuda`").into());
    }
    Ok(Box::new(network))
}

fn main() -> Result<(), AnyError> {
    // `cargo test` and `cargo bench` without arguments: nothing to compare with.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [config, batch, threads, seconds, device @ ..] = &arguments[..] else {
        let device = if cfg!(feature = "cuda") { " [DEVICE]" } else { "" };
        println!("usage: network CONFIG.json BATCH THREADS SECONDS{device}; see tools/bench/bench.py");
        return Ok(());
    };
    let device = device.first().map_or("cpu", |device| device);
    let (batch, limit) = (batch.parse::<usize>()?, Duration::from_secs_f64(seconds.parse()?));
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let (mut network, cond) = subject(&std::fs::read_to_string(config)?, batch, device)?;
    let mut next = noise(2);
    let x: Vec<f32> = (0..batch * network.dim()).map(|_| 10.0 * next()).collect();
    let (mut out, mut gradient) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let (t, cond): (Vec<_>, Vec<_>) = (0..batch).map(|row| (0.5, cond(row))).unzip();
    let rows = Rows { t: &t, x: &x, cond: &cond };
    let forward = time(limit, || network.forward(rows, &mut out).expect("the call is well formed"));
    let vjp = time(limit, || {
        let tape = network.forward_taped(rows, &mut out).expect("the call is well formed");
        network.pull_back(tape, &x, &mut gradient).expect("the tape is this network's");
    });
    let set = kernel::instruction_set();
    println!("{}", serde_json::json!({ "cpu": set, "forward_ms": forward, "forward_vjp_ms": vjp }));
    Ok(())
}
