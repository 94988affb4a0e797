//! The bounds of every comparison with a golden, in one place (DESIGN §3). Never loosened to pass.

/// Logits, absolute.
pub const LOGITS_ABS: f64 = 1e-4;
/// A gradient, L2 of the difference over L2 of the golden, per tensor.
pub const GRAD_REL: f64 = 1e-4;
/// Losses, relative.
pub const LOSS_REL: f64 = 1e-5;
/// Bytes of a codec's codes, scales and values.
pub const CODEC_DIFFERING: f64 = 0.0;

/// Parameters along an optimizer's trajectory, absolute.
pub const PARAMETERS_ABS: f64 = 1e-7;
/// The maxima of 8-bit codes, in units of their last place.
pub const ABSMAX_ULPS: f64 = 1.0;

/// The real model's references are f64; these hold what f32 can differ by.
pub mod real {
    /// The norm of all gradients, relative.
    pub const TOTAL_NORM_REL: f64 = 1e-4;
    /// The norm of one parameter's gradient, relative.
    pub const PARAM_NORM_REL: f64 = 5e-4;
    /// Losses of the adapter's trajectory, relative.
    pub const TRAJECTORY_REL: f64 = 1e-4;
}
