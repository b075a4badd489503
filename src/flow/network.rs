//! A velocity field made of a raw network, a probability path and a parametrisation.

use super::field::{Cond, FieldError, Rows, Tape, VelocityField};
use crate::path::{Affine, NetworkTime, Parametrisation, Path};
use crate::real::Real;

/// A network as it was trained: output and vector–Jacobian product, whatever the output means.
///
/// `rows.t` holds the time as the network takes it ([`NetworkTime`]). A row's results depend on that row only, bit
/// for bit.
pub trait RawNetwork<T: Real>: Send {
    /// Numbers in one state, and in one output.
    fn dim(&self) -> usize;

    /// `out[r] = network(rows[r])`.
    fn forward(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<(), FieldError>;

    /// As [`Self::forward`], keeping what [`Self::pull_back`] needs.
    fn forward_taped(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<Tape, FieldError>;

    /// `out[r] = (∂network/∂x)ᵀ cotangent[r]` for the call that made `tape`.
    fn pull_back(&mut self, tape: Tape, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError>;

    /// Bytes that one row's tape takes.
    fn tape_bytes_per_row(&self) -> usize;

    /// As [`VelocityField::extent`].
    fn extent(&self, _cond: &Cond) -> usize {
        self.dim()
    }
}

impl<T: Real> RawNetwork<T> for Box<dyn RawNetwork<T>> {
    fn dim(&self) -> usize {
        (**self).dim()
    }

    fn forward(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<(), FieldError> {
        (**self).forward(rows, out)
    }

    fn forward_taped(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<Tape, FieldError> {
        (**self).forward_taped(rows, out)
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError> {
        (**self).pull_back(tape, cotangent, out)
    }

    fn tape_bytes_per_row(&self) -> usize {
        (**self).tape_bytes_per_row()
    }

    fn extent(&self, cond: &Cond) -> usize {
        (**self).extent(cond)
    }
}

/// What a network's output and time mean.
#[derive(Debug, Clone)]
pub struct Convention {
    /// The path that the velocity is of.
    pub path: Path,
    /// The path that the network was trained on, if it is another one: states at equal α/σ are each other's multiples.
    /// The network must then predict noise, the denoiser or v (whose meaning has no time derivative in it).
    pub trained: Option<Path>,
    /// What its output is.
    pub parametrisation: Parametrisation,
    /// How it is told the time (of the path that it was trained on).
    pub time: NetworkTime,
    /// Whether a forward solve ends with the denoiser at t = 1, for paths that keep noise there.
    pub finish: bool,
}

/// How the network is evaluated at one time of the flow.
#[derive(Debug, Clone, Copy)]
struct Evaluation {
    /// The velocity from state and output.
    map: Affine,
    /// The time that the network is told.
    time: f64,
    /// Factor from the state to what the network is shown.
    scale: f64,
}

impl Convention {
    /// A network of the Cond-OT velocity in flow time: nothing is converted.
    pub const fn cond_ot_velocity() -> Self {
        Self {
            path: Path::CondOt,
            trained: None,
            parametrisation: Parametrisation::Velocity,
            time: NetworkTime::Flow,
            finish: false,
        }
    }

    /// The evaluation for flow time `t`.
    ///
    /// At an end where the output does not determine the velocity all of it is taken at
    /// [`Parametrisation::usable_time`].
    fn at(&self, t: f64) -> Evaluation {
        let t = self.parametrisation.usable_time(&self.path, t);
        let here = self.path.at(t);
        let map = self.parametrisation.to_velocity(here);
        let Some(trained) = &self.trained else {
            return Evaluation { map, time: self.time.at(t), scale: 1.0 };
        };
        let there_t = trained.time_of(libm::log(here.alpha / here.sigma));
        let there = trained.at(there_t);
        // At one end of the path one of them may be 0.
        let scale = if here.alpha > here.sigma { there.alpha / here.alpha } else { there.sigma / here.sigma };
        let map = match self.parametrisation {
            // αε̂ − σx̂₁ scales with the state.
            Parametrisation::V => Affine { x: map.x, y: map.y / scale },
            _ => map,
        };
        Evaluation { map, time: self.time.at(there_t), scale }
    }

    /// x̂₁ at t = 1 from state and velocity, if solves end with it.
    fn finish(&self) -> Option<Affine> {
        self.finish.then(|| Parametrisation::Denoiser.from_velocity(self.path.at(1.0)))
    }
}

/// The velocity field of a network: u = a·x + b·network(x), with a and b from the path.
pub struct NetworkField<T, N> {
    network: N,
    convention: Convention,
    /// What the network is told: a buffer.
    times: Vec<f64>,
    /// a and b of each row: a buffer.
    maps: Vec<Affine>,
    /// Factor of each row's state: a buffer; empty: 1.
    scales: Vec<f64>,
    /// The states as the network is shown them: a buffer.
    shown: Vec<T>,
    /// b·cotangent: a buffer.
    scaled: Vec<T>,
}

/// The network's tape and the coefficients of the call.
struct NetworkTape {
    inner: Tape,
    maps: Vec<Affine>,
    scales: Vec<f64>,
}

impl<T: Real, N: RawNetwork<T>> NetworkField<T, N> {
    /// The field of `network`, which was trained by `convention`.
    pub const fn new(network: N, convention: Convention) -> Self {
        Self {
            network,
            convention,
            times: Vec::new(),
            maps: Vec::new(),
            scales: Vec::new(),
            shown: Vec::new(),
            scaled: Vec::new(),
        }
    }

    /// What the network's output and time mean.
    pub const fn convention(&self) -> &Convention {
        &self.convention
    }

    fn prepare(&mut self, t: &[f64], x: &[T]) {
        self.times.clear();
        self.maps.clear();
        self.scales.clear();
        self.shown.clear();
        let scales = self.convention.trained.is_some();
        for Evaluation { map, time, scale } in t.iter().map(|t| self.convention.at(*t)) {
            self.maps.push(map);
            self.times.push(time);
            self.scales.extend(scales.then_some(scale));
        }
        if scales {
            self.shown.extend_from_slice(x);
            scale_rows(&self.scales, &mut self.shown);
        }
    }

    /// Nothing to convert, so that a velocity network's output is passed on as it is.
    fn is_plain(&self) -> bool {
        self.convention.parametrisation == Parametrisation::Velocity
    }

    /// Network outputs in place to velocities.
    fn convert(&self, x: &[T], out: &mut [T]) {
        if !self.is_plain() {
            scale_add(&self.maps, x, out);
        }
    }
}

/// `x[r] = scale·x[r]`; nothing without scales.
fn scale_rows<T: Real>(scales: &[f64], x: &mut [T]) {
    let dim = x.len() / scales.len().max(1);
    for (scale, x) in scales.iter().zip(x.chunks_exact_mut(dim.max(1))) {
        let scale = T::from_f64(*scale);
        x.iter_mut().for_each(|x| *x = scale * *x);
    }
}

/// `y[r] = map.x·x[r] + map.y·y[r]`.
fn scale_add<T: Real>(maps: &[Affine], x: &[T], y: &mut [T]) {
    let dim = x.len() / maps.len().max(1);
    for ((map, x), y) in maps.iter().zip(x.chunks_exact(dim)).zip(y.chunks_exact_mut(dim)) {
        let (a, b) = (T::from_f64(map.x), T::from_f64(map.y));
        for (x, y) in x.iter().zip(y) {
            *y = a * *x + b * *y;
        }
    }
}

/// What the network is asked: its own times, and its own states where they differ.
fn raw<'a, T>(t: &'a [f64], shown: &'a [T], rows: Rows<'a, T>) -> Rows<'a, T> {
    Rows { t, x: if shown.is_empty() { rows.x } else { shown }, cond: rows.cond }
}

impl<T: Real, N: RawNetwork<T>> VelocityField<T> for NetworkField<T, N> {
    fn dim(&self) -> usize {
        self.network.dim()
    }

    fn velocity(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<(), FieldError> {
        self.prepare(rows.t, rows.x);
        self.network.forward(raw(&self.times, &self.shown, rows), out)?;
        self.convert(rows.x, out);
        Ok(())
    }

    fn velocity_taped(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<Tape, FieldError> {
        self.prepare(rows.t, rows.x);
        let inner = self.network.forward_taped(raw(&self.times, &self.shown, rows), out)?;
        self.convert(rows.x, out);
        if self.is_plain() {
            return Ok(inner);
        }
        Ok(Box::new(NetworkTape { inner, maps: self.maps.clone(), scales: self.scales.clone() }))
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError> {
        if self.is_plain() {
            return self.network.pull_back(tape, cotangent, out);
        }
        let NetworkTape { inner, maps, scales } =
            *tape.downcast().map_err(|_| FieldError::foreign_tape("network field"))?;
        // Linear in the cotangent: b goes in before, a·cotangent is added after.
        let only_b: Vec<Affine> = maps.iter().map(|m| Affine { x: m.y, y: 0.0 }).collect();
        self.scaled.clear();
        self.scaled.resize(cotangent.len(), T::ZERO);
        scale_add(&only_b, cotangent, &mut self.scaled);
        self.network.pull_back(inner, &self.scaled, out)?;
        scale_rows(&scales, out);
        let only_a: Vec<Affine> = maps.iter().map(|m| Affine { x: m.x, y: 1.0 }).collect();
        scale_add(&only_a, cotangent, out);
        Ok(())
    }

    fn tape_bytes_per_row(&self) -> usize {
        self.network.tape_bytes_per_row() + size_of::<Affine>() + size_of::<f64>()
    }

    fn extent(&self, cond: &Cond) -> usize {
        self.network.extent(cond)
    }

    /// A noise network's own output; other parametrisations do not determine the noise at every time.
    fn noise(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<(), FieldError> {
        if self.convention.parametrisation != Parametrisation::Noise {
            return Err(FieldError::Other(
                "the network does not predict the noise; the ancestral sampler needs one that does"
                    .to_owned(),
            ));
        }
        self.prepare(rows.t, rows.x);
        self.network.forward(raw(&self.times, &self.shown, rows), out)
    }

    fn finish(&self) -> Option<Affine> {
        self.convention.finish()
    }
}

#[cfg(test)]
mod tests;
