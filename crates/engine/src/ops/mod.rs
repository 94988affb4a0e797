//! One op a file: `reference` (candle ops, any device), the fused CPU path, forward and backward side by side.
