//! Reading typed, bounded values out of a `config.json`, with errors that name the key.

use super::ConfigError;
use crate::spec::{Activation, RopeScaling, YarnScaling};
use candle_core::DType;
use serde_json::Value;

/// Larger than any model there is, and small enough that products of four of them fit in 64 bits.
const SIZE_MAX: u64 = 1 << 24;

pub(super) struct Config<'a>(pub &'a Value);

impl Config<'_> {
    /// The value of a key that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    /// A size of at least 1 under the first of `keys` that is there.
    pub fn size(&self, keys: &[&str]) -> Result<usize, ConfigError> {
        self.optional_size(keys)?.ok_or_else(|| ConfigError::Missing { key: keys[0].to_owned() })
    }

    pub fn optional_size(&self, keys: &[&str]) -> Result<Option<usize>, ConfigError> {
        let Some((key, value)) = keys.iter().find_map(|key| Some((key, self.get(key)?))) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(n) if (1..=SIZE_MAX).contains(&n) => Ok(Some(n as usize)),
            _ => Err(invalid(key, value, &format!("a whole number from 1 to {SIZE_MAX}"))),
        }
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => {
                v.as_f64().filter(|x| x.is_finite()).ok_or_else(|| invalid(key, v, "a number"))
            }
        }
    }

    pub fn number(&self, key: &str) -> Result<f64, ConfigError> {
        match self.get(key) {
            None => Err(ConfigError::Missing { key: key.to_owned() }),
            Some(_) => self.number_or(key, 0.0),
        }
    }

    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.get(key).map(|_| self.number(key)).transpose()
    }

    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| invalid(key, v, "true or false")),
        }
    }

    pub fn string_or<'s>(&'s self, key: &str, default: &'s str) -> Result<&'s str, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.as_str().ok_or_else(|| invalid(key, v, "a string")),
        }
    }

    /// Refuses an ability that the decoder lacks.
    pub fn refuse_true(&self, key: &str) -> Result<(), ConfigError> {
        match self.bool_or(key, false)? {
            true => Err(unsupported(key, "true")),
            false => Ok(()),
        }
    }

    /// Refuses every value of a key but `known`; a missing one is fine.
    pub fn only(&self, key: &str, known: &[&str]) -> Result<(), ConfigError> {
        match self.get(key) {
            None => Ok(()),
            Some(v) if v.as_str().is_some_and(|text| known.contains(&text)) => Ok(()),
            Some(v) => Err(unsupported(key, &shown(v))),
        }
    }

    /// The size of a head where it has no key of its own: `hidden_size`, which `key` gave, over the heads.
    pub fn head_dim(
        &self,
        key: &str,
        hidden_size: usize,
        n_heads: usize,
    ) -> Result<usize, ConfigError> {
        if hidden_size.is_multiple_of(n_heads) {
            return Ok(hidden_size / n_heads);
        }
        let expected = format!("a multiple of the number of heads ({n_heads})");
        Err(invalid(key, &Value::from(hidden_size), &expected))
    }

    /// The activation that `key` names.
    pub fn activation(&self, key: &str, default: &str) -> Result<Activation, ConfigError> {
        match self.string_or(key, default)? {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            other => {
                let known = "silu, gelu, gelu_new or gelu_pytorch_tanh";
                Err(invalid(key, &Value::from(other), known))
            }
        }
    }

    /// `(theta, scaling)` from `rope_parameters` (Transformers 5), or `rope_theta` and `rope_scaling`.
    pub fn rope(&self, max_positions: usize) -> Result<(f64, RopeScaling), ConfigError> {
        let parameters = self.get("rope_parameters").or_else(|| self.get("rope_scaling"));
        let theta_default =
            self.number_or("rope_theta", self.number_or("rotary_emb_base", 10_000.0)?)?;
        let Some(parameters) = parameters else {
            return Ok((theta_default, RopeScaling::None));
        };
        let rope = Config(parameters);
        let theta = rope.number_or("rope_theta", theta_default)?;
        let kind = match rope.get("rope_type") {
            Some(_) => rope.string_or("rope_type", "default")?,
            None => rope.string_or("type", "default")?,
        };
        let original = |rope: &Config| -> Result<usize, ConfigError> {
            Ok(rope.optional_size(&["original_max_position_embeddings"])?.unwrap_or(max_positions))
        };
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: rope.number("factor")? },
            "dynamic" => RopeScaling::Dynamic { factor: rope.number("factor")?, max_positions },
            "llama3" => RopeScaling::Llama3 {
                factor: rope.number("factor")?,
                low_freq_factor: rope.number("low_freq_factor")?,
                high_freq_factor: rope.number("high_freq_factor")?,
                original_max_positions: original(&rope)?,
            },
            "yarn" => RopeScaling::Yarn(self.yarn(&rope, original(&rope)?, max_positions)?),
            other => {
                let known = "default, linear, dynamic, llama3 or yarn";
                return Err(invalid("rope_type", &Value::from(other), known));
            }
        };
        Ok((theta, scaling))
    }

    /// Transformers' `_compute_yarn_parameters`: where `factor` is missing it is the ratio of the
    /// lengths; the attention factor is given, or from `mscale`s, or `0.1 ln(factor) + 1`.
    fn yarn(
        &self,
        rope: &Config,
        original: usize,
        max_positions: usize,
    ) -> Result<YarnScaling, ConfigError> {
        let factor = rope.number_or("factor", max_positions as f64 / original as f64)?;
        let mscale_of = |scale: f64, mscale: f64| {
            if scale <= 1.0 { 1.0 } else { 0.1 * mscale * scale.ln() + 1.0 }
        };
        let (mscale, mscale_all) =
            (rope.number_or("mscale", 0.0)?, rope.number_or("mscale_all_dim", 0.0)?);
        let attention_factor = match rope.get("attention_factor") {
            Some(_) => rope.number("attention_factor")?,
            None if mscale != 0.0 && mscale_all != 0.0 => {
                mscale_of(factor, mscale) / mscale_of(factor, mscale_all)
            }
            None => mscale_of(factor, 1.0),
        };
        Ok(YarnScaling {
            factor,
            beta_fast: rope.number_or("beta_fast", 32.0)?,
            beta_slow: rope.number_or("beta_slow", 1.0)?,
            original_max_positions: original,
            attention_factor,
            truncate: rope.bool_or("truncate", true)?,
        })
    }
}

/// The type that weights are stored in, where only the config tells: `dtype`, or `torch_dtype` as it was
/// called; f32 without either, as Transformers saves.
pub fn stored_dtype(config: &Value) -> Result<DType, ConfigError> {
    let config = Config(config);
    let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    let name = config.string_or(key, "float32")?;
    match name.strip_prefix("torch.").unwrap_or(name) {
        "float32" | "float" => Ok(DType::F32),
        "float16" | "half" => Ok(DType::F16),
        "bfloat16" => Ok(DType::BF16),
        "float64" | "double" => Ok(DType::F64),
        other => Err(invalid(key, &Value::from(other), "float32, float16, bfloat16 or float64")),
    }
}

/// The error for a value that is there and of the wrong kind.
pub(super) fn invalid(key: &str, found: &Value, expected: &str) -> ConfigError {
    ConfigError::Invalid { key: key.to_owned(), found: shown(found), expected: expected.to_owned() }
}

/// The error for a value that is right and asks for what the decoder can't do.
pub(super) fn unsupported(key: &str, found: &str) -> ConfigError {
    ConfigError::Unsupported { key: key.to_owned(), found: found.to_owned() }
}

/// A value as JSON, cut where it is long.
fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > 60 {
        text.truncate(text.floor_char_boundary(60));
        text.push('…');
    }
    text
}
