//! Which modules an adapter is on, and its first values, by PEFT's rules.

use super::ModelError;
use crate::formats::peft::{Bias, Modules};
use crate::spec::{DecoderSpec, Slot};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Deserialize;

/// PEFT's `LoraConfig`, as far as it decides what is computed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoraOptions {
    pub r: usize,
    pub lora_alpha: f64,
    pub lora_dropout: f64,
    pub target_modules: Option<Modules>,
    pub bias: Bias,
    #[serde(default)]
    pub modules_to_save: Vec<String>,
    #[serde(default)]
    pub use_rslora: bool,
}

impl LoraOptions {
    /// The factor of the low-rank term.
    pub fn scale(&self) -> f32 {
        let r = self.r as f64;
        (self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }) as f32
    }

    /// Errors: a name in `modules_to_save` that no module of the model ends with.
    pub fn check_modules_to_save(
        &self,
        spec: &DecoderSpec,
        module: fn(Slot, usize) -> String,
    ) -> Result<(), ModelError> {
        let mut slots = spec.block_slots();
        slots.extend([Slot::Embedding, Slot::FinalNorm, Slot::Head]);
        let modules: Vec<String> = slots.iter().map(|&slot| module(slot, 0)).collect();
        let known = |name: &String| modules.iter().any(|m| m.ends_with(name.as_str()));
        match self.modules_to_save.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let modules = last_names(&modules);
                Err(ModelError::NoModuleToSave { name: name.clone(), modules })
            }
        }
    }

    /// Whether a module is trained whole: PEFT compares the end of its path.
    pub fn saves(&self, module: &str) -> bool {
        self.modules_to_save.iter().any(|name| module.ends_with(name.as_str()))
    }
}

/// The targets of one model, checked against its modules.
pub struct Matcher {
    all_linear: bool,
    names: Vec<String>,
    pattern: Option<regex::Regex>,
}

impl Matcher {
    /// `linears`: the paths of the blocks' linears. Every name must match at least one.
    pub fn new(
        targets: Option<&Modules>,
        defaults: &[&str],
        linears: &[String],
    ) -> Result<Matcher, ModelError> {
        let mut matcher = Matcher { all_linear: false, names: vec![], pattern: None };
        match targets {
            None => matcher.names = defaults.iter().map(|&name| name.to_owned()).collect(),
            Some(Modules::Names(names)) if names.len() == 1 && is_all_linear(&names[0]) => {
                matcher.all_linear = true
            }
            Some(Modules::Names(names)) => matcher.names = names.clone(),
            Some(Modules::Pattern(text)) if is_all_linear(text) => matcher.all_linear = true,
            Some(Modules::Pattern(text)) => {
                let bad = |e: regex::Error| ModelError::BadPattern {
                    target: text.clone(),
                    reason: e.to_string(),
                };
                matcher.pattern = Some(regex::Regex::new(&format!("^(?:{text})$")).map_err(bad)?);
                if !linears.iter().any(|path| matcher.matches(path)) {
                    return Err(no_target(text, linears));
                }
            }
        }
        for name in &matcher.names {
            if !linears.iter().any(|path| named(path, name)) {
                return Err(no_target(name, linears));
            }
        }
        Ok(matcher)
    }

    /// Whether the block linear at `path` gets an adapter.
    pub fn matches(&self, path: &str) -> bool {
        self.all_linear
            || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(path))
            || self.names.iter().any(|name| named(path, name))
    }
}

fn is_all_linear(text: &str) -> bool {
    text.eq_ignore_ascii_case("all-linear")
}

/// PEFT: the whole path, or its end after a dot.
fn named(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

fn no_target(target: &str, linears: &[String]) -> ModelError {
    ModelError::NoTarget { target: target.to_owned(), linears: last_names(linears) }
}

/// The last parts of paths, each once, in order.
pub fn last_names(paths: &[String]) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    for path in paths {
        let name = path.rsplit('.').next().unwrap_or(path);
        if !names.iter().any(|have| have == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The paths of all block linears.
pub fn linear_paths(spec: &DecoderSpec, module: fn(Slot, usize) -> String) -> Vec<String> {
    let slots: Vec<Slot> = spec.block_slots().into_iter().filter(|s| s.is_block_linear()).collect();
    (0..spec.n_layers)
        .flat_map(|layer| slots.iter().map(move |&slot| module(slot, layer)))
        .collect()
}

/// Kaiming-uniform with a = √5, as PEFT and `nn.Linear` do: U(−1/√I, 1/√I). B starts as zeros.
/// The stream is keyed by the adapter's index, so no adapter's values depend on another's.
pub fn init_a(r: usize, in_features: usize, seed: u64, index: u32) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(index) + 1);
    let bound = 1.0 / (in_features as f32).sqrt();
    let uniform = |bits: u32| (bits >> 8) as f32 * (2.0 / (1 << 24) as f32) - 1.0;
    (0..r * in_features).map(|_| uniform(rng.next_u32()) * bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Vec<String> {
        ["q_proj", "v_proj", "mlp.up_proj"].iter().map(|n| format!("model.layers.0.{n}")).collect()
    }

    fn names(list: &[&str]) -> Option<Modules> {
        Some(Modules::Names(list.iter().map(|&n| n.to_owned()).collect()))
    }

    #[test]
    fn names_match_whole_paths_and_their_ends() {
        let matcher =
            Matcher::new(names(&["q_proj", "mlp.up_proj"]).as_ref(), &[], &paths()).unwrap();
        let hits: Vec<_> = paths().iter().map(|p| matcher.matches(p)).collect();
        assert_eq!(hits, [true, false, true]);
        assert!(!matcher.matches("model.layers.0.xq_proj"));
    }

    #[test]
    fn a_pattern_matches_the_whole_path() {
        let pattern = Modules::Pattern(r".*\.(q|v)_proj".into());
        let matcher = Matcher::new(Some(&pattern), &[], &paths()).unwrap();
        assert_eq!(paths().iter().filter(|p| matcher.matches(p)).count(), 2);
    }

    #[test]
    fn a_name_without_a_module_is_refused_with_the_names_there_are() {
        let Err(error) = Matcher::new(names(&["query_key_value"]).as_ref(), &[], &paths()) else {
            panic!("accepted");
        };
        assert!(error.to_string().contains("query_key_value"));
        assert!(error.hint().contains("q_proj, v_proj, up_proj"), "{}", error.hint());
    }

    #[test]
    fn first_values_stay_in_the_bound_and_differ_by_adapter() {
        let a = init_a(4, 64, 1, 0);
        assert!(a.iter().all(|v| v.abs() <= 0.125));
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        assert!(mean.abs() < 0.02, "{mean}");
        assert_ne!(a, init_a(4, 64, 1, 1));
        assert_eq!(a, init_a(4, 64, 1, 0));
    }
}
