"""From loaded policies to what measures read of them; what cannot be measured gets its reason."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from trueup.data.rows import Prompt, Row
from trueup.errors import TrueupError
from trueup.measure.policy_audit_records import Drawn, Judged, PairScores, PolicyRecord
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.policies.base import Policy
from trueup.policies.model import ModelPolicy
from trueup.recipes.audit_reward import DTYPES
from trueup.recipes.offline_measuring import (
    Draws,
    compared,
    compared_by_reward,
    draw,
    rewarded,
    score_pairs,
    seed_of,
    verified,
)
from trueup.recipes.offline_policies import Made, at_temperature, same_place, same_tokens
from trueup.recipes.offline_settings import OfflineInputs
from trueup.rewards.base import Reward
from trueup.rewards.function import FunctionReward
from trueup.rewards.oracle import PreferenceOracle
from trueup.train.references import ModelReference

Array = np.ndarray

_OF_PROMPTS = ("samples", "win_rates", "rewards", "kl", "entropy", "length_change", "pass_at_k")


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Who says what responses are worth.

    Args:
        oracle: Compares two.
        reward: Scores one.
        verifier: Says whether one is right.
    """

    oracle: PreferenceOracle | None = None
    reward: Reward | None = None
    verifier: FunctionReward | None = None


@dataclass(frozen=True)
class Held:
    """What policies are held against.

    Args:
        about: What is known of it.
        policy: The thing itself.
    """

    about: Made
    policy: Policy

    @cached_property
    def model(self) -> PolicyModel | None:
        """Its model, where it is one of ours to ask."""
        return self.policy.checkpoint.model if isinstance(self.policy, ModelPolicy) else None


@dataclass(frozen=True, kw_only=True)
class Work:
    """One audit while it is made.

    Args:
        recipe: What is asked.
        prompts: Prompts that are answered.
        rows: Rows with pairs.
        judges: Who judges.
        held: What policies are held against, if anything.
    """

    recipe: OfflineInputs
    prompts: tuple[Prompt, ...]
    rows: tuple[Row, ...]
    judges: Judges
    held: Held | None

    def record_of_reference(self) -> PolicyRecord | None:
        """Everything that is known of the reference alone."""
        if self.held is None:
            return None
        absent = self._missing_inputs(against=False)
        drawn = self._draw(self.held.about, self.held.policy, role=1)
        return PolicyRecord(
            source=self.held.about.place,
            trained=self.held.about.trained,
            drawn=drawn,
            rewards=self._rewards(drawn),
            absent=absent,
        )

    def record(self, about: Made, policy: Policy, theirs: PolicyRecord | None) -> PolicyRecord:
        """Everything that is known of a policy, beside the reference's record."""
        absent = self._missing_inputs(against=True) | self._incomparable(policy)
        drawn = self._draw(about, policy, role=0)
        rewards = self._rewards(drawn)
        pairs = None
        if "implicit_reward" not in absent:
            try:
                pairs = self._pairs(about, policy)
            except TrueupError as error:
                absent["implicit_reward"] = str(error)
        return PolicyRecord(
            source=about.place,
            trained=about.trained,
            drawn=drawn,
            rewards=rewards,
            judged=self._judged(drawn, rewards, theirs),
            pairs=pairs,
            notes=self._notes(about),
            absent=absent,
        )

    def _missing_inputs(self, *, against: bool) -> dict[str, str]:
        """Parts for which nothing was given."""
        recipe = self.recipe
        absent: dict[str, str] = {}
        if recipe.verifier is None:
            absent["pass_at_k"] = "no verifier was given (--verifier)"
        if against and self.judges.reward is None:
            absent["rewards"] = "no reward was given (--reward)"
        if against and self.judges.reward is None and self.judges.oracle is None:
            absent["win_rates"] = "neither an oracle nor a reward was given (--oracle, --reward)"
        if against and self.held is None:
            reason = "there is nothing to compare with (--reference)"
            absent |= dict.fromkeys(("win_rates", "kl", "length_change", "implicit_reward"), reason)
        if against and recipe.pairs is None:
            absent["implicit_reward"] = "no held-out pairs were given (--pairs)"
        if recipe.prompts is None:
            parts = _OF_PROMPTS if against else ("samples", "entropy", "pass_at_k")
            absent |= dict.fromkeys(parts, "no held-out prompts were given (--prompts)")
        return absent

    def _incomparable(self, policy: Policy) -> dict[str, str]:
        """Parts for which both must give log-probabilities of the same tokens."""
        if self.held is None or same_tokens(policy, self.held.policy):
            return {}
        foreign = next((one for one in (policy, self.held.policy) if not isinstance(one, ModelPolicy)), None)
        reason = (
            f"{policy.name} and {self.held.policy.name} have different vocabularies, so that their log-probabilities "
            "are of different tokens"
            if foreign is None
            else f"{foreign.name} is no model that could be asked for log-probabilities"
        )
        parts = ["kl"] * (self.recipe.prompts is not None) + ["implicit_reward"] * (self.recipe.pairs is not None)
        return dict.fromkeys(parts, reason)

    def _draw(self, about: Made, policy: Policy, *, role: int) -> tuple[Drawn, ...]:
        """Responses at every temperature, verified where there is a verifier."""
        if not self.prompts:
            return ()
        compares = role == 0 and self.held is not None and same_tokens(policy, self.held.policy)
        start = self._start() if compares else None
        found = []
        for place, temperature in enumerate(self.recipe.temperatures):
            seed = seed_of(self.recipe.seed, role=role, place=place)
            how = Draws(samples=self.recipe.samples, temperature=temperature, seed=seed)
            asked = at_temperature(policy, about, self.recipe, temperature)
            one = draw(asked, self.prompts, how, start=start if temperature == 1.0 else None)
            if self.judges.verifier is not None:
                one = replace(one, correct=verified(self.judges.verifier, self.prompts, one.texts))
            found.append(one)
        return tuple(found)

    def _start(self) -> ModelReference | None:
        if self.held is None or self.held.model is None:
            return None
        return ModelReference(self.held.model, token_budget=self.recipe.token_budget)

    def _rewards(self, drawn: tuple[Drawn, ...]) -> dict[str, Float[Array, "prompts samples"]]:
        reward = self.judges.reward
        if reward is None or not drawn:
            return {}
        return {reward.name: rewarded(reward, self.prompts, drawn[0].texts)}

    def _judged(
        self,
        drawn: tuple[Drawn, ...],
        rewards: Mapping[str, Float[Array, "prompts samples"]],
        theirs: PolicyRecord | None,
    ) -> dict[str, Judged]:
        """Comparisons with the reference's responses."""
        if theirs is None or not drawn:
            return {}
        count, oracle = self.recipe.comparisons or self.recipe.samples, self.judges.oracle
        found = {}
        if oracle is not None:
            ours, others = drawn[0].texts, theirs.drawn[0].texts
            found[oracle.name] = compared(oracle, self.prompts, ours=ours, theirs=others, comparisons=count)
        for name, table in rewards.items():
            found[name] = compared_by_reward(table, theirs.rewards[name], comparisons=count)
        return found

    def _pairs(self, about: Made, policy: Policy) -> PairScores | None:
        if self.held is None or self.held.model is None or not isinstance(policy, ModelPolicy):
            return None
        budget = self.recipe.token_budget
        return score_pairs(policy, self.held.model, self.rows, about=about, budget=budget, load=self._load)

    def _load(self, place: str) -> PolicyModel:
        """Another policy that a method looks at, such as that of the round before."""
        if self.held is not None and self.held.model is not None and place == self.held.about.place:
            return self.held.model
        found = load_policy_checkpoint(
            place,
            dtype=DTYPES[self.recipe.dtype],
            device=self.recipe.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            trust_remote_code=self.recipe.trust_remote_code,
        )
        return found.model

    def _notes(self, about: Made) -> tuple[str, ...]:
        if self.held is None or self.recipe.pairs is None or about.start is None or about.objective is None:
            return ()
        if same_place(about.start, self.held.about.place):
            return ()
        return (
            f"The implicit reward of {about.name} is measured against {self.held.about.place}, while it was trained "
            f"against {about.start}",
        )
