"""What the policies of a sweep have reached: each objective's reward and the KL, on prompts that are held out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from trueup.data.demonstrations import read_prompts
from trueup.data.rows import Prompt
from trueup.errors import DataError
from trueup.files import write_text
from trueup.measure.bootstrap import Resampling, bootstrap, mean
from trueup.measure.pareto import dominates, hypervolume
from trueup.measure.plain import plain
from trueup.policies.model import load_model_policy
from trueup.recipes.config import dump
from trueup.recipes.modpo_settings import TrainModpo, name_of
from trueup.recipes.provenance import versions
from trueup.report.modpo_front import SCHEMA, modpo_front_page
from trueup.report.page import write_page
from trueup.rewards.load import load_reward
from trueup.train.policy_sampling import PolicySampler
from trueup.train.references import ModelReference

FRONT, PAGE, FOLDER = "front.json", "report.html", "watch"
START = "start"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A policy's responses to the watched prompts.

    Args:
        texts: Responses to each prompt.
        log_ratios: Mean over a prompt's responses of log pi - log pi_ref, nats.
    """

    texts: list[list[str]]
    log_ratios: list[float]


def watched(recipe: TrainModpo) -> tuple[Prompt, ...]:
    """The prompts on which the front is measured.

    Raises:
        DataError: They cannot be read.
    """
    assert recipe.watch is not None
    file = read_prompts(recipe.watch.prompts, split=recipe.watch.split, limit=recipe.watch.limit)
    return tuple(file.prompts)


def measure_front(recipe: TrainModpo, models: Mapping[str, Path]) -> dict[str, Any]:
    """Draw, score, and write `front.json` and `report.html`; returns what the former says.

    Raises:
        DataError: Kept responses are damaged.
        EndpointError: An evaluator's server fails; what was drawn is kept.
    """
    prompts = watched(recipe)
    held = recipe.reference or recipe.model
    answers = {name: _answers(recipe, name, place, models=models, prompts=prompts) for name, place in
               {START: held, **{name: str(folder) for name, folder in models.items()}}.items()}  # fmt: skip
    rewards = _rewards(recipe, prompts, [one.texts for one in answers.values()])
    weights = {name_of(vector): list(vector) for vector in recipe.weights}
    kl = [np.asarray(one.log_ratios) for one in answers.values()]
    found = plain(_front(recipe, rewards, names=list(answers), kl=kl))
    for point in found["points"]:
        point["weights"] = weights.get(point["name"])
        point["model"] = held if point["name"] == START else str(models[point["name"]])
    write_text(recipe.output / FRONT, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_page(modpo_front_page(found), recipe.output / PAGE)
    return dict(found)


def _front(
    recipe: TrainModpo,
    rewards: Float[np.ndarray, "points objectives prompts"],
    *,
    names: Sequence[str],
    kl: Sequence[Float[np.ndarray, " prompts"]],
) -> dict[str, Any]:
    """The measures, the start being the first point."""
    assert recipe.watch is not None
    watch, labels = recipe.watch, recipe.objectives
    resampling = Resampling(resamples=watch.resamples, level=watch.level, seed=recipe.seed)
    means = rewards.mean(axis=2)
    better = dominates(means)
    given = recipe.hypervolume_from
    begin = means.min(axis=0) if given is None else np.asarray(given, np.float64)
    points = [
        {
            "name": name,
            "kl": mean(kl[i], resampling=resampling),
            "rewards": {label: mean(rewards[i, k], resampling=resampling) for k, label in enumerate(labels)},
            "dominated_by": [other for j, other in enumerate(names) if better[j, i]],
        }
        for i, name in enumerate(names)
    ]
    return {
        "schema": SCHEMA,
        "objectives": labels,
        "prompts": rewards.shape[2],
        "samples": watch.samples,
        "points": points,
        "hypervolume": {
            "value": _hypervolume(rewards[1:], begin, resampling=resampling),
            "from": dict(zip(labels, begin.tolist(), strict=True)),
            "given": given is not None,
        },
        "intervals": {"level": watch.level, "resamples": watch.resamples, "seed": recipe.seed},
        "created_by": {"recipe": dump(replace(recipe, resume=False)), "versions": versions(), "seed": recipe.seed},
    }


def _hypervolume(
    rewards: Float[np.ndarray, "points objectives prompts"], begin: Float[np.ndarray, " objectives"], *,
    resampling: Resampling,
) -> Any:  # fmt: skip
    """Of the policies' means, with an interval over prompts; where it begins is not resampled."""

    def statistic(counts: Float[np.ndarray, "resamples prompts"]) -> Float[np.ndarray, "resamples one"]:
        shares = counts / counts.sum(axis=1, keepdims=True)
        return np.asarray([[hypervolume(means, begin)] for means in np.einsum("rn,pkn->rpk", shares, rewards)])

    return bootstrap(statistic, rewards.shape[2], resampling=resampling)[0]


def _rewards(
    recipe: TrainModpo, prompts: Sequence[Prompt], texts: Sequence[list[list[str]]]
) -> Float[np.ndarray, "points objectives prompts"]:
    """Mean reward of each policy's responses to each prompt; one evaluator is loaded at a time."""
    columns = []
    for label in recipe.objectives:
        judge = load_reward(
            f"{label}={recipe.evaluators[label]}",
            token_budget=recipe.token_budget,
            trust_remote_code=recipe.trust_remote_code,
        )
        columns.append([[float(group.mean()) for group in judge.score(prompts, one).grouped()] for one in texts])
    found = np.asarray(columns, np.float64).transpose(1, 0, 2)
    wrong = [label for k, label in enumerate(recipe.objectives) if not np.isfinite(found[:, k]).all()]
    if wrong:
        raise DataError("a reward is not finite", file=recipe.evaluators[wrong[0]], cure="mend the evaluator")
    return found


def _answers(
    recipe: TrainModpo, name: str, place: str, *, models: Mapping[str, Path], prompts: Sequence[Prompt]
) -> Answers:
    """A policy's responses, drawn once; all policies draw with the same seed."""
    path = recipe.output / FOLDER / f"{name}.json"
    if path.is_file():
        return _read(path, prompts=len(prompts))
    assert recipe.watch is not None
    policy = load_model_policy(
        place,
        label=name,
        max_new_tokens=recipe.max_new_tokens,
        token_budget=recipe.draw_budget,
        progress=True,
        trust_remote_code=recipe.trust_remote_code,
    )
    held = load_model_policy(recipe.reference or recipe.model, trust_remote_code=recipe.trust_remote_code)
    if name == START:  # asked as the policies are, which may be the first to say how they read text
        known = load_model_policy(str(next(iter(models.values()))), trust_remote_code=recipe.trust_remote_code)
        form, tokenizer = known.checkpoint.form, known.checkpoint.tokenizer
        policy = replace(policy, checkpoint=replace(policy.checkpoint, form=form, tokenizer=tokenizer))
    start = ModelReference(held.checkpoint.model, token_budget=recipe.token_budget)
    drawn: list[list[Any]] = PolicySampler(policy=policy, start=start).sample(
        prompts, recipe.watch.samples, seed=recipe.seed
    )
    ratios = [float(np.mean([one.logprob - one.start_logprob for one in group])) for group in drawn]
    found = Answers(texts=[[one.text for one in group] for group in drawn], log_ratios=ratios)
    write_text(path, json.dumps({"texts": found.texts, "log_ratios": ratios}) + "\n")
    return found


def _read(path: Path, *, prompts: int) -> Answers:
    cure = "remove it; the same command with --resume draws it again"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        found = Answers(texts=known["texts"], log_ratios=known["log_ratios"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot be read ({type(error).__name__})", file=path, cure=cure) from error
    if not len(found.texts) == len(found.log_ratios) == prompts:
        raise DataError(f"holds responses to {len(found.texts)} prompts, not to {prompts}", file=path, cure=cure)
    return found


def told(models: Mapping[str, Path], front: Mapping[str, Any]) -> Iterable[str]:
    """Lines for the terminal."""
    points = {point["name"]: point for point in front.get("points", ())}
    for name in points or models:
        known = points.get(name, {})
        words = [f"{label} {_interval(one)}" for label, one in known.get("rewards", {}).items()]
        words += [f"KL {_interval(known['kl'])} nats"] if known else []
        words += [f"dominated by {', '.join(known['dominated_by'])}"] if known.get("dominated_by") else []
        place = models.get(name, known.get("model"))
        yield f"{name}: {place}" + (f" ({'; '.join(words)})" if words else "")
    if points:
        yield f"hypervolume {_interval(front['hypervolume']['value'])}; see {PAGE} beside {FRONT}"


def _interval(estimate: Mapping[str, float | None]) -> str:
    low, high = estimate["low"], estimate["high"]
    shown = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    return f"{estimate['value']:.3g}{shown}"
