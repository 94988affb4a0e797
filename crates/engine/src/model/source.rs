//! Where a model's tensors come from, as the loader sees it. [`ModelFiles`] is the source of every user;
//! a benchmark has another, which makes values instead of reading them. Knows no format.

use crate::formats::{FormatError, ModelFiles, Residency, TensorInfo};
use crate::weight::Weight;
use serde_json::Value;
use std::path::Path;

/// A config, and tensors under Hugging Face's names.
pub trait Source {
    /// What an error names.
    fn path(&self) -> &Path;
    /// `config.json`, an object.
    fn config(&self) -> &Value;
    fn tensors(&self) -> &[TensorInfo];
    fn info(&self, name: &str) -> Option<&TensorInfo>;
    /// Shape and values of a tensor, whatever it is stored as.
    fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), FormatError>;
    /// A frozen weight `[rows, cols]`; a tensor of another rank is refused.
    fn matrix(&self, name: &str, prefer: Residency) -> crate::Result<Weight>;
    /// The tensor will not be asked for again.
    fn release(&self, name: &str);
    /// What tells these tensors from all others; `None`: nothing is kept of them between starts.
    fn identity(&self, _names: &[String]) -> Option<blake3::Hash> {
        None
    }
}

impl Source for ModelFiles {
    fn path(&self) -> &Path {
        ModelFiles::path(self)
    }

    fn config(&self) -> &Value {
        ModelFiles::config(self)
    }

    fn tensors(&self) -> &[TensorInfo] {
        ModelFiles::tensors(self)
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        ModelFiles::info(self, name)
    }

    fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), FormatError> {
        ModelFiles::read_f32(self, name)
    }

    fn matrix(&self, name: &str, prefer: Residency) -> crate::Result<Weight> {
        ModelFiles::matrix(self, name, prefer)
    }

    fn release(&self, name: &str) {
        ModelFiles::release(self, name);
    }

    fn identity(&self, names: &[String]) -> Option<blake3::Hash> {
        ModelFiles::identity(self, names)
    }
}
