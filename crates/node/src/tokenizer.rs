//! A tokenizer as JavaScript holds it: texts to ids and back, training rows, chat templates.

use crate::worker::Worker;
use engine::options;
use engine::tokenizer::{RowOptions as EngineRowOptions, TextTokenizer};
use napi::bindgen_prelude::{Int32Array, Object, ToNapiValue, Uint32Array};
use napi::{Env, Result};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

#[napi(object, object_from_js = false)]
pub struct Done {
    pub done: bool,
}

#[napi(object, object_from_js = false)]
pub struct Text {
    pub text: String,
}

#[napi(object, object_from_js = false)]
pub struct Texts {
    pub texts: Vec<String>,
}

#[napi(object, object_from_js = false)]
pub struct TokenizerInfo {
    pub vocab_size: u32,
    pub bos_token: Option<String>,
    pub bos_id: Option<u32>,
    pub eos_token: Option<String>,
    pub eos_id: Option<u32>,
    pub pad_token: Option<String>,
    pub pad_id: Option<u32>,
    pub unk_token: Option<String>,
    pub unk_id: Option<u32>,
    pub has_chat_template: bool,
}

#[napi(object, object_to_js = false)]
pub struct RowOptions {
    pub model_max_length: u32,
    pub append_eos: bool,
    pub mask_source: bool,
}

/// Row r is `ids[offsets[r]..offsets[r + 1]]`; labels −100 where masked, not shifted. `cut` and
/// `unsupervised` are row numbers from 0.
#[napi(object, object_from_js = false)]
pub struct EncodedRows {
    pub ids: Uint32Array,
    pub labels: Int32Array,
    pub offsets: Uint32Array,
    pub cut: Uint32Array,
    pub unsupervised: Uint32Array,
}

#[napi]
pub struct Tokenizer {
    inner: Arc<RwLock<TextTokenizer>>,
    worker: Worker<()>,
}

#[napi(ts_return_type = "Promise<Tokenizer | Failed>")]
pub fn open_tokenizer(env: Env, model_path: String) -> Result<Object<'static>> {
    let worker = Worker::new("lora-train-tokenizer", (), None)?;
    let own = worker.clone();
    worker.call(&env, move |()| {
        let inner = Arc::new(RwLock::new(TextTokenizer::open(&PathBuf::from(model_path))?));
        Ok(Tokenizer { inner, worker: own })
    })
}

#[napi]
impl Tokenizer {
    #[napi]
    pub fn info(&self) -> TokenizerInfo {
        info(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// JSON of `{pad_token, eos_token, bos_token, unk_token}`, each of which may be left out.
    #[napi(ts_return_type = "Promise<TokenizerInfo | Failed>")]
    pub fn add_special_tokens(&self, env: Env, tokens_json: String) -> Result<Object<'static>> {
        let tokenizer = self.inner.clone();
        self.worker.call(&env, move |()| {
            let mut tokenizer = tokenizer.write().unwrap_or_else(PoisonError::into_inner);
            tokenizer.add_special_tokens(&options::parse(&tokens_json)?)?;
            Ok(info(&tokenizer))
        })
    }

    /// On all threads.
    #[napi(ts_return_type = "Promise<EncodedRows | Failed>")]
    pub fn encode_rows(
        &self,
        env: Env,
        sources: Vec<String>,
        targets: Vec<String>,
        options: RowOptions,
    ) -> Result<Object<'static>> {
        self.call(&env, move |tokenizer| {
            let options = EngineRowOptions {
                model_max_length: options.model_max_length as usize,
                append_eos: options.append_eos,
                mask_source: options.mask_source,
            };
            let rows: Vec<_> = sources.into_iter().zip(targets).collect();
            let rows = tokenizer.encode_rows(&rows, &options)?;
            Ok(EncodedRows {
                ids: rows.ids.into(),
                labels: rows.labels.into(),
                offsets: rows.offsets.into_iter().map(|o| o as u32).collect::<Vec<_>>().into(),
                cut: rows.cut.into(),
                unsupervised: rows.unsupervised.into(),
            })
        })
    }

    #[napi(ts_return_type = "Promise<Uint32Array | Failed>")]
    pub fn encode(
        &self,
        env: Env,
        text: String,
        add_special_tokens: bool,
    ) -> Result<Object<'static>> {
        self.call(&env, move |tokenizer| {
            Ok(Uint32Array::new(tokenizer.encode(&text, add_special_tokens)?))
        })
    }

    #[napi(ts_return_type = "Promise<Text | Failed>")]
    pub fn decode(
        &self,
        env: Env,
        ids: Uint32Array,
        skip_special: bool,
    ) -> Result<Object<'static>> {
        let ids = ids.to_vec();
        self.call(&env, move |tokenizer| Ok(Text { text: tokenizer.decode(&ids, skip_special)? }))
    }

    #[napi(ts_return_type = "Promise<Texts | Failed>")]
    pub fn token_texts(&self, env: Env, ids: Uint32Array) -> Result<Object<'static>> {
        let ids = ids.to_vec();
        self.call(&env, move |tokenizer| Ok(Texts { texts: tokenizer.token_texts(&ids)? }))
    }

    #[napi(ts_return_type = "Promise<Text | Failed>")]
    pub fn apply_chat_template(
        &self,
        env: Env,
        messages_json: String,
        add_generation_prompt: bool,
    ) -> Result<Object<'static>> {
        self.call(&env, move |tokenizer| {
            let text = tokenizer.apply_chat_template(&messages_json, add_generation_prompt)?;
            Ok(Text { text })
        })
    }

    #[napi(ts_return_type = "Promise<Done | Failed>")]
    pub fn save(&self, env: Env, dir: String) -> Result<Object<'static>> {
        self.call(&env, move |tokenizer| {
            tokenizer.save(&PathBuf::from(dir))?;
            Ok(Done { done: true })
        })
    }

    fn call<T, F>(&self, env: &Env, work: F) -> Result<Object<'static>>
    where
        T: ToNapiValue + Send + 'static,
        F: FnOnce(&TextTokenizer) -> engine::Result<T> + Send + 'static,
    {
        let tokenizer = self.inner.clone();
        self.worker
            .call(env, move |()| work(&tokenizer.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn info(tokenizer: &TextTokenizer) -> TokenizerInfo {
    let special = tokenizer.special();
    let text = |t: &Option<engine::tokenizer::SpecialToken>| t.as_ref().map(|t| t.text.clone());
    let id = |t: &Option<engine::tokenizer::SpecialToken>| t.as_ref().map(|t| t.id);
    TokenizerInfo {
        vocab_size: tokenizer.vocab_size() as u32,
        bos_token: text(&special.bos),
        bos_id: id(&special.bos),
        eos_token: text(&special.eos),
        eos_id: id(&special.eos),
        pad_token: text(&special.pad),
        pad_id: id(&special.pad),
        unk_token: text(&special.unk),
        unk_id: id(&special.unk),
        has_chat_template: tokenizer.chat_template().is_some(),
    }
}
