"""From many worlds to the arrays that measures read, and to lines of tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trueup.divergences.best_of_n import nominal_kl
from trueup.lab.gold_proxy import ProxyScores
from trueup.lab.reproduce.scale import World
from trueup.measure.best_of_n import best_of_n_many, n_grid
from trueup.measure.bootstrap import Resampling
from trueup.measure.law_draws import mean_estimate
from trueup.measure.scored import Estimate

Array = np.ndarray

RESAMPLING = Resampling(resamples=2000)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One kind of proxy over all worlds; gold in standard deviations of the initial policy's samples.

    Args:
        n: Sizes of best-of-n.
        gold: Gold of what the proxy chooses, above the initial policy's mean, of every prompt of every world.
        proxy: The proxy's own score of it, in its own standard deviations within prompts, in the same order.
        world: World of each prompt.
        accuracy: Share of held-out comparisons that each world's proxy orders as gold does.
    """

    n: Int[Array, " ns"]
    gold: Float[Array, "units ns"]
    proxy: Float[Array, "units ns"]
    world: Int[Array, " units"]
    accuracy: Float[Array, " worlds"]

    @property
    def d(self) -> Float[Array, " ns"]:
        """Distance from the initial policy, sqrt(nats), by the nominal KL of best-of-n."""
        return np.sqrt(nominal_kl(self.n))

    @property
    def worlds(self) -> Int[Array, " worlds"]:
        """Numbers of the worlds."""
        return np.unique(self.world)

    def by_world(self) -> Float[Array, "worlds ns"]:
        """Mean gold of each world."""
        return np.stack([self.gold[self.world == number].mean(axis=0) for number in self.worlds])

    def estimates(self, what: str = "gold") -> tuple[Estimate, ...]:
        """Mean over worlds at each n, with intervals over worlds."""
        values = getattr(self, what)
        means = np.stack([values[self.world == number].mean(axis=0) for number in self.worlds])
        return tuple(mean_estimate(column, resampling=RESAMPLING) for column in means.T)


def gather(worlds: Sequence[World], name: str, *, n: Int[Array, " ns"] | None = None) -> Arm:
    """One arm of all worlds."""
    scores = [world.proxies[name].score for world in worlds]
    return gather_scores(worlds, scores, accuracy=[world.proxies[name].accuracy for world in worlds], n=n)


def gather_scores(
    worlds: Sequence[World],
    scores: Sequence[Float[Array, "prompts samples"]],
    *,
    accuracy: Sequence[float] | None = None,
    n: Int[Array, " ns"] | None = None,
) -> Arm:
    """The same for scores that several proxies gave together."""
    sizes = n_grid(scores[0].shape[1]) if n is None else n
    gold, proxy, number = [], [], []
    for place, (world, score) in enumerate(zip(worlds, scores, strict=True)):
        scale = world.setup.gold.std(axis=1).mean()
        chosen = best_of_n_many(score, [world.setup.gold, score], sizes)
        gold.append((chosen[0] - world.setup.gold.mean(axis=1, keepdims=True)) / scale)
        proxy.append((chosen[1] - score.mean(axis=1, keepdims=True)) / score.std(axis=1).mean())
        number.append(np.full(len(score), place))
    return Arm(
        n=sizes,
        gold=np.concatenate(gold),
        proxy=np.concatenate(proxy),
        world=np.concatenate(number),
        accuracy=np.asarray(accuracy if accuracy is not None else [np.nan] * len(worlds)),
    )


def over_worlds(values: Sequence[float]) -> Estimate:
    """Mean of one value for each world, with an interval over worlds."""
    return mean_estimate(np.asarray(values, float), resampling=RESAMPLING)


def sizes_of(proxies: Mapping[str, ProxyScores]) -> dict[str, int]:
    """Parameters of each arm's proxy."""
    return {name: one.parameters for name, one in proxies.items()}
