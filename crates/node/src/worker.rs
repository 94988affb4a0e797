//! A thread that owns a state and works off a queue of jobs, each answered through a promise.
//!
//! A panic fails its own call with `INTERNAL` and poisons the handle; it never ends Node.

use crate::error::Failed;
use napi::bindgen_prelude::{Either, Object, ToNapiValue};
use napi::{Env, JsDeferred, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;
type Answer<T> = Either<T, Failed>;
type Resolver<T> = Box<dyn FnOnce(Env) -> Result<Answer<T>>>;
type Deferred<T> = JsDeferred<Answer<T>, Resolver<T>>;

/// A handle to the thread. Dropping its last clone ends the thread after the jobs that wait.
pub struct Worker<S> {
    jobs: Sender<Job<Slot<S>>>,
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Worker<S> {
        Worker { jobs: self.jobs.clone() }
    }
}

/// The state, or why it is gone.
struct Slot<S> {
    state: S,
    panicked: Option<String>,
}

impl<S: Send + 'static> Worker<S> {
    /// `threads`: the size of the pool on which the jobs' parallel parts run; `None` takes all cores.
    pub fn new(name: &str, state: S, threads: Option<usize>) -> Result<Worker<S>> {
        let (jobs, queue) = channel::<Job<Slot<S>>>();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(0))
            .build()
            .map_err(|e| napi::Error::from_reason(e.to_string()))?;
        std::thread::Builder::new().name(name.into()).spawn(move || {
            let mut slot = Slot { state, panicked: None };
            while let Ok(job) = queue.recv() {
                pool.install(|| job(&mut slot));
            }
        })?;
        Ok(Worker { jobs })
    }

    /// Queues `work`; the promise resolves to its result, or to what failed.
    pub fn call<T, F>(&self, env: &Env, work: F) -> Result<Object<'static>>
    where
        T: ToNapiValue + Send + 'static,
        F: FnOnce(&mut S) -> engine::Result<T> + Send + 'static,
    {
        let (deferred, promise): (Deferred<T>, _) = env.create_deferred()?;
        let promise = Object::from_raw(env.raw(), napi::JsValue::raw(&promise));
        let waiting = deferred.clone();
        let job: Job<Slot<S>> = Box::new(move |slot| {
            let answer = slot.run(work);
            deferred.resolve(Box::new(move |_| Ok(answer)));
        });
        if self.jobs.send(job).is_err() {
            let failed = Failed::internal("the engine's thread is gone".into());
            waiting.resolve(Box::new(move |_| Ok(Either::B(failed))));
        }
        Ok(promise)
    }
}

impl<S> Slot<S> {
    fn run<T>(&mut self, work: impl FnOnce(&mut S) -> engine::Result<T>) -> Answer<T> {
        if let Some(cause) = &self.panicked {
            return Either::B(Failed::internal(format!(
                "the handle can't be used after a panic: {cause}"
            )));
        }
        match catch_unwind(AssertUnwindSafe(|| work(&mut self.state))) {
            Ok(Ok(value)) => Either::A(value),
            Ok(Err(error)) => Either::B(error.into()),
            Err(payload) => {
                let cause = text(&*payload);
                self.panicked = Some(cause.clone());
                Either::B(Failed::internal(format!("panic: {cause}")))
            }
        }
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".into())
}
