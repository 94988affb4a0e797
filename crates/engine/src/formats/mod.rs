//! Readers and writers of model files. Every size, offset and name from a file is checked before use.
