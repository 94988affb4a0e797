//! Text to token ids and back: `tokenizer.json`, tokenizers rebuilt from GGUF, chat templates, training rows.
