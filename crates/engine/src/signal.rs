//! What a running call shares with those who watch it: a count of work done, and the wish to stop.

use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Cheap to clone; all clones are the same signal.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    done: AtomicU64,
    total: AtomicU64,
    to_follow: AtomicU64,
    cancelled: AtomicBool,
}

impl Signal {
    /// Starts a count of `total`: blocks while stepping, bytes while files are read or written.
    pub fn begin(&self, total: u64) {
        self.0.done.store(0, Relaxed);
        self.0.total.store(total + self.0.to_follow.swap(0, Relaxed), Relaxed);
    }

    /// More work that goes on where the next count ends: it belongs to the same wait.
    pub fn expect(&self, more: u64) {
        self.0.to_follow.fetch_add(more, Relaxed);
    }

    pub fn advance(&self, by: u64) {
        self.0.done.fetch_add(by, Relaxed);
    }

    /// `(done, total)`.
    pub fn progress(&self) -> (u64, u64) {
        (self.0.done.load(Relaxed), self.0.total.load(Relaxed))
    }

    pub fn cancel(&self) {
        self.0.cancelled.store(true, Relaxed);
    }

    pub fn cancelled(&self) -> bool {
        self.0.cancelled.load(Relaxed)
    }

    /// Counts one block, and ends the call where the caller asked for it.
    pub fn block(&self) -> Result<()> {
        self.part(1)
    }

    /// Counts a part of the work, and ends the call where the caller asked for it.
    pub fn part(&self, by: u64) -> Result<()> {
        self.advance(by);
        if self.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
