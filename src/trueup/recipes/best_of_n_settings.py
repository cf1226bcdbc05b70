"""The settings of `trueup bestofn`."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from trueup.errors import RecipeError
from trueup.recipes.config import MAX_SEED, Recipe, check_range
from trueup.recipes.places import named_places

DEFAULT_SAMPLES = 256


@dataclass(frozen=True, kw_only=True)
class BestOfN(Recipe):
    """Best-of-n by one or several proxies, judged by gold, from one pool of samples.

    Args:
        proxy: What selects: directory, run directory, hub id, `package.module:function` or URL; one, a list, or by
            label (`--proxy.bt runs/bt`). `LABEL=` in front names one. A label that the pool knows may stand alone.
        gold: What judges, named likewise; without it only proxies, KL and drift are measured.
        gold_features: `package.module:function` that breaks gold down for the examples: a list of {name: number}.
        policy: What answers: directory, run directory, hub id, `package.module:function` or URL. Needed to draw.
        prompts: File, folder or hub id with prompts, in any known format; a given pool's own by default.
        split: Split of a folder or hub id.
        limit: Use no more than this many prompts.
        samples: Samples of each prompt; all that a given pool has, else 256.
        n: Sizes at which curves are computed; spaced evenly in log n by default.
        temperature: Divides the policy's logits.
        top_p: Share of probability that the policy draws from.
        max_new_tokens: Length at which a response is cut.
        output: Folder of `best_of_n.json` and `report.html`.
        pool: Folder of the pool, made or taken up again; `pool` in the output folder by default.
        rescore: Score the pool again, whatever scores it has.
        examples: How many prompts are shown for each proxy.
        resamples: Bootstrap resamples behind each interval.
        level: Coverage of the intervals.
        draw_budget: Token slots that are held at a time while drawing.
        token_budget: Token slots per forward pass while scoring.
        dtype: Type of weights; as saved by default.
        device: Where models run; CUDA if there is one.
        seed: Seed of samples, intervals and examples.
        trust_remote_code: Run code that comes with a model.
    """

    proxy: str | list[str] | dict[str, str]
    gold: str | None = None
    gold_features: str | None = None
    policy: str | None = None
    prompts: str | None = None
    split: str | None = None
    limit: int | None = None
    samples: int | None = None
    n: list[int] | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    output: Path = Path("best-of-n")
    pool: Path | None = None
    rescore: bool = False
    examples: int = 3
    resamples: int = 1000
    level: float = 0.95
    draw_budget: int = 65_536
    token_budget: int = 16_384
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    device: str | None = None
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_range(self, "limit", "resamples", "token_budget", "draw_budget", "max_new_tokens", low=1)
        check_range(self, "samples", low=2)
        check_range(self, "temperature", "examples", low=0)
        check_range(self, "seed", low=0, high=MAX_SEED)
        if not 0 < self.top_p <= 1:
            raise RecipeError(f"top_p must lie in (0, 1], got {self.top_p}")
        if not 0 < self.level < 1:
            raise RecipeError(f"level must lie between 0 and 1, got {self.level}")
        if not self.proxies or not self.rewards:
            raise RecipeError("no proxy is named; write --proxy PLACE, or --proxy.LABEL PLACE for each of several")
        if self.pool is None and (self.policy is None or self.prompts is None):
            raise RecipeError("name a policy and prompts to draw a pool from, or a pool that has been drawn")
        self._check_sizes()

    def _check_sizes(self) -> None:
        wrong = [n for n in self.n or () if n < 1 or (self.samples is not None and n > self.samples)]
        if wrong:
            end = "" if self.samples is None else f" to the {self.samples} samples of each prompt"
            raise RecipeError(f"n must lie from 1{end}, got {wrong[0]}; draw more samples or leave it out")

    @cached_property
    def proxies(self) -> dict[str, str]:
        """Places of the proxies by label."""
        return named_places(self.proxy)

    @cached_property
    def judge(self) -> tuple[str, str] | None:
        """Label and place of gold."""
        return None if self.gold is None else next(iter(named_places(self.gold).items()))

    @cached_property
    def rewards(self) -> dict[str, str]:
        """Places of all rewards by label.

        Raises:
            RecipeError: Gold has the label of a proxy that is something else.
        """
        if self.judge is None:
            return self.proxies
        label, place = self.judge
        if self.proxies.get(label, place) != place:
            raise RecipeError(f"gold and a proxy are both called {label!r}; write --gold LABEL={place}")
        return {**self.proxies, label: place}

    @property
    def pool_folder(self) -> Path:
        """Where the pool is."""
        return self.output / "pool" if self.pool is None else self.pool
