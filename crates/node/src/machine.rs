//! Calls that need no session: the plan, and what the machine can do.

use crate::session::Json;
use crate::worker::Worker;
use engine::options::{self, EngineOptions};
use engine::session;
use napi::bindgen_prelude::Object;
use napi::{Env, Result};
use napi_derive::napi;

/// JSON of the memory plan, from config and headers alone.
#[napi(ts_return_type = "Promise<Json | Failed>")]
pub fn plan(env: Env, options_json: String) -> Result<Object<'static>> {
    // Speed is that of the threads that a run would have. A bad number only shows in the answer.
    let threads = options::parse::<EngineOptions>(&options_json).ok().and_then(|o| o.threads);
    Worker::new("lora-train-plan", (), threads)?.call(&env, move |()| {
        let plan = session::plan_only(&options::parse(&options_json)?)?;
        Ok(Json { json: options::to_json(&plan)? })
    })
}

/// JSON of the machine's measured speed; takes about a second.
#[napi(ts_return_type = "Promise<Json | Failed>")]
pub fn doctor(env: Env) -> Result<Object<'static>> {
    Worker::new("lora-train-doctor", (), None)?
        .call(&env, |()| Ok(Json { json: options::to_json(&session::doctor()?)? }))
}
