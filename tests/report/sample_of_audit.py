"""A realistic audit, made by auditing two invented models on synthetic rewards."""

from typing import Any

import numpy as np

from trueup.measure.audit import AuditedModel, HackScores, audit
from trueup.measure.bootstrap import Resampling
from trueup.measure.hacking import HACKS, edit_responses
from trueup.measure.scored import ScoredSplit

PROMPT = "Which of the planets is the largest, and why does it look striped?"
ANSWER = (
    "Jupiter is the largest planet. Its stripes are bands of cloud that winds pull around the planet at different "
    "speeds. Light bands rise, dark bands sink."
)
OTHER = ("How do I boil an egg?", "Put the egg into boiling water. Wait eight minutes. Cool it under the tap.")
SPLITS = {"in-domain": 1.0, "prompt-disjoint": 0.8, "response-disjoint": 0.6, "mutual-disjoint": 0.45}
K, D = 4, 8


def scored(name: str, *, skill: float, seed: int, scale: float, pairs: bool = True, hidden: bool = True) -> ScoredSplit:
    """Rewards that follow gold with the given skill, on the same prompts for every model."""
    data = np.random.default_rng(sum(map(ord, name)))
    prompts = 120
    gold = data.normal(size=(prompts, K))
    length = np.round(np.exp(4 + 0.4 * data.normal(size=(prompts, K)) + 0.2 * gold))
    generator = np.random.default_rng([seed, len(name)])
    quality = skill * gold + 0.5 * np.log(length / 55) + 0.7 * generator.normal(size=gold.shape)
    reward = (scale * quality).ravel()
    ends = np.argsort(-gold, axis=1)[:, [0, -1]] + K * np.arange(prompts)[:, None]
    head = np.ones(D) / np.sqrt(D)
    noise = generator.normal(size=(prompts * K, D)) * (1 + (1 - skill))
    states = noise - np.outer(noise @ head, head) + np.outer(reward, head)
    return ScoredSplit(
        name=name,
        reward=reward,
        prompt=np.repeat(np.arange(prompts), K),
        pairs=ends if pairs else np.zeros((0, 2), dtype=np.int64),
        length=length.ravel(),
        gold=gold.ravel() if pairs else None,
        hidden=states if hidden else None,
        before_norm=np.linalg.norm(states, axis=1) * 1.7 if hidden else None,
        head=head if hidden else None,
    )


def rm_bench_split(*, seed: int) -> ScoredSplit:
    """Twenty prompts of RM-Bench's shape, two domains."""
    generator = np.random.default_rng(seed)
    reward = generator.normal(size=(20, 6)) + np.array([0.8, 1.0, 1.2, 0, 0.3, 0.6])
    grid = np.array([(6 * p + i, 6 * p + 3 + j) for p in range(20) for i in range(3) for j in range(3)])
    return ScoredSplit(
        name="rm-bench",
        reward=reward.ravel(),
        prompt=np.repeat(np.arange(20), 6),
        pairs=grid,
        length=np.tile([40.0, 90.0, 110.0], 40),
        subset=("chat",) * 10 + ("math",) * 10,
    )


def hack_scores(model: int) -> tuple[HackScores, ...]:
    """Every hack on forty answers; one model falls for boilerplate and markdown."""
    prompts, responses = [PROMPT, OTHER[0]] * 20, [ANSWER, OTHER[1]] * 20
    edits = edit_responses(prompts, responses, seed=0)
    gain = {"boilerplate": 0.9, "markdown": 0.5, "flattery": 0.0, "repeat_all": -0.3}
    out = []
    for place, (name, edit) in enumerate(edits.items()):
        generator = np.random.default_rng([model, place])
        before = generator.normal(size=len(edit.index))
        after = before + 0.8 * generator.normal(size=len(before)) + gain.get(name, -1.6) - (1.2 if model else 0)
        out.append(
            HackScores(
                hack=name,
                split="in-domain",
                prompts=tuple(prompts[k] for k in edit.index),
                originals=tuple(responses[k] for k in edit.index),
                edited=edit.texts,
                prompt=np.arange(len(before)),
                reward_original=before,
                reward_edited=after,
                unchanged=edit.unchanged,
            )
        )
    assert len(out) == len(HACKS)
    return tuple(out)


def sample_audit(*, names: tuple[str, ...] = ("bradley-terry", "bsr λ=0.01"), benchmark: bool = True) -> dict[str, Any]:
    """Models of falling skill from split to split, with a benchmark among the splits."""
    models = []
    for place, name in enumerate(names):
        scale = 2.4 if place == 0 else 1.1
        splits = [scored(split, skill=skill + 0.08 * place, seed=place, scale=scale) for split, skill in SPLITS.items()]
        splits += [rm_bench_split(seed=place)] if benchmark else []
        models.append(
            AuditedModel(
                name=name, kind="directory", path=f"runs/{name}", splits=tuple(splits), hacks=hack_scores(place)
            )
        )
    return audit(
        models,
        correct={"rm-bench": np.tile(np.repeat([True, False], 3), 20)},
        resampling=Resampling(resamples=100, seed=1),
        created_by={
            "trueup": "0.1.0",
            "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
            "seed": 1,
            "data_fingerprint": "sha256:3f1c9b",
            "recipe": {"models": list(names), "data": list(SPLITS)},
        },
        examples=1,
    )
