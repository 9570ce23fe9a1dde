"""A codebook while it is fitted: averages of the latents that chose each code, dead codes revived.

Letters in tensor names: M latents of a batch, D numbers of each, K codes.
"""

import torch
from torch import Tensor

DECAY = 0.99  # of the running averages, a step
# A code that fewer latents choose than this share of an even split is dead.
DEAD_SHARE = 0.05


class FittedCodebook:
    """Exponential moving averages instead of a gradient (van den Oord et al. 2017, appendix A.1);
    a dead code moves to a latent of the batch (Dhariwal et al. 2020, section 3.1).

    Args:
        weight_KD: the codebook; changed in place.
        seed: of which latents dead codes move to.
    """

    def __init__(self, weight_KD: Tensor, seed: int) -> None:
        self.weight_KD = weight_KD
        self._generator = torch.Generator(weight_KD.device).manual_seed(seed)
        self._choices_K: Tensor | None = None  # a step's latents that choose a code, on average
        self._sums_KD = torch.zeros_like(weight_KD)

    def nearest(self, latents_MD: Tensor) -> Tensor:
        """The codes [M] that are nearest to latents."""
        return torch.cdist(latents_MD, self.weight_KD).argmin(dim=1)

    @torch.no_grad()
    def update(self, latents_MD: Tensor) -> None:
        """Move the codes towards the latents that choose them. The first call makes them latents
        of its batch."""
        even = len(latents_MD) / len(self.weight_KD)
        if self._choices_K is None:
            self._choices_K = torch.zeros_like(self.weight_KD[:, 0])
        else:
            codes_M = self.nearest(latents_MD)
            ones_M = torch.ones_like(codes_M, dtype=latents_MD.dtype)
            chosen_K = torch.zeros_like(self._choices_K).index_add_(0, codes_M, ones_M)
            summed_KD = torch.zeros_like(self._sums_KD).index_add_(0, codes_M, latents_MD)
            self._choices_K.lerp_(chosen_K, 1 - DECAY)
            self._sums_KD.lerp_(summed_KD, 1 - DECAY)
        self._revive(latents_MD, even)
        self.weight_KD.copy_(self._sums_KD / self._choices_K[:, None])

    def _revive(self, latents_MD: Tensor, even: float) -> None:
        assert self._choices_K is not None
        dead = self._choices_K < DEAD_SHARE * even
        drawn = torch.randint(
            len(latents_MD),
            (len(dead),),
            generator=self._generator,
            device=latents_MD.device,
        )
        self._choices_K[dead] = even
        self._sums_KD[dead] = even * latents_MD[drawn[dead]]
