"""What `trueup audit policy` is told of policies that were not watched: the second half of its recipe."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trueup.errors import RecipeError
from trueup.recipes.config import Recipe, check_range

Seen = Literal["refuse", "drop", "keep"]

_OF_PROMPTS = ("oracle", "reward", "verifier")


@dataclass(frozen=True, kw_only=True)
class AuditedPolicies(Recipe):
    """What every audit of policies is told.

    Args:
        runs: Run folders, model folders, hub ids, or log files of other frameworks; `name=` in front names one.
        output: Folder of `audit.json` and `report.html`.
        examples: Prompts whose responses are shown.
        resamples: Bootstrap resamples behind each interval.
        level: Coverage of the intervals.
        seed: Seed of the intervals, and of what is drawn.
    """

    runs: list[str]
    output: Path = Path("policy-audit")
    examples: int = 3
    resamples: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.runs:
            raise RecipeError("no run is named; write `trueup audit policy RUN ...`")
        check_range(self, "resamples", low=1)
        check_range(self, "examples", "seed", low=0)
        if not 0 < self.level < 1:
            raise RecipeError(f"level must lie between 0 and 1, got {self.level}")


@dataclass(frozen=True, kw_only=True)
class OfflineInputs(AuditedPolicies):
    """What policies are measured with; `prompts` or `pairs` asks for it.

    Args:
        reference: What policies are held against: a run, a directory, a hub id, or anything else that answers prompts;
            by default what the run's recipe says it was held against or started from.
        prompts: File, folder or hub id of held-out prompts, which all policies answer.
        prompts_split: Split of a folder or hub id of prompts.
        prompts_limit: Use no more than this many different prompts.
        pairs: File, folder or hub id of held-out preferences, for the implicit reward.
        pairs_split: Split of a folder or hub id of pairs.
        pairs_limit: Use no more than this many rows of pairs.
        oracle: What compares answers, in both orders: a judge, `package.module:function`, or any reward.
        reward: What scores answers, and compares them by who scores higher: directory, hub id, function or URL.
        verifier: What says whether an answer is right, for pass@k: `package.module:function`, which takes prompts and
            completions and returns 0 or 1 for each.
        samples: Responses of each policy to each prompt, at each temperature.
        comparisons: Responses of each prompt that are compared with the reference's; all by default.
        temperatures: Of sampling; at the first one responses are compared, and at 1 KL and entropy are measured.
        max_new_tokens: Longest response.
        seen: What becomes of prompts that a policy was trained on: refuse (stop), drop, or keep them and say so.
        device: Where models run; a GPU if there is one.
        dtype: Type of weights.
        token_budget: Token slots that are computed or held at a time; lowers memory, never changes a number.
        trust_remote_code: Run code that comes with a model.
    """

    reference: str | None = None
    prompts: str | None = None
    prompts_split: str | None = None
    prompts_limit: int | None = None
    pairs: str | None = None
    pairs_split: str | None = None
    pairs_limit: int | None = None
    oracle: str | None = None
    reward: str | None = None
    verifier: str | None = None
    samples: int = 8
    comparisons: int | None = None
    temperatures: list[float] = field(default_factory=lambda: [1.0])
    max_new_tokens: int = 256
    seen: Seen = "refuse"
    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    token_budget: int = 16_384
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "samples", "comparisons", "max_new_tokens", "token_budget", low=1)
        check_range(self, "prompts_limit", "pairs_limit", low=1)
        self._check_temperatures()
        if self.comparisons is not None and self.comparisons > self.samples:
            raise RecipeError(f"comparisons ({self.comparisons}) cannot exceed samples ({self.samples})")
        if self.prompts is None:
            named = next((name for name in _OF_PROMPTS if getattr(self, name) is not None), None)
            if named is not None:
                raise RecipeError(f"{named} looks at answers to prompts; name held-out ones as --prompts FILE")
        if self.reference is not None and not self.is_asked:
            raise RecipeError("reference needs something to compare on; name --prompts FILE or --pairs FILE")

    def _check_temperatures(self) -> None:
        if not self.temperatures:
            raise RecipeError("temperatures is empty; 1 is that of the policy itself")
        wrong = [one for one in self.temperatures if not (one >= 0 and math.isfinite(one))]
        if wrong:
            raise RecipeError(f"temperatures must be 0 or more, got {wrong[0]}")
        if len(set(self.temperatures)) < len(self.temperatures):
            raise RecipeError(f"temperatures must differ, got {self.temperatures}")

    @property
    def is_asked(self) -> bool:
        """Whether policies themselves are to be measured, and not records of their runs."""
        return self.prompts is not None or self.pairs is not None
