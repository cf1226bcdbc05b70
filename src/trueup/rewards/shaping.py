"""What becomes of a reward before a policy learns from it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Num

from trueup.errors import RecipeError

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """Penalties, clipping and whitening of rewards, in this order.

    Args:
        missing_eos_penalty: Taken from the reward of a response that was cut at the length limit.
        length_penalty: Taken from the reward for each token.
        clip: Bound on the size of a reward; None for none.
        whiten: Whether rewards drawn together are brought to mean 0 and standard deviation 1.
    """

    missing_eos_penalty: float = 0.0
    length_penalty: float = 0.0
    clip: float | None = None
    whiten: bool = False

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip > 0:
            raise RecipeError(f"clip must be positive, got {self.clip}")

    def __call__(
        self, reward: Float[Array, " n"], *, tokens: Num[Array, " n"], finished: Bool[Array, " n"]
    ) -> Float[Array, " n"]:
        """Shape the rewards of responses that were drawn together.

        >>> Shaping(missing_eos_penalty=1.0, clip=2.0)(
        ...     np.array([3.0, 0.5]), tokens=np.array([4, 8]), finished=np.array([True, False])
        ... ).tolist()
        [2.0, -0.5]
        """
        shaped = reward - self.length_penalty * tokens - self.missing_eos_penalty * ~finished
        if self.clip is not None:
            shaped = np.clip(shaped, -self.clip, self.clip)
        if self.whiten:
            spread = shaped.std()
            # Equal rewards stay equal: there is nothing to bring to one scale.
            shaped = (shaped - shaped.mean()) / (spread if spread > 0 else 1.0)
        return shaped
