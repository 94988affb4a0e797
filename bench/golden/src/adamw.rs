//! Optimizer trajectories, on every instruction set: `OPTIMIZER/PARAMETER/start`, `grad0…`, `after0…` and
//! the `state/*` after the last step. A state with `absmax1` is one of 8-bit codes.

use crate::report::Report;
use crate::{Error, tolerance};
use kernels::Isa;
use kernels::adamw::{AdamWStep, BLOCK_SIZE, Moment8, Order, adamw, adamw8};
use kernels::dynamic::{SIGNED, UNSIGNED};
use safetensors::SafeTensors;
use std::path::Path;

/// What every trajectory was made with.
fn step(step: u64) -> AdamWStep {
    AdamWStep {
        lr: 2e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        step,
        grad_scale: 1.0,
    }
}

/// Deviations by part, each with its tensor.
#[derive(Default)]
struct Found {
    parameters: Vec<(String, f64)>,
    /// f32 moments: how many differ in a bit.
    moments: Vec<(String, f64)>,
    codes: Vec<(String, f64)>,
    absmax: Vec<(String, f64)>,
    tables: Vec<(String, f64)>,
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.display().to_string(), source })
}

fn parse<'a>(path: &Path, data: &'a [u8]) -> Result<SafeTensors<'a>, Error> {
    SafeTensors::deserialize(data)
        .map_err(|source| Error::Safetensors { path: path.display().to_string(), source })
}

/// Whether a file holds what `check` compares.
pub(crate) fn is_trajectories(path: &Path) -> Result<bool, Error> {
    let data = read(path)?;
    Ok(parse(path, &data)?.names().iter().any(|name| name.ends_with("/start")))
}

pub(crate) fn check(path: &Path) -> Result<Report, Error> {
    let data = read(path)?;
    let golden = Golden { path: path.display().to_string(), file: parse(path, &data)? };
    let mut found = Found::default();
    let names = golden.file.names();
    for case in names.iter().filter_map(|name| name.strip_suffix("/start")) {
        let eight_bits = golden.file.tensor(&format!("{case}/state/absmax1")).is_ok();
        for isa in Isa::available() {
            match eight_bits {
                true => golden.eight_bits(isa, case, &mut found)?,
                false => golden.f32(isa, case, &mut found)?,
            }
        }
    }
    let mut report = Report { name: "adamw".into(), ..Report::default() };
    report.add("parameters", tolerance::PARAMETERS_ABS, found.parameters);
    report.add("f32 moments", tolerance::CODEC_DIFFERING, found.moments);
    report.add("codes", tolerance::CODEC_DIFFERING, found.codes);
    report.add("absmax ulps", tolerance::ABSMAX_ULPS, found.absmax);
    report.add("tables", tolerance::CODEC_DIFFERING, found.tables);
    Ok(report)
}

struct Golden<'a> {
    path: String,
    file: SafeTensors<'a>,
}

impl Golden<'_> {
    fn f32(&self, isa: Isa, case: &str, found: &mut Found) -> Result<(), Error> {
        let torch = case.starts_with("adamw32/");
        let order = if torch { Order::Torch } else { Order::BitsAndBytes };
        let n = self.f32s(&format!("{case}/start"))?.len();
        let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
        self.trajectory(isa, case, found, |t, p, g| {
            adamw(isa, order, &step(t), p, g, [&mut m, &mut v]);
        })?;
        let names = if torch { ["exp_avg", "exp_avg_sq"] } else { ["state1", "state2"] };
        for (name, ours) in names.into_iter().zip([m, v]) {
            let name = format!("{case}/state/{name}");
            let theirs = self.f32s(&name)?;
            let bits = |x: &f32| x.to_bits();
            let count = differing(ours.iter().map(bits), theirs.iter().map(bits));
            found.moments.push((format!("{name} on {}", isa.name()), count));
        }
        Ok(())
    }

    fn eight_bits(&self, isa: Isa, case: &str, found: &mut Found) -> Result<(), Error> {
        let n = self.f32s(&format!("{case}/start"))?.len();
        let mut codes = [vec![0u8; n], vec![0u8; n]];
        let mut absmax = [vec![0.0; n.div_ceil(BLOCK_SIZE)], vec![0.0; n.div_ceil(BLOCK_SIZE)]];
        self.trajectory(isa, case, found, |t, p, g| {
            let [c1, c2] = &mut codes;
            let [a1, a2] = &mut absmax;
            let moments = [Moment8 { codes: c1, absmax: a1 }, Moment8 { codes: c2, absmax: a2 }];
            adamw8(isa, &step(t), p, g, moments);
        })?;
        for (i, table) in [&SIGNED, &UNSIGNED].into_iter().enumerate() {
            let name = |part: &str| format!("{case}/state/{part}{}", i + 1);
            let on = |part: &str| format!("{} on {}", name(part), isa.name());
            let theirs = self.bytes(&name("state"))?;
            found.codes.push((on("state"), differing(codes[i].iter(), theirs.iter())));
            let theirs = self.f32s(&name("absmax"))?;
            let ulps = |(a, b): (&f32, &f32)| f64::from(a.to_bits().abs_diff(b.to_bits()));
            let worst = absmax[i].iter().zip(&theirs).map(ulps).fold(0.0, f64::max);
            let same_len = theirs.len() == absmax[i].len();
            found.absmax.push((on("absmax"), if same_len { worst } else { f64::NAN }));
            let theirs = self.f32s(&name("qmap"))?;
            let bits = |x: &f32| x.to_bits();
            let count = differing(table.iter().map(bits), theirs.iter().map(bits));
            found.tables.push((name("qmap"), count));
        }
        Ok(())
    }

    /// Takes the steps that there are gradients for, and compares p after each.
    fn trajectory(
        &self,
        isa: Isa,
        case: &str,
        found: &mut Found,
        mut update: impl FnMut(u64, &mut [f32], &[f32]),
    ) -> Result<(), Error> {
        let mut p = self.f32s(&format!("{case}/start"))?;
        let steps = (0..).take_while(|t| self.file.tensor(&format!("{case}/grad{t}")).is_ok());
        for t in steps {
            let g = self.f32s(&format!("{case}/grad{t}"))?;
            update(t + 1, &mut p, &g);
            let want = self.f32s(&format!("{case}/after{t}"))?;
            let deviation = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
            let over = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
            let worst = p.iter().zip(&want).map(deviation).fold(0.0, over);
            found.parameters.push((format!("{case}/after{t} on {}", isa.name()), worst));
        }
        Ok(())
    }

    fn bytes(&self, name: &str) -> Result<&[u8], Error> {
        let missing = |_| Error::Missing { path: self.path.clone(), key: name.into() };
        Ok(self.file.tensor(name).map_err(missing)?.data())
    }

    fn f32s(&self, name: &str) -> Result<Vec<f32>, Error> {
        let bytes = self.bytes(name)?.as_chunks::<4>().0;
        Ok(bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// How many differ; NaN where the lengths do.
fn differing<T: PartialEq>(
    ours: impl ExactSizeIterator<Item = T>,
    theirs: impl ExactSizeIterator<Item = T>,
) -> f64 {
    match ours.len() == theirs.len() {
        true => ours.zip(theirs).filter(|(a, b)| a != b).count() as f64,
        false => f64::NAN,
    }
}
