//! A model that is asked about: with its weights' headers, or by its `config.json` alone. Reads no weight.

use super::model::{ModelFiles, read_object};
use super::{FormatError, Result};
use serde_json::Value;
use std::path::Path;

/// What is known of a model whose weights need not be here.
#[derive(Debug)]
pub enum Described {
    Files(Box<ModelFiles>),
    /// `config.json` of a folder without weights, without some of the shards that its index names, or
    /// with pointers of git-lfs in their place.
    Config(Value),
}

impl Described {
    /// As [`ModelFiles::open`], where the config is enough. Files that are here and damaged are refused.
    pub fn open(path: &Path) -> Result<Described> {
        use FormatError::{LfsPointer, MissingShard, NoWeights};
        match ModelFiles::open(path) {
            Ok(files) => Ok(Described::Files(Box::new(files))),
            Err(NoWeights { .. } | MissingShard { .. } | LfsPointer { .. }) => {
                Ok(Described::Config(read_object(&path.join("config.json"))?))
            }
            Err(error) => Err(error),
        }
    }

    /// `config.json`, an object.
    pub fn config(&self) -> &Value {
        match self {
            Described::Files(files) => files.config(),
            Described::Config(config) => config,
        }
    }

    pub fn files(&self) -> Option<&ModelFiles> {
        match self {
            Described::Files(files) => Some(files),
            Described::Config(_) => None,
        }
    }
}
