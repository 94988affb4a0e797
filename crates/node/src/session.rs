//! A training session as JavaScript holds it.

use crate::batch::{StepBatch, micro_batches};
use crate::tokenizer::Done;
use crate::worker::Worker;
use engine::options::{self, EngineOptions};
use engine::session::{Session as Engine, SessionError};
use engine::signal::Signal;
use napi::bindgen_prelude::{Object, Uint32Array};
use napi::{Env, Result};
use napi_derive::napi;
use std::path::PathBuf;
use std::time::Instant;

/// A JSON text.
#[napi(object, object_from_js = false)]
pub struct Json {
    pub json: String,
}

#[napi(object, object_from_js = false)]
pub struct StepReport {
    pub loss: f64,
    pub grad_norm: f64,
    pub tokens: f64,
    pub supervised_tokens: f64,
    pub ms: f64,
}

#[napi(object, object_from_js = false)]
pub struct LossReport {
    pub loss_sum: f64,
    pub supervised_tokens: f64,
}

#[napi(object, object_from_js = false)]
pub struct NewIds {
    pub ids: Uint32Array,
}

#[napi(object, object_from_js = false)]
pub struct Progress {
    pub done: f64,
    pub total: f64,
}

/// One engine thread owns the model; calls queue up on it.
#[napi]
pub struct Session {
    worker: Worker<Option<Engine>>,
    options: String,
    signal: Signal,
}

/// Starts the session's thread; nothing is read before `load`.
#[napi]
pub fn open_session(options_json: String) -> Result<Session> {
    // The pool is made before the options are checked, so a bad number only shows in `load`.
    let threads = options::parse::<EngineOptions>(&options_json).ok().and_then(|o| o.threads);
    let worker = Worker::new("lora-train-engine", None, threads)?;
    Ok(Session { worker, options: options_json, signal: Signal::default() })
}

#[napi]
impl Session {
    /// JSON of what was loaded, with the plan.
    #[napi(ts_return_type = "Promise<Json | Failed>")]
    pub fn load(&self, env: Env) -> Result<Object<'static>> {
        let (json, signal) = (self.options.clone(), self.signal.clone());
        self.worker.call(&env, move |slot| {
            let (session, info) = Engine::open(&options::parse(&json)?, &signal)?;
            *slot = Some(session);
            Ok(Json { json: options::to_json(&info)? })
        })
    }

    /// Bytes while loading, blocks while stepping.
    #[napi]
    pub fn progress(&self) -> Progress {
        let (done, total) = self.signal.progress();
        Progress { done: done as f64, total: total as f64 }
    }

    #[napi(ts_return_type = "Promise<StepReport | Failed>")]
    pub fn step(&self, env: Env, batch: StepBatch, learning_rate: f64) -> Result<Object<'static>> {
        let micros = micro_batches(&batch);
        self.worker.call(&env, move |slot| {
            let start = Instant::now();
            let report = open(slot)?.step(&micros, learning_rate)?;
            Ok(StepReport {
                loss: report.loss,
                grad_norm: report.grad_norm,
                tokens: report.tokens as f64,
                supervised_tokens: report.supervised_tokens as f64,
                ms: start.elapsed().as_secs_f64() * 1e3,
            })
        })
    }

    #[napi(ts_return_type = "Promise<LossReport | Failed>")]
    pub fn evaluate(&self, env: Env, batch: StepBatch) -> Result<Object<'static>> {
        let micros = micro_batches(&batch);
        self.worker.call(&env, move |slot| {
            let (loss_sum, tokens) = open(slot)?.evaluate(&micros)?;
            Ok(LossReport { loss_sum, supervised_tokens: tokens as f64 })
        })
    }

    /// The new ids only.
    #[napi(ts_return_type = "Promise<NewIds | Failed>")]
    pub fn generate(
        &self,
        env: Env,
        ids: Uint32Array,
        options_json: String,
    ) -> Result<Object<'static>> {
        let ids = ids.to_vec();
        self.worker.call(&env, move |slot| {
            let new = open(slot)?.generate(&ids, &options::parse(&options_json)?)?;
            Ok(NewIds { ids: Uint32Array::new(new) })
        })
    }

    #[napi(ts_return_type = "Promise<Done | Failed>")]
    pub fn save_adapter(
        &self,
        env: Env,
        dir: String,
        base_model_name: String,
    ) -> Result<Object<'static>> {
        self.worker.call(&env, move |slot| {
            open(slot)?.save_adapter(&PathBuf::from(dir), &base_model_name)?;
            Ok(Done { done: true })
        })
    }

    /// Weights and optimizer's state, into an unfinished checkpoint. Works after `cancel`, too.
    #[napi(ts_return_type = "Promise<Done | Failed>")]
    pub fn save_state(
        &self,
        env: Env,
        dir: String,
        base_model_name: String,
    ) -> Result<Object<'static>> {
        self.worker.call(&env, move |slot| {
            open(slot)?.save_state(&PathBuf::from(dir), &base_model_name)?;
            Ok(Done { done: true })
        })
    }

    /// Goes on from a checkpoint's weights, optimizer's state and step.
    #[napi(ts_return_type = "Promise<Done | Failed>")]
    pub fn load_state(&self, env: Env, dir: String) -> Result<Object<'static>> {
        self.worker.call(&env, move |slot| {
            open(slot)?.load_state(&PathBuf::from(dir))?;
            Ok(Done { done: true })
        })
    }

    #[napi(ts_return_type = "Promise<Done | Failed>")]
    pub fn save_model(&self, env: Env, dir: String) -> Result<Object<'static>> {
        self.worker.call(&env, move |slot| {
            open(slot)?.save_model(&PathBuf::from(dir))?;
            Ok(Done { done: true })
        })
    }

    #[napi(ts_return_type = "Promise<Done | Failed>")]
    pub fn save_quantized(&self, env: Env, dir: String) -> Result<Object<'static>> {
        self.worker.call(&env, move |slot| {
            open(slot)?.save_quantized(&PathBuf::from(dir))?;
            Ok(Done { done: true })
        })
    }

    /// JSON of what was compared: what `dir` holds against memory.
    #[napi(ts_return_type = "Promise<Json | Failed>")]
    pub fn check_saved(&self, env: Env, dir: String) -> Result<Object<'static>> {
        self.worker.call(&env, move |slot| {
            let checked = open(slot)?.check_saved(&PathBuf::from(dir))?;
            Ok(Json { json: options::to_json(&checked)? })
        })
    }

    /// Ends the call that runs at its next block; it answers with the code `CANCELLED`.
    #[napi]
    pub fn cancel(&self) {
        self.signal.cancel();
    }

    /// Frees the model, after the calls that wait.
    #[napi(ts_return_type = "Promise<Done | Failed>")]
    pub fn close(&self, env: Env) -> Result<Object<'static>> {
        self.worker.call(&env, |slot| {
            *slot = None;
            Ok(Done { done: true })
        })
    }
}

fn open(slot: &mut Option<Engine>) -> engine::Result<&mut Engine> {
    Ok(slot.as_mut().ok_or(SessionError::NotLoaded)?)
}
