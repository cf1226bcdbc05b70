"""A-LoL and its neighbours in the language world, on responses half of which answer another prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import expit

from trueup.data.rows import Response, Row
from trueup.errors import DataError
from trueup.lab.fitting import quietly
from trueup.lab.games.pareto import along
from trueup.lab.gold_proxy import Setup, gold_of, set_up
from trueup.lab.offline_draws import Drawing, draw_from
from trueup.lab.offline_looks import Looking, Shares, look_once
from trueup.lab.offline_runs import OfflineRun, OfflineTraining, run_offline
from trueup.lab.optimizing import Looks
from trueup.lab.reproduce.h_dpo_runs import over_seeds
from trueup.lab.reproduce.scale import Scale
from trueup.lab.world import World
from trueup.measure.similarity import distinct
from trueup.models.policy_checkpoints import PolicyCheckpoint, load_policy_checkpoint
from trueup.objectives.advantage.a_lol import ALol
from trueup.objectives.advantage.a_lol_kl import ALolKL
from trueup.objectives.advantage.a_lol_ref_free import ALolRefFree
from trueup.objectives.advantage.a_lol_seq import ALolSeq
from trueup.objectives.advantage.r_lol import RLol
from trueup.objectives.advantage.wbc import WBC
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.train.prepare import prepare_replies
from trueup.train.prompt_values import fit_prompt_values, prompt_ids, prompt_values

Array = np.ndarray

SFT, LONGER, BEHAVIOUR, R_LOL = "SFT", "SFT, as long again", "weighted cloning", "R-LoL"
REF_FREE, KL_ARM, A_LOL, SEQ = "A-LoL ref-free", "A-LoL KL", "A-LoL", "A-LoL seq"
NO_PRIORITY, UNFILTERED, DPO_ARM = "A-LoL, drawn alike", "A-LoL, no filter", "DPO"
NOISE = 0.5
"""Share of the responses that answer another prompt."""
_SHARES = (0.5, 1.0)
_TOKEN_BUDGET = 8_192
_OWN = 4
"""Responses of the reference to each prompt that its value is learned from."""


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What one policy says to the watched prompts.

    Args:
        gold: Mean gold above the reference's, in standard deviations of the start's samples to a prompt.
        distinct: Share of pairs of words that differ among a prompt's responses, mean over prompts.
        tokens: Mean length.
        path: Looks on the line of weights from the reference: root of the KL to it, and gold as above, twice.
    """

    gold: float
    distinct: float
    tokens: float
    path: Float[Array, "looks 3"]

    @property
    def nats(self) -> float:
        """The largest KL on the path."""
        return float(self.path[:, 0].max() ** 2)


@dataclass(frozen=True, kw_only=True)
class ALolWorld:
    """What one world gave.

    Args:
        arms: Policies by method; `SFT` is the reference that the others begin from.
        kept: Share of the responses with a positive advantage, of those that answer their own prompt and of others.
        value: Correlation, over prompts, of the predicted value with the mean reward of the reference's responses that
            it was learned from.
    """

    arms: Mapping[str, Spoken]
    kept: tuple[float, float]
    value: float

    def at_equal_kl(self, one: str, other: str) -> float:
        """Gold of one method minus another's at the largest KL that both reach."""
        paths = [self.arms[name].path for name in (one, other)]
        reach = min(float(path[:, 0].max()) for path in paths)
        first, second = (float(along(path, reach)[0]) for path in paths)
        return first - second


def arms(how: OfflineTraining) -> dict[str, OfflineTraining]:
    """Every method but DPO and the reference; those of A-LoL see responses with a positive advantage alone."""
    advantage = partial(replace, how, priority="advantage")
    reward = partial(replace, how, priority="reward")
    return {
        LONGER: how,
        BEHAVIOUR: reward(terms=(WBC(),)),
        R_LOL: reward(terms=(RLol(),)),
        REF_FREE: advantage(terms=(ALolRefFree(),)),
        KL_ARM: advantage(terms=(ALolKL(),)),
        A_LOL: advantage(terms=(ALol(),)),
        SEQ: advantage(terms=(ALolSeq(),)),
        NO_PRIORITY: replace(how, terms=(ALol(),)),
        UNFILTERED: replace(how, terms=(RLol(),)),
    }


def run_languages(scale: Scale, *, progress: bool = False) -> list[ALolWorld]:
    """Every world of a scale, in its processes."""
    return over_seeds(run_language, scale, progress=progress)


def run_language(scale: Scale, seed: int) -> ALolWorld:
    """One world; what an earlier run has done is read."""
    setup = set_up(scale.plan(seed), folder=scale.folder)
    pairs, swapped = noisy_data(setup, count=scale.pairs[-2], seed=seed)
    how = OfflineTraining(terms=(NegativeLogLikelihood(),), steps=scale.policy_steps, seed=seed)
    single = [one for row in pairs for one in _split(row)]
    reference = run_offline(OfflineRun(start=setup.policy, rows=tuple(single), how=how), folder=scale.folder)
    values, fitted = _values(setup, reference, single, folder=scale.folder)
    known = with_advantages(single, values)
    trained = {
        name: run_offline(OfflineRun(start=reference, rows=rows_of(name, known), how=each), folder=scale.folder)
        for name, each in arms(how).items()
    }
    trained[DPO_ARM] = run_offline(
        OfflineRun(start=reference, rows=pairs, how=replace(how, terms=(DPO(),))), folder=scale.folder
    )
    looks = partial(_spoken, setup, reference, samples=scale.setup.samples // 64, folder=scale.folder)
    positive = np.array([row.responses[0].features["advantage"] > 0 for row in known])
    return ALolWorld(
        arms={SFT: looks(reference)} | {name: looks(policy) for name, policy in trained.items()},
        kept=(float(positive[~swapped].mean()), float(positive[swapped].mean())),
        value=fitted,
    )


def noisy_data(setup: Setup, *, count: int, seed: int) -> tuple[tuple[Row, ...], Array]:
    """Comparisons of which half of all responses are taken from other prompts, scored by gold again.

    Returns:
        The rows, and for each response whether it answers another prompt.
    """
    generator = np.random.default_rng([seed, 8])
    rows = [setup.comparisons[place] for place in generator.permutation(len(setup.comparisons))[:count]]
    swapped = generator.random((len(rows), 2)) < NOISE
    other = (np.arange(len(rows))[:, None] + generator.integers(1, len(rows), size=swapped.shape)) % len(rows)
    texts = [
        [rows[other[number, place] if swapped[number, place] else number].responses[place].text for place in (0, 1)]
        for number in range(len(rows))
    ]
    gold = gold_of(World(setup.plan.policy.world)).score([row.prompt for row in rows], texts).reward.reshape(-1, 2)
    found = tuple(
        replace(row, responses=tuple(Response(text=text, score=float(score))
                                     for text, score in zip(said, scores, strict=True)))
        for row, said, scores in zip(rows, texts, gold, strict=True)
    )  # fmt: skip
    return found, swapped.ravel()


def _split(row: Row) -> list[Row]:
    """A row for each response, with its reward in (0, 1)."""
    return [
        replace(row, id=f"{row.id}-{place}", responses=(replace(one, score=None, features={"reward": reward_of(one)}),))
        for place, one in enumerate(row.responses)
    ]


def reward_of(response: Response) -> float:
    """Sigmoid of gold: R_max is 1, as in the paper."""
    return squashed(response.score or 0.0)


def squashed(gold: float) -> float:
    """Sigmoid."""
    return float(expit(gold))


def with_advantages(rows: Sequence[Row], values: Float[Array, " rows"]) -> list[Row]:
    """Rows that know their advantage as well."""
    return [
        _with(row, {**row.responses[0].features, "advantage": row.responses[0].features["reward"] - float(value)})
        for row, value in zip(rows, values, strict=True)
    ]


def rows_of(name: str, known: Sequence[Row]) -> tuple[Row, ...]:
    """What a method learns from: `UNFILTERED` takes signed advantages for rewards, other A-LoLs those above 0 alone."""
    if name == UNFILTERED:
        return tuple(_with(row, {"reward": row.responses[0].features["advantage"]}) for row in known)
    if name in (REF_FREE, KL_ARM, A_LOL, SEQ, NO_PRIORITY):
        return tuple(row for row in known if row.responses[0].features["advantage"] > 0)
    return tuple(known)


def _with(row: Row, features: Mapping[str, float]) -> Row:
    return replace(row, responses=(replace(row.responses[0], features=dict(features)),))


def _values(
    setup: Setup, reference: Path, rows: Sequence[Row], *, folder: Path | None
) -> tuple[Float[Array, " rows"], float]:
    """V of each row's prompt, from a head that learned the reference's own rewards on other prompts."""
    asked = [row.prompt for row in setup.held_out]
    drawn = draw_from(reference, asked, Drawing(samples=_OWN), folder=folder)
    gold = gold_of(World(setup.plan.policy.world)).score(asked, [list(group) for group in drawn.texts]).reward
    rewards = np.vectorize(squashed)(gold).reshape(len(asked), _OWN)
    with quietly():
        policy = load_policy_checkpoint(reference, dtype=torch.float32)
    prompts = _prompt_ids(policy, setup.held_out)
    budget = _TOKEN_BUDGET
    head = fit_prompt_values(policy.model, prompts, rewards.tolist(), reward_max=1.0, token_budget=budget).head
    told = prompt_values(policy.model, prompts, head, token_budget=budget).numpy()
    fitted = float(np.corrcoef(told, rewards.mean(axis=1))[0, 1])
    return prompt_values(policy.model, _prompt_ids(policy, rows), head, token_budget=budget).double().numpy(), fitted


def _prompt_ids(policy: PolicyCheckpoint, rows: Sequence[Row]) -> list[list[int]]:
    prepared = prepare_replies(rows, tokenizer=policy.tokenizer, form=policy.form)
    if prepared.dropped:
        raise DataError(f"{len(prepared.dropped)} rows are too long for the policy", expected="short prompts")
    return prompt_ids([prepared.dataset[place] for place in range(len(prepared.dataset))])


def _spoken(setup: Setup, reference: Path, policy: Path, *, samples: int, folder: Path | None) -> Spoken:
    gold = gold_of(World(setup.plan.policy.world))
    look = partial(look_once, setup, second=gold, start=reference, how=Looking(samples=max(samples, 4)), folder=folder)
    start, unit = look({reference: 1.0}), float(setup.gold.std(axis=1).mean())
    seen = [start]
    if policy != reference:
        seen += [look(_between(reference, policy, share)) for share in _SHARES]
    last = seen[-1]
    return Spoken(
        gold=_gain(last, start) / unit,
        distinct=float(np.mean([distinct(group, 2) for group in last.texts[0]])),
        tokens=float(last.tokens.mean()),
        path=np.array([[_root(one), _gain(one, start) / unit, _gain(one, start) / unit] for one in seen]),
    )


def _between(reference: Path, policy: Path, share: float) -> Shares:
    return {policy: share, reference: 1 - share}


def _gain(one: Looks, start: Looks) -> float:
    return float(one.gold.mean() - start.gold.mean())


def _root(one: Looks) -> float:
    return max(float(one.kl.mean()), 0.0) ** 0.5
