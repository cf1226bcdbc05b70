"""What a round of INPO has gained: its policy against the round before and the start, on prompts that are held out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trueup.data.fingerprint import content_hash
from trueup.data.rows import Prompt
from trueup.errors import DataError
from trueup.files import write_text
from trueup.measure.bootstrap import Resampling, mean
from trueup.measure.plain import plain
from trueup.measure.win_rate import win_rate
from trueup.policies.model import ModelPolicy, load_model_policy
from trueup.recipes.inpo_oracle import open_oracle, with_memory
from trueup.recipes.inpo_settings import TrainInpo
from trueup.rewards.oracle import PreferenceOracle
from trueup.train.references import ModelReference
from trueup.train.rollouts import RolloutRow, rollout_row

FOLDER = "watch"


@dataclass(frozen=True, kw_only=True)
class Look:
    """A policy's responses to the watched prompts, and how far it is from earlier policies.

    Args:
        texts: Its responses to each prompt.
        log_ratios: By the number of an earlier policy: mean over a prompt's responses of log pi - log pi_earlier, nats.
    """

    texts: list[list[str]]
    log_ratios: dict[int, list[float]]


def watch_round(recipe: TrainInpo, number: int, *, places: Sequence[str], prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Win rates and KL of one round's policy, as JSON holds them.

    Args:
        recipe: How much is drawn and which oracle compares.
        number: The round, counted from 1.
        places: Where the start and the policies of rounds 1 to `number` are.
        prompts: The watched prompts.

    Raises:
        EndpointError: The oracle's server fails; what was drawn and answered is kept.
    """
    oracle = with_memory(recipe, open_oracle(recipe))
    policy = _look(recipe, number, places=places, prompts=prompts)
    found: dict[str, Any] = {}
    for name, earlier in (("previous", number - 1), ("start", 0)):
        texts = _look(recipe, earlier, places=places, prompts=prompts).texts
        kl = mean(np.asarray(policy.log_ratios[earlier]), resampling=_resampling(recipe))
        found[name] = plain({**_wins(recipe, oracle, prompts, texts=(policy.texts, texts)), "kl": kl})
    return found


def _wins(
    recipe: TrainInpo,
    oracle: PreferenceOracle,
    prompts: Sequence[Prompt],
    *,
    texts: tuple[list[list[str]], list[list[str]]],
) -> Mapping[str, Any]:
    """How often the first's responses win against the second's; both orders are asked."""
    asked = [(prompt, number) for number, prompt in enumerate(prompts) for _ in texts[0][number]]
    ours, theirs = ([text for group in side for text in group] for side in texts)
    one = [prompt for prompt, _ in asked]
    result = win_rate(
        oracle.prefer(one, ours, theirs),
        oracle.prefer(one, theirs, ours),
        prompt=np.asarray([number for _, number in asked]),
        resampling=_resampling(recipe),
    )
    return {"win_rate": result.rate, "decided": result.decided, "contradiction": result.consistency.excess}


def _resampling(recipe: TrainInpo) -> Resampling:
    assert recipe.watch is not None
    return Resampling(resamples=recipe.watch.resamples, level=recipe.watch.level, seed=recipe.seed)


def _look(recipe: TrainInpo, number: int, *, places: Sequence[str], prompts: Sequence[Prompt]) -> Look:
    """A policy's responses, drawn once; each policy has a seed of its own, so that no two draw alike."""
    path = recipe.output / FOLDER / f"policy-{number}.json"
    if path.is_file():
        return _read(path)
    assert recipe.watch is not None
    policy = load_model_policy(
        places[number],
        label=f"policy {number}",
        max_new_tokens=recipe.max_new_tokens,
        token_budget=recipe.draw_budget,
        progress=True,
        trust_remote_code=recipe.trust_remote_code,
    )
    seed = content_hash("inpo watch", recipe.seed, number) % 2**32
    asked, drawn = policy.draw(prompts, recipe.watch.samples, seed=seed)
    rows = [rollout_row(ids, replies, index=k) for k, (ids, replies) in enumerate(zip(asked, drawn, strict=True))]
    texts = [policy.texts(prompt, replies) for prompt, replies in zip(prompts, drawn, strict=True)]
    own = _logprobs(recipe, policy, rows)
    del policy  # one model at a time
    ratios = {}
    for earlier in {number - 1, 0} if number else ():
        known = load_model_policy(places[earlier], trust_remote_code=recipe.trust_remote_code)
        ratios[earlier] = (own - _logprobs(recipe, known, rows)).tolist()
    write_text(path, json.dumps({"texts": texts, "log_ratios": ratios}) + "\n")
    return Look(texts=texts, log_ratios=ratios)


def _logprobs(recipe: TrainInpo, policy: ModelPolicy, rows: Sequence[RolloutRow]) -> np.ndarray:
    """Log-probability of whole responses, in nats, averaged over each row's."""
    reference = ModelReference(policy.checkpoint.model, token_budget=recipe.token_budget)
    values = reference.logprobs(rows)
    return np.asarray(
        [float(one.double().sum()) / len(row.branch_lengths) for one, row in zip(values, rows, strict=True)]
    )


def _read(path: Path) -> Look:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Look(texts=known["texts"], log_ratios={int(k): v for k, v in known["log_ratios"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cure = "remove it; the same command with --resume draws it again"
        raise DataError(f"cannot be read ({type(error).__name__})", file=path, cure=cure) from error
