"""`trueup bestofn`: proxy and gold against KL for n = 1..N, from one pool."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trueup.data.demonstrations import read_prompts
from trueup.data.pool_files import PoolFolder
from trueup.data.pool_reading import stored_prompts, stored_sizes
from trueup.data.pools import Pool, Setting, distinct
from trueup.data.rows import Prompt
from trueup.divergences.pool_scores import checked_n
from trueup.errors import DataError, RecipeError
from trueup.files import check_output, write_text, written_together
from trueup.measure.bootstrap import Resampling
from trueup.measure.over_optimization import PoolScores, over_optimization
from trueup.measure.over_optimization_verdict import headline
from trueup.measure.repetition import repetition
from trueup.policies.load import load_policy
from trueup.policies.pool_drawing import draw_pool
from trueup.recipes.audit_reward import DTYPES
from trueup.recipes.best_of_n_examples import add_examples
from trueup.recipes.best_of_n_settings import DEFAULT_SAMPLES, BestOfN
from trueup.recipes.best_of_n_warnings import add_warnings
from trueup.recipes.config import dump
from trueup.recipes.places import fingerprint_of
from trueup.recipes.provenance import versions
from trueup.recipes.scoring import check_device
from trueup.report.over_optimization import over_optimization_page
from trueup.report.page import write_page
from trueup.rewards.load import load_reward
from trueup.rewards.pool_scoring import score_folder

__all__ = ["BestOfN", "OverOptimization", "best_of_n", "measure_pool"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OverOptimization:
    """What best-of-n showed.

    Args:
        result: The documented mapping, as in `best_of_n.json`.
        folder: Where it was written.
    """

    result: Mapping[str, Any]
    folder: Path

    def summary(self) -> str:
        """One line for each proxy, and where the page is."""
        lines = [f"{name}: {headline(one, self.result)}" for name, one in self.result["results"].items()]
        return "\n".join([*lines, f"report: {self.folder / 'report.html'}"])


def best_of_n(recipe: BestOfN) -> OverOptimization:
    """Draw and score what the pool lacks, measure, and write `best_of_n.json` and `report.html`.

    Whatever was drawn or scored before the run is stopped is kept, and the same command goes on from there.

    Raises:
        DataError: The prompts or the pool cannot be used.
        RecipeError: Settings do not fit together.
        CheckpointError: A model cannot be used.
        OutputError: The folder cannot be written.
    """
    check_output(recipe.output, folder=True)
    check_output(recipe.pool_folder, folder=True)
    check_device(recipe.device)
    folder = PoolFolder(recipe.pool_folder)
    ids, source = _draw(recipe, folder)
    samples = _samples(recipe, folder, ids)
    for label, place in recipe.rewards.items():
        _score(recipe, folder, label=label, place=place, ids=ids, samples=samples)
    pool = folder.read(ids, samples=samples, rewards=tuple(recipe.rewards))
    result = measure_pool(
        pool,
        proxies=tuple(recipe.proxies),
        gold=None if recipe.judge is None else recipe.judge[0],
        n=recipe.n,
        resampling=Resampling(resamples=recipe.resamples, level=recipe.level, seed=recipe.seed),
        created_by={"versions": versions(), "recipe": dump(recipe), "prompts": source, "pool": dict(pool.settings)},
    )
    add_examples(result, pool, count=recipe.examples, seed=recipe.seed, features=recipe.gold_features)
    with written_together(recipe.output) as place_of_files:
        write_text(place_of_files / "best_of_n.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        write_page(over_optimization_page(result), place_of_files / "report.html")
    return OverOptimization(result, recipe.output)


def measure_pool(
    pool: Pool,
    *,
    proxies: Sequence[str],
    gold: str | None,
    n: Sequence[int] | None = None,
    resampling: Resampling,
    created_by: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure a scored pool: best-of-n by each of its rewards named, judged by another.

    Args:
        pool: The pool.
        proxies: Names of rewards that select.
        gold: Name of the reward that judges, or None.
        n: Sizes; spaced evenly in log n when None.
        resampling: How intervals are made.
        created_by: Provenance that the mapping shall hold.
    """
    result = over_optimization(
        [PoolScores(name=name, reward=pool.score(name), signals=_own_signals(pool, name)) for name in proxies],
        None if gold is None else PoolScores(name=gold, reward=pool.score(gold)),
        signals=_signals(pool),
        n=None if n is None else np.asarray(n),
        resampling=resampling,
        created_by=created_by,
    )
    add_warnings(result, pool)
    return result


def _signals(pool: Pool) -> dict[str, np.ndarray]:
    """What every response shows without any reward; a policy that does not count tokens gives characters."""
    different = [distinct(group) for group in pool.responses]
    in_characters = all(
        len(text) == length
        for group, lengths in zip(pool.responses, pool.tokens.tolist(), strict=True)
        for text, length in zip(group, lengths, strict=True)
    )
    return {
        "characters" if in_characters else "tokens": pool.tokens.astype(float),
        "repetition": np.stack([np.asarray([repetition(text) for text in texts])[index] for texts, index in different]),
        "finished": pool.finished.astype(float),
    }


def _own_signals(pool: Pool, name: str) -> dict[str, np.ndarray]:
    """What a proxy itself says of a response besides its reward."""
    signals = {
        end: pool.scores[f"{name}/{end}"] for end in ("hidden_norm", "before_norm") if f"{name}/{end}" in pool.scores
    }
    members = pool.members(name)
    return signals if members is None else {**signals, "disagreement": members.std(axis=0)}


def _draw(recipe: BestOfN, folder: PoolFolder) -> tuple[tuple[str, ...], dict[str, str]]:
    """Ids of the prompts, once all their samples are drawn, and where the prompts came from."""
    ids, prompts, source = _prompts(recipe, folder)
    folder.check_prompts(ids, prompts)
    if recipe.policy is None:
        return ids, source
    settings: dict[str, Setting] = {
        "policy": recipe.policy,
        "policy_fingerprint": fingerprint_of(recipe.policy) if ":" not in recipe.policy else None,
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "max_new_tokens": recipe.max_new_tokens,
        "seed": recipe.seed,
    }
    folder.begin(settings, created_by=versions())
    samples = _samples(recipe, folder, ids)
    if folder.missing(ids, samples):
        policy = load_policy(
            recipe.policy,
            max_new_tokens=recipe.max_new_tokens,
            temperature=recipe.temperature,
            top_p=recipe.top_p,
            device=recipe.device,
            dtype=DTYPES[recipe.dtype] if recipe.dtype else None,
            token_budget=recipe.draw_budget,
            trust_remote_code=recipe.trust_remote_code,
        )
        draw_pool(folder, policy, prompts, ids=ids, samples=samples, seed=recipe.seed, progress=True)
    return ids, source


def _prompts(recipe: BestOfN, folder: PoolFolder) -> tuple[tuple[str, ...], tuple[Prompt, ...], dict[str, str]]:
    if recipe.prompts is None:
        if folder.settings is None:
            raise DataError("holds no pool (no pool.json)", file=folder.path, cure="check the path, or draw one")
        known = dict(list(stored_prompts(folder.path).items())[: recipe.limit])
        return tuple(known), tuple(known.values()), {"source": str(folder.path)}
    file = read_prompts(recipe.prompts, split=recipe.split, limit=recipe.limit)
    if file.problems:
        reasons = ", ".join(sorted({problem.reason for problem in file.problems}))
        logger.warning("%s: %d records cannot be used: %s", recipe.prompts, len(file.problems), reasons)
    return file.ids, file.prompts, {"source": file.source, "fingerprint": file.fingerprint}


def _samples(recipe: BestOfN, folder: PoolFolder, ids: Sequence[str]) -> int:
    """Samples of each prompt: as many as asked for, or as the pool has, or the default.

    Raises:
        DataError: There is no policy to draw what the pool lacks.
        RecipeError: A size is larger.
    """
    sizes = stored_sizes(folder.path)
    known = [sizes.get(key, 0) for key in ids]
    if recipe.policy is not None:
        samples = recipe.samples or max(known) or DEFAULT_SAMPLES
    else:
        samples = recipe.samples or min(known)
        if samples > min(known) or not samples:
            few = ids[int(np.argmin(known))]
            found = f"prompt {few!r} has {min(known)} samples" + (f" of {samples}" if samples else "")
            cure = "name the policy, which draws only what is missing"
            raise DataError(found, file=folder.path, expected="the same number for every prompt", cure=cure)
    if recipe.n is not None:
        checked_n(recipe.n, samples=samples)
    return samples


def _score(recipe: BestOfN, folder: PoolFolder, *, label: str, place: str, ids: Sequence[str], samples: int) -> None:
    """Score what a reward has not scored; a bare label takes the scores that the pool has.

    Raises:
        DataError: A bare label is neither a reward of the pool nor a place.
    """
    if label == place and not Path(place).exists():
        if label in folder.rewards:
            return
        if recipe.policy is None:
            held = ", ".join(folder.rewards) or "none"
            raise DataError("no such folder, and no reward of the pool", file=place, expected=f"one of: {held}")
    fingerprint = fingerprint_of(place)
    kept = folder.holds_reward(label, place=place, fingerprint=fingerprint) and not recipe.rescore
    if kept and not folder.missing(ids, samples, reward=label):
        return
    reward = load_reward(
        f"{label}={place}",
        keep_hidden=True,
        device=recipe.device,
        dtype=DTYPES[recipe.dtype] if recipe.dtype else None,
        token_budget=recipe.token_budget,
        trust_remote_code=recipe.trust_remote_code,
    )
    if reward.name != label:
        raise RecipeError(f"{place} calls itself {reward.name!r}; write {reward.name}={place}")
    if recipe.rescore:
        folder.forget(label)
    folder.begin_reward(label, place=place, fingerprint=fingerprint)
    score_folder(folder, reward, ids=ids, samples=samples, progress=True)
