"""Whether a value stands out from those of the steps before it, told without asking the device."""

import torch
from torch import Tensor

WINDOW = 128  # steps; both numbers are those of OLMo-core's SkipStepOptimizer
FEWEST = WINDOW // 2


class RollingSpikes:
    """Marks values that lie too many standard deviations above the mean of the last 128 steps.

    The rule of OLMo-core's ``SkipStepOptimizer``, there with 6 standard deviations on loss and
    gradient norm. A spike enters the window too, so that a level which stays higher is got used to.
    Before 64 values are known nothing is a spike.

    Args:
        sigmas: standard deviations; 0 marks nothing.
    """

    def __init__(self, sigmas: float) -> None:
        self.sigmas = sigmas
        self._window_KW: Tensor | None = None  # infinite where there is no value

    def judge(self, step: int, values_K: Tensor) -> tuple[Tensor, Tensor]:
        """Of step 1, 2, ..: how many sigmas above the mean each value is, and which are spikes.

        Args:
            step: decides the place in the window.
            values_K: of the same K quantities in every call.

        Returns:
            fp32 [K] and bool [K], on the device of the values.
        """
        if not self.sigmas:
            return torch.zeros_like(values_K), torch.zeros_like(values_K, dtype=torch.bool)
        if self._window_KW is None:
            self._window_KW = torch.full((len(values_K), WINDOW), torch.inf)
        window_KW = self._window_KW = self._window_KW.to(values_K.device)
        known_KW = window_KW.isfinite()
        count_K = known_KW.sum(1)
        mean_K = window_KW.where(known_KW, 0.0).sum(1) / count_K
        squares_KW = (window_KW - mean_K[:, None]).square().where(known_KW, 0.0)
        std_K = (squares_KW.sum(1) / (count_K - 1)).sqrt()
        above_K = values_K - mean_K
        spike_K = (count_K >= FEWEST) & (above_K > self.sigmas * std_K)
        window_KW[:, (step - 1) % WINDOW] = values_K.where(values_K.isfinite(), torch.inf)
        return above_K / std_K, spike_K

    def state_dict(self) -> dict[str, Tensor | None]:
        """The window."""
        return {"window": None if self._window_KW is None else self._window_KW.clone()}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Go on with a saved window."""
        self._window_KW = state["window"]
