//! The 4-bit codecs, bit for bit, on every instruction set: `CASE/input` against what is under
//! `CASE/BLOCK_SIZE/`, and the tables: the type is the one of which there is a table.

use crate::report::Report;
use crate::{Error, tolerance};
use kernels::Isa;
use kernels::gemm::Elements;
use kernels::nf4::{
    Codec, DYNAMIC_CODE, FourBitBlocks, NESTED_BLOCK_SIZE, QuantType, Scales, quantize,
    quantize_scales, unpack,
};
use safetensors::SafeTensors;
use std::path::Path;

/// Each part with the number of entries whose bits differ, per tensor.
type Differing = [(&'static str, Vec<(String, f64)>); 7];

pub(crate) fn check(path: &Path) -> Result<Report, Error> {
    let name = path.display().to_string();
    let data = std::fs::read(path).map_err(|source| Error::Io { path: name.clone(), source })?;
    let bad = |source| Error::Safetensors { path: name.clone(), source };
    let file = SafeTensors::deserialize(&data).map_err(bad)?;
    let has_fp4 = file.tensor("fp4_code").is_ok();
    let quant_type = if has_fp4 { QuantType::Fp4 } else { QuantType::Nf4 };
    let file = Golden { path: &name, file, quant_type };
    let mut report = Report { name: quant_type.name().into(), ..Report::default() };
    let table = format!("{}_code", quant_type.name());
    let mut tables = vec![(table.as_str(), quant_type.values().as_slice())];
    if !has_fp4 {
        tables.push(("dynamic_code", &DYNAMIC_CODE));
    }
    let mut deviations = vec![];
    for (table, ours) in tables {
        deviations.push((table.into(), differing(&bytes(ours), file.bytes(table)?)));
    }
    report.add("tables", tolerance::CODEC_DIFFERING, deviations);

    let mut found: Differing =
        ["codes", "absmax", "dequant", "dq/absmax", "dq/absmax2", "dq/offset", "dq/dequant"]
            .map(|part| (part, vec![]));
    let names = file.file.names();
    for codes in names.iter().filter_map(|name| name.strip_suffix("/codes")) {
        for isa in Isa::available() {
            file.case(isa, codes, &mut found)?;
        }
    }
    for (part, deviations) in found {
        report.add(part, tolerance::CODEC_DIFFERING, deviations);
    }
    Ok(report)
}

struct Golden<'a> {
    path: &'a str,
    file: SafeTensors<'a>,
    quant_type: QuantType,
}

impl<'a> Golden<'a> {
    /// Quantises and unpacks `case`, which is `NAME/BLOCK_SIZE`.
    fn case(&self, isa: Isa, case: &str, found: &mut Differing) -> Result<(), Error> {
        let missing = || Error::Missing { path: self.path.into(), key: case.into() };
        let (input, size) = case.rsplit_once('/').ok_or_else(missing)?;
        let block_size: usize = size.parse().map_err(|_| missing())?;
        let codec = Codec { quant_type: self.quant_type, block_size };
        let input = self.bytes(&format!("{input}/input"))?.as_chunks::<4>().0;
        let x: Vec<f32> = input.iter().map(|b| f32::from_le_bytes(*b)).collect();

        let mut codes = vec![0; x.len().div_ceil(2)];
        let mut absmax = vec![0.0; x.len().div_ceil(block_size)];
        quantize(isa, Elements::F32(&x), codec, &mut codes, &mut absmax);
        let mut nested = vec![0; absmax.len()];
        let mut absmax2 = vec![0.0; absmax.len().div_ceil(NESTED_BLOCK_SIZE)];
        let offset = quantize_scales(isa, &absmax, &mut nested, &mut absmax2);
        let plain = Scales::Plain(&absmax);
        let double = Scales::Nested { codes: &nested, absmax2: &absmax2, offset };
        let values = |scales| {
            let mut values = vec![0.0; x.len()];
            unpack(isa, FourBitBlocks::new(&codes, scales, codec, x.len()), &mut values);
            bytes(&values)
        };
        let ours = [
            codes.clone(),
            bytes(&absmax),
            values(plain),
            nested.clone(),
            bytes(&absmax2),
            bytes(&[offset]),
            values(double),
        ];
        for ((part, deviations), ours) in found.iter_mut().zip(&ours) {
            let tensor = format!("{case}/{part}");
            let count = differing(ours, self.bytes(&tensor)?);
            deviations.push((format!("{tensor} on {}", isa.name()), count));
        }
        Ok(())
    }

    fn bytes(&self, name: &str) -> Result<&'a [u8], Error> {
        let missing = |_| Error::Missing { path: self.path.into(), key: name.into() };
        Ok(self.file.tensor(name).map_err(missing)?.data())
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// How many bytes differ; NaN where the lengths do.
fn differing(ours: &[u8], theirs: &[u8]) -> f64 {
    match ours.len() == theirs.len() {
        true => ours.iter().zip(theirs).filter(|(a, b)| a != b).count() as f64,
        false => f64::NAN,
    }
}
