//! A tiny random model of one architecture: logits, all gradients, and the AdamW trajectories of full
//! fine-tuning, LoRA and QLoRA, on every instruction set of this machine.

use crate::report::{Report, relative, relative_l2};
use crate::tensors::Expected;
use crate::{Error, read_json, tolerance};
use engine::ctx::{Ctx, Precision, read};
use engine::decoder::{self, MicroBatch, Recomputation};
use engine::formats::ModelFiles;
use engine::model::quantize::{QuantType, QuantizationOptions};
use engine::model::{self, LoadOptions, Method, Model};
use engine::optimizer::OptimizerOptions;
use engine::signal::Signal;
use engine::train::Trainer;
use kernels::Isa;
use serde_json::Value;
use std::path::Path;

/// What the references' AdamW was given.
fn optimizer() -> OptimizerOptions {
    OptimizerOptions { weight_decay: 0.01, decay_all: true, ..OptimizerOptions::adamw() }
}
const LEARNING_RATE: f64 = 1e-3;

pub(crate) fn check(dir: &Path) -> Result<Report, Error> {
    let name = dir
        .file_name()
        .map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned());
    let mut report = Report { name, ..Report::default() };
    for isa in Isa::available() {
        report.keep_worse(check_on(isa, dir)?, isa.name());
    }
    Ok(report)
}

fn check_on(isa: Isa, dir: &Path) -> Result<Report, Error> {
    let golden = Golden::open(isa, dir)?;
    let mut report = Report::default();

    let mut plain = golden.load(&Method::Frozen, None)?;
    golden.logits(&mut plain, "logits", "logits", &mut report)?;
    drop(plain);

    let mut full = golden.load(&Method::Full, None)?;
    golden.gradients(&mut full, "full", "loss", &mut report)?;
    golden.trajectory(&mut full, "full", &mut report)?;
    drop(full);

    let mut lora = golden.load_adapter(None)?;
    golden.logits(&mut lora, "lora/logits", "lora logits", &mut report)?;
    golden.gradients(&mut lora, "lora", "lora_loss", &mut report)?;
    golden.trajectory(&mut lora, "lora", &mut report)?;

    if golden.tensors.names().any(|name| name.starts_with("nf4/")) {
        let quantization = targets_in_nf4(&lora);
        drop(lora);
        let mut nf4 = golden.load_adapter(Some(&quantization))?;
        golden.logits(&mut nf4, "nf4/logits", "nf4 logits", &mut report)?;
        golden.gradients(&mut nf4, "nf4", "nf4_loss", &mut report)?;
        golden.trajectory(&mut nf4, "nf4_lora", &mut report)?;
    }
    Ok(report)
}

/// What the references' `nf4/*` were made with: the adapter's targets in NF4, block 64, double
/// quantisation; all else as it is.
pub(crate) fn targets_in_nf4(model: &Model) -> QuantizationOptions {
    let kept = model.block_linears().filter(|linear| linear.lora.is_none());
    QuantizationOptions::FourBits {
        quant_type: QuantType::Nf4,
        double_quant: true,
        block_size: 64,
        skip_modules: kept.map(|linear| linear.name.clone()).collect(),
    }
}

struct Golden<'a> {
    isa: Isa,
    dir: &'a Path,
    files: ModelFiles,
    expected: Value,
    tensors: Expected,
    batch: Batch,
}

/// `batch.json`: as it is, padded; and without the padding, row after row.
pub struct Batch {
    pub mask: Vec<Vec<u8>>,
    pub padded: MicroBatch,
    pub ragged: MicroBatch,
}

impl Golden<'_> {
    fn open(isa: Isa, dir: &Path) -> Result<Golden<'_>, Error> {
        Ok(Golden {
            isa,
            dir,
            files: ModelFiles::open(dir).map_err(engine::Error::from)?,
            expected: read_json(&dir.join("expected.json"))?,
            tensors: Expected::open(&dir.join("expected.safetensors"))?,
            batch: Batch::open(&dir.join("batch.json"))?,
        })
    }

    fn load(
        &self,
        method: &Method,
        quantization: Option<&QuantizationOptions>,
    ) -> Result<Model, Error> {
        let options = LoadOptions { method, quantization, seed: 0 };
        let ctx = Ctx::new(self.isa, Precision::F32);
        Ok(model::load(&ctx, &self.files, options, &Signal::default())?)
    }

    fn load_adapter(&self, quantization: Option<&QuantizationOptions>) -> Result<Model, Error> {
        let dir = self.dir.join("adapter");
        let (options, tensors) = model::adapter_files::read(&dir)?;
        let mut model = self.load(&Method::Lora(options), quantization)?;
        model::adapter_files::load_into(&mut model, &tensors)?;
        Ok(model)
    }

    /// Logits at the positions that the mask keeps; from the padded batch, and from the ragged one.
    fn logits(
        &self,
        model: &mut Model,
        tensor: &str,
        part: &str,
        report: &mut Report,
    ) -> Result<(), Error> {
        let wanted = self.tensors.get(tensor)?;
        let vocab = model.spec.vocab_size;
        let padded = logits(model, &self.batch.padded)?;
        let ragged = logits(model, &self.batch.ragged)?;
        let mut deviations = vec![];
        let kept = self.batch.mask.iter().flatten().enumerate().filter(|(_, keep)| **keep == 1);
        for (at, (row, _)) in kept.enumerate() {
            let want = &wanted[row * vocab..(row + 1) * vocab];
            let rows =
                [&padded[row * vocab..(row + 1) * vocab], &ragged[at * vocab..(at + 1) * vocab]];
            deviations.extend(rows.map(|got| (format!("row {row}"), max_abs(got, want))));
        }
        report.add(part, tolerance::LOGITS_ABS, deviations);
        Ok(())
    }

    fn gradients(
        &self,
        model: &mut Model,
        kind: &str,
        loss_key: &str,
        report: &mut Report,
    ) -> Result<(), Error> {
        let trainer = Trainer::new(model, &optimizer(), 0, Recomputation::default())?;
        let wanted_loss = self.number(loss_key)?;
        let mut losses = vec![];
        for (name, batch) in [("padded", &self.batch.padded), ("ragged", &self.batch.ragged)] {
            let (loss, _) =
                trainer.gradients(model, std::slice::from_ref(batch), &Signal::default())?;
            losses.push((name.to_owned(), relative(loss, wanted_loss)));
        }
        report.add(loss_key, tolerance::LOSS_REL, losses);

        let prefix = format!("{kind}/grad/");
        let wanted: Vec<&str> =
            self.tensors.names().filter_map(|name| name.strip_prefix(&prefix)).collect();
        let mut deviations = vec![];
        for param in &model.params {
            let got = read::<f32, _>(&param.grad, <[f32]>::to_vec)?;
            let deviation = match wanted.contains(&param.name.as_str()) {
                true => relative_l2(&got, self.tensors.get(&format!("{prefix}{}", param.name))?),
                false => f64::NAN, // trained here and not there
            };
            deviations.push((param.name.clone(), deviation));
        }
        let missed = wanted.iter().filter(|name| !model.params.iter().any(|p| p.name == **name));
        deviations.extend(missed.map(|name| ((*name).to_owned(), f64::NAN)));
        report.add(&format!("{kind} gradients"), tolerance::GRAD_REL, deviations);
        Ok(())
    }

    /// The loss before each of the AdamW steps, with every second block recomputed to prove that
    /// recomputation changes nothing.
    fn trajectory(&self, model: &mut Model, kind: &str, report: &mut Report) -> Result<(), Error> {
        let recomputed = Recomputation { blocks: model.blocks.len() / 2, keeps_attention: true };
        let mut trainer = Trainer::new(model, &optimizer(), 0, recomputed)?;
        let key = format!("{kind}_adamw_losses");
        let mut deviations = vec![];
        for (i, want) in self.numbers(&key)?.into_iter().enumerate() {
            let micros = std::slice::from_ref(&self.batch.ragged);
            let report = trainer.step(model, micros, LEARNING_RATE, &Signal::default())?;
            deviations.push((format!("step {}", i + 1), relative(report.loss, want)));
        }
        report.add(&format!("{kind} AdamW"), tolerance::LOSS_REL, deviations);
        Ok(())
    }

    fn number(&self, key: &str) -> Result<f64, Error> {
        self.expected.get(key).and_then(Value::as_f64).ok_or_else(|| self.missing(key))
    }

    fn numbers(&self, key: &str) -> Result<Vec<f64>, Error> {
        let list =
            self.expected.get(key).and_then(Value::as_array).ok_or_else(|| self.missing(key))?;
        list.iter().map(|v| v.as_f64().ok_or_else(|| self.missing(key))).collect()
    }

    fn missing(&self, key: &str) -> Error {
        Error::Missing {
            path: self.dir.join("expected.json").display().to_string(),
            key: key.into(),
        }
    }
}

impl Batch {
    pub fn open(path: &Path) -> Result<Batch, Error> {
        #[derive(serde::Deserialize)]
        struct File {
            input_ids: Vec<Vec<u32>>,
            attention_mask: Vec<Vec<u8>>,
            labels: Vec<Vec<i32>>,
        }
        let json = read_json(path)?;
        let file: File = serde_json::from_value(json)
            .map_err(|source| Error::Json { path: path.display().to_string(), source })?;
        let (mut padded, mut ragged) = (MicroBatch::default(), MicroBatch::default());
        (padded.seq_starts, ragged.seq_starts) = (vec![0], vec![0]);
        for ((ids, mask), labels) in
            file.input_ids.iter().zip(&file.attention_mask).zip(&file.labels)
        {
            let len = mask.iter().filter(|m| **m == 1).count();
            for (batch, len) in [(&mut padded, ids.len()), (&mut ragged, len)] {
                batch.ids.extend(&ids[..len]);
                batch.labels.extend(&labels[..len]);
                batch.seq_starts.push(batch.ids.len());
            }
        }
        Ok(Batch { mask: file.attention_mask, padded, ragged })
    }
}

fn logits(model: &mut Model, batch: &MicroBatch) -> Result<Vec<f32>, Error> {
    let logits = decoder::logits(model, batch, &Signal::default())?;
    Ok(read::<f32, _>(&logits, <[f32]>::to_vec)?)
}

fn max_abs(got: &[f32], want: &[f32]) -> f64 {
    let diff = |(g, w): (&f32, &f32)| (f64::from(*g) - f64::from(*w)).abs();
    got.iter()
        .zip(want)
        .map(diff)
        .fold(0.0, |a, b| if b.is_nan() { f64::NAN } else { f64::max(a, b) })
}
