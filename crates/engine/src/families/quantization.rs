//! What a `config.json` says of weights that are stored quantised: bitsandbytes' NF4, FP4 and int8 can be read, all
//! else is refused by its name. Knows no file and no weight.

use super::ConfigError;
use super::config::{Config, invalid, unsupported};
use crate::four_bit::QuantType;
use serde_json::Value;

const SECTION: &str = "quantization_config";

/// A `BitsAndBytesConfig`, as far as it decides what the files hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredQuantization {
    FourBits(FourBits),
    Int8 { skip_modules: Vec<String> },
}

/// What there is to say of 4 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FourBits {
    pub quant_type: QuantType,
    pub double_quant: bool,
    pub skip_modules: Vec<String>,
}

/// `quantization_config`; `None` where there is none, or one that quantises nothing.
///
/// Errors: another method or code than bitsandbytes' NF4, FP4 and int8.
pub fn stored_quantization(config: &Value) -> Result<Option<StoredQuantization>, ConfigError> {
    match Config(config).get(SECTION) {
        None => Ok(None),
        Some(section) if section.is_object() => {
            bits_and_bytes(&Config(section)).map_err(|error| error.below(SECTION))
        }
        Some(other) => Err(invalid(SECTION, other, "an object")),
    }
}

fn bits_and_bytes(section: &Config) -> Result<Option<StoredQuantization>, ConfigError> {
    section.only("quant_method", &["bitsandbytes"])?;
    let skip_modules = match section.get("llm_int8_skip_modules") {
        None => vec![],
        Some(list) => serde_json::from_value(list.clone())
            .map_err(|_| invalid("llm_int8_skip_modules", list, "a list of names"))?,
    };
    if section.bool_or("load_in_4bit", false)? {
        section.refuse_true("load_in_8bit")?; // as BitsAndBytesConfig does: a weight is kept in one way
        return Ok(Some(StoredQuantization::FourBits(four_bits(section, skip_modules)?)));
    }
    // With this key the weights stay in 16 bits, and are quantised each time that they are used.
    let whole = section.bool_or("llm_int8_has_fp16_weight", false)?;
    let int8 = section.bool_or("load_in_8bit", false)? && !whole;
    Ok(int8.then_some(StoredQuantization::Int8 { skip_modules }))
}

fn four_bits(section: &Config, skip_modules: Vec<String>) -> Result<FourBits, ConfigError> {
    // Without the key BitsAndBytesConfig takes fp4.
    let named = section.string_or("bnb_4bit_quant_type", "fp4")?;
    let quant_type =
        QuantType::by_name(named).ok_or_else(|| unsupported("bnb_4bit_quant_type", named))?;
    let double_quant = section.bool_or("bnb_4bit_use_double_quant", false)?;
    Ok(FourBits { quant_type, double_quant, skip_modules })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(section: Value) -> Result<Option<StoredQuantization>, String> {
        stored_quantization(&json!({ "quantization_config": section })).map_err(|e| e.to_string())
    }

    #[test]
    fn four_bits_are_read_with_what_they_leave_out() {
        let read = |more: Value| {
            let mut section = json!({"load_in_4bit": true});
            section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            match read(section).unwrap().unwrap() {
                StoredQuantization::FourBits(it) => it,
                other => panic!("{other:?}"),
            }
        };
        let (quant_type, skip_modules) = (QuantType::Fp4, vec![]);
        let fp4 = FourBits { quant_type, double_quant: false, skip_modules };
        assert_eq!(read(json!({})), fp4);
        assert_eq!(read(json!({"bnb_4bit_quant_type": "fp4"})), fp4);
        let given = json!({
            "quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true,
            "llm_int8_skip_modules": ["lm_head"], "load_in_8bit": false,
        });
        let skip_modules = vec!["lm_head".to_owned()];
        let quant_type = QuantType::Nf4;
        assert_eq!(read(given), FourBits { quant_type, double_quant: true, skip_modules });
    }

    #[test]
    fn int8_is_read_with_what_it_leaves_out() {
        let section = json!({
            "quant_method": "bitsandbytes", "load_in_8bit": true, "load_in_4bit": false,
            "llm_int8_skip_modules": ["lm_head"], "llm_int8_threshold": 6.0,
        });
        let skip_modules = vec!["lm_head".to_owned()];
        assert_eq!(read(section), Ok(Some(StoredQuantization::Int8 { skip_modules })));
    }

    #[test]
    fn a_section_that_quantises_nothing_is_none() {
        let whole = json!({"load_in_8bit": true, "llm_int8_has_fp16_weight": true});
        for section in [Value::Null, json!({}), json!({"load_in_4bit": false}), whole] {
            assert_eq!(read(section), Ok(None));
        }
        assert_eq!(stored_quantization(&json!({})).unwrap(), None);
    }

    #[test]
    fn all_else_is_refused_by_its_name() {
        for (section, named) in [
            (json!({"quant_method": "gptq", "bits": 4}), "quant_method` \"gptq\""),
            (json!({"quant_method": "awq"}), "quant_method` \"awq\""),
            (json!({"quant_method": "fp8"}), "quant_method` \"fp8\""),
            (json!({"load_in_4bit": true, "load_in_8bit": true}), "load_in_8bit` true"),
            (json!({"load_in_8bit": 1}), "load_in_8bit` is 1"),
            (json!({"load_in_4bit": true, "bnb_4bit_quant_type": "af4"}), "quant_type` af4"),
            (json!({"load_in_4bit": "yes"}), "load_in_4bit` is \"yes\""),
            (json!([1]), "quantization_config` is [1]"),
        ] {
            let message = read(section).unwrap_err();
            assert!(
                message.contains(named) && message.contains("`quantization_config"),
                "{message}"
            );
        }
    }
}
