//! What a block keeps for backward: all of it, or of a block that is computed again what attention made, or
//! nothing but its input. `plan` decides which, by cost and bytes.

use super::linears::GroupSaved;
use super::norms::NormSaved;
use crate::ctx::Ctx;
use crate::ops::attention;
use crate::spec::Residual;
use candle_core::Tensor;

/// Which blocks backward computes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recomputation {
    /// The first so many.
    pub blocks: usize,
    /// They keep what attention made, beside their input.
    pub keeps_attention: bool,
}

/// What `backward` needs besides the block's input. What costs little for its bytes, the outputs of the
/// norms and of the activation, is computed again once [`Saved::thin`] gave it up.
pub struct Saved {
    pub(super) n1: Option<Tensor>,
    pub(super) norm1: NormSaved,
    pub(super) qkv: Projected,
    /// None of a pass with a cache, which has no backward.
    pub(super) attended: Attended,
    /// The input of `norm2`; equal to the block's input where the layout is parallel.
    pub(super) h: Option<Tensor>,
    pub(super) n2: Option<Tensor>,
    pub(super) norm2: Option<NormSaved>,
    pub(super) gate: Option<Tensor>,
    pub(super) up: Tensor,
    pub(super) m: Option<Tensor>,
    /// Of the linears' adapters.
    pub(super) lora: LoraSaved,
}

/// What attention made. Nothing but its inputs is needed to make it again, and long sequences make that dear.
pub struct Attended {
    pub(super) out: Tensor,
    pub(super) saved: Option<attention::Saved>,
}

/// Of the linears that read n1 as q, k, v; of o; of those that read the MLP's input; of down.
pub(super) struct LoraSaved {
    pub qkv: GroupSaved,
    pub o: GroupSaved,
    pub mlp: GroupSaved,
    pub down: GroupSaved,
}

/// q, k and v as attention takes them, and what lies before.
pub(super) struct Projected {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    /// The projections before they were clamped.
    pub unclamped: Vec<Tensor>,
    /// q and k before their norms, with what those saved.
    pub unnormed: Option<[(Tensor, NormSaved); 2]>,
}

impl Saved {
    /// Gives up what is read long before it is needed again and costs little to compute again.
    pub fn thin(&mut self, ctx: &Ctx) {
        let cheap = [self.n1.take(), self.n2.take(), self.m.take()];
        cheap.into_iter().flatten().for_each(|x| ctx.recycle([x]));
    }

    /// With what the end of a block adds.
    pub(super) fn whole(
        mut self,
        h: Tensor,
        m: Tensor,
        down: GroupSaved,
        residual: Residual,
    ) -> Saved {
        self.h = (residual == Residual::Sequential).then_some(h);
        self.m = Some(m);
        self.lora.down = down;
        self
    }

    /// Gives its memory to the next tensors.
    pub fn recycle(self, ctx: &Ctx) {
        self.into_attended(ctx).recycle(ctx);
    }

    /// Gives all other memory to the next tensors.
    pub fn into_attended(mut self, ctx: &Ctx) -> Attended {
        self.thin(ctx);
        let Projected { q, k, v, unclamped, unnormed } = self.qkv;
        ctx.recycle([q, k, v, self.up]);
        let unnormed = unnormed.into_iter().flatten().map(|(x, _)| x);
        let rest = [self.h, self.gate].into_iter().flatten().chain(unclamped).chain(unnormed);
        rest.for_each(|x| ctx.recycle([x]));
        let LoraSaved { qkv, o, mlp, down } = self.lora;
        [qkv, o, mlp, down].into_iter().for_each(|saved| saved.recycle(ctx));
        self.attended
    }
}

impl Attended {
    /// Gives its memory to the next tensors.
    pub fn recycle(self, ctx: &Ctx) {
        ctx.recycle([self.out]);
        self.saved.into_iter().for_each(|saved| ctx.recycle([saved.lse]));
    }
}
