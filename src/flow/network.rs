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
    /// The path that the network was trained on.
    pub path: Path,
    /// What its output is.
    pub parametrisation: Parametrisation,
    /// How it is told the time.
    pub time: NetworkTime,
}

impl Convention {
    /// A network of the Cond-OT velocity in flow time: nothing is converted.
    pub const fn cond_ot_velocity() -> Self {
        Self { path: Path::CondOt, parametrisation: Parametrisation::Velocity, time: NetworkTime::Flow }
    }

    /// u as an affine map of (x, output) at flow time `t`, and the time that the network is told.
    ///
    /// At an end where the output does not determine the velocity both are taken at
    /// [`Parametrisation::usable_time`].
    fn at(&self, t: f64) -> (Affine, f64) {
        let t = self.parametrisation.usable_time(&self.path, t);
        (self.parametrisation.to_velocity(self.path.at(t)), self.time.at(t))
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
    /// b·cotangent: a buffer.
    scaled: Vec<T>,
}

/// The network's tape and the coefficients of the call.
struct NetworkTape {
    inner: Tape,
    maps: Vec<Affine>,
}

impl<T: Real, N: RawNetwork<T>> NetworkField<T, N> {
    /// The field of `network`, which was trained by `convention`.
    pub const fn new(network: N, convention: Convention) -> Self {
        Self { network, convention, times: Vec::new(), maps: Vec::new(), scaled: Vec::new() }
    }

    /// What the network's output and time mean.
    pub const fn convention(&self) -> &Convention {
        &self.convention
    }

    fn prepare(&mut self, t: &[f64]) {
        self.times.clear();
        self.maps.clear();
        for (map, time) in t.iter().map(|t| self.convention.at(*t)) {
            self.maps.push(map);
            self.times.push(time);
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

fn raw<'a, T>(t: &'a [f64], x: &'a [T], cond: &'a [Cond]) -> Rows<'a, T> {
    Rows { t, x, cond }
}

impl<T: Real, N: RawNetwork<T>> VelocityField<T> for NetworkField<T, N> {
    fn dim(&self) -> usize {
        self.network.dim()
    }

    fn velocity(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<(), FieldError> {
        self.prepare(rows.t);
        self.network.forward(raw(&self.times, rows.x, rows.cond), out)?;
        self.convert(rows.x, out);
        Ok(())
    }

    fn velocity_taped(&mut self, rows: Rows<'_, T>, out: &mut [T]) -> Result<Tape, FieldError> {
        self.prepare(rows.t);
        let inner = self.network.forward_taped(raw(&self.times, rows.x, rows.cond), out)?;
        self.convert(rows.x, out);
        Ok(if self.is_plain() { inner } else { Box::new(NetworkTape { inner, maps: self.maps.clone() }) })
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[T], out: &mut [T]) -> Result<(), FieldError> {
        if self.is_plain() {
            return self.network.pull_back(tape, cotangent, out);
        }
        let NetworkTape { inner, maps } =
            *tape.downcast().map_err(|_| FieldError::foreign_tape("network field"))?;
        // Linear in the cotangent: b goes in before, a·cotangent is added after.
        let only_b: Vec<Affine> = maps.iter().map(|m| Affine { x: m.y, y: 0.0 }).collect();
        self.scaled.clear();
        self.scaled.resize(cotangent.len(), T::ZERO);
        scale_add(&only_b, cotangent, &mut self.scaled);
        self.network.pull_back(inner, &self.scaled, out)?;
        let only_a: Vec<Affine> = maps.iter().map(|m| Affine { x: m.x, y: 1.0 }).collect();
        scale_add(&only_a, cotangent, out);
        Ok(())
    }

    fn tape_bytes_per_row(&self) -> usize {
        self.network.tape_bytes_per_row() + size_of::<Affine>()
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
        self.prepare(rows.t);
        self.network.forward(raw(&self.times, rows.x, rows.cond), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::GaussianMixture;
    use crate::flow::testing::{check_vjp, mixture, sines};

    /// A network whose output is what a perfect one would give for the mixture, in any parametrisation.
    struct Perfect {
        field: GaussianMixture,
        convention: Convention,
    }

    impl Perfect {
        fn flow_times(&self, t: &[f64]) -> Vec<f64> {
            let back = |t: f64| match self.convention.time {
                NetworkTime::Flow => t,
                NetworkTime::StepIndex { steps } => 1.0 - t / f64::from(steps - 1),
                NetworkTime::NoiseLevel => 1.0 - t,
            };
            t.iter().map(|t| back(*t)).collect()
        }

        fn maps(&self, t: &[f64]) -> Vec<Affine> {
            let at = |t: &f64| self.convention.parametrisation.from_velocity(self.convention.path.at(*t));
            t.iter().map(at).collect()
        }
    }

    impl RawNetwork<f64> for Perfect {
        fn dim(&self) -> usize {
            2
        }

        fn forward(&mut self, rows: Rows<'_, f64>, out: &mut [f64]) -> Result<(), FieldError> {
            self.forward_taped(rows, out).map(|_| ())
        }

        fn forward_taped(&mut self, rows: Rows<'_, f64>, out: &mut [f64]) -> Result<Tape, FieldError> {
            let t = self.flow_times(rows.t);
            let tape = self.field.velocity_taped(raw(&t, rows.x, rows.cond), out)?;
            scale_add(&self.maps(&t), rows.x, out);
            Ok(Box::new((t, tape)))
        }

        fn pull_back(&mut self, tape: Tape, cotangent: &[f64], out: &mut [f64]) -> Result<(), FieldError> {
            let (t, tape) = *tape.downcast::<(Vec<f64>, Tape)>().expect("our tape");
            VelocityField::pull_back(&mut self.field, tape, cotangent, out)?;
            scale_add(&self.maps(&t), cotangent, out);
            Ok(())
        }

        fn tape_bytes_per_row(&self) -> usize {
            0
        }
    }

    fn conventions() -> Vec<Convention> {
        let times = [NetworkTime::Flow, NetworkTime::StepIndex { steps: 1000 }, NetworkTime::NoiseLevel];
        let kinds = [
            Parametrisation::Velocity,
            Parametrisation::Noise,
            Parametrisation::Denoiser,
            Parametrisation::V,
        ];
        let mut all = Vec::new();
        for path in [Path::CondOt, Path::vp_linear(), Path::Polynomial2] {
            for parametrisation in kinds {
                all.extend(times.map(|time| Convention { path: path.clone(), parametrisation, time }));
            }
        }
        all
    }

    #[test]
    fn every_parametrisation_gives_the_velocity_and_its_vjp() {
        for convention in conventions() {
            let field = mixture(convention.path.clone());
            let network = Perfect { field: field.clone(), convention: convention.clone() };
            let mut wrapped = NetworkField::new(network, convention);
            check_vjp(&mut wrapped, &[0.1, 0.5, 0.9]);
            let (mut plain, x, cond) = (field, sines(6), [Cond::None; 3]);
            let rows = raw(&[0.1, 0.5, 0.9], &x, &cond);
            let (mut u, mut exact) = ([0.0; 6], [0.0; 6]);
            wrapped.velocity(rows, &mut u).expect("evaluates");
            plain.velocity(rows, &mut exact).expect("evaluates");
            // The conversions there and back divide by α or σ ≥ 0.007 at these times.
            let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9 * (1.0 + b.abs());
            assert!(u.iter().zip(&exact).all(close), "{:?}: {u:?} {exact:?}", wrapped.convention());
        }
    }

    #[test]
    fn singular_ends_are_finite() {
        for convention in conventions().into_iter().filter(|c| matches!(c.path, Path::CondOt)) {
            let network = Perfect { field: mixture(Path::CondOt), convention: convention.clone() };
            let mut field = NetworkField::new(network, convention);
            let (x, cond) = (sines(4), [Cond::None; 2]);
            let mut u = [0.0; 4];
            field.velocity(raw(&[0.0, 1.0], &x, &cond), &mut u).expect("evaluates");
            assert!(u.iter().all(|u| u.is_finite()), "{:?}", field.convention());
        }
    }
}
