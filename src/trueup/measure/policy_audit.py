"""Policies measured against a reference without a gold model, in one documented mapping.

The schema is in docs/audit.md. All functions here work on what was drawn, compared and scored already.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trueup.errors import DataError, RecipeError, TrueupError
from trueup.measure.bootstrap import Resampling, mean, paired_difference, proportions, ratios
from trueup.measure.diversity import diversity, entropy
from trueup.measure.implicit_reward import implicit_reward
from trueup.measure.length import length_accuracy, length_correlation
from trueup.measure.length_controlled import length_controlled
from trueup.measure.plain import plain
from trueup.measure.policy_audit_examples import examples
from trueup.measure.policy_audit_passing import passing
from trueup.measure.policy_audit_records import Drawn, Judged, PairScores, PolicyRecord
from trueup.measure.policy_audit_verdict import verdict
from trueup.measure.scored import Array, Estimate, ScoredSplit
from trueup.measure.win_rate import decisions, win_rate, wins

SCHEMA = "trueup.offline_audit/1"
_BINS = 24


def audit_policies(
    policies: Mapping[str, PolicyRecord],
    *,
    reference: tuple[str, PolicyRecord] | None = None,
    prompts: Sequence[str] = (),
    resampling: Resampling,
    most_examples: int = 3,
    created_by: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure policies side by side, each against the reference.

    Args:
        policies: By the name that reports use.
        reference: Name and record of what they are held against, or None.
        prompts: The held-out prompts as text.
        resampling: How intervals over prompts are made.
        most_examples: Prompts whose responses are shown.
        created_by: Provenance that the mapping shall hold.

    Returns:
        The mapping of schema `trueup.offline_audit/1`, ready for JSON.

    Raises:
        RecipeError: There is no policy, or one is called as the reference is.
    """
    if not policies:
        raise RecipeError("no policy is named")
    everyone = {**({reference[0]: reference[1]} if reference else {}), **policies}
    if len(everyone) != len(policies) + (reference is not None):
        raise RecipeError("the reference and a policy have one name; write NAME=place to tell them apart")
    held = reference[1] if reference else None
    whole: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "created_by": dict(created_by or {}),
            "intervals": {"level": resampling.level, "resamples": resampling.resamples, "seed": resampling.seed},
            "prompts": len(prompts),
            "reference": {"name": reference[0], **_alone(reference[1], resampling)} if reference else None,
            "policies": {name: _against(one, held, resampling) for name, one in policies.items()},
            "lengths": _histograms(everyone),
            "examples": examples(everyone, prompts, judged=tuple(policies), most=most_examples, seed=resampling.seed),
        }
    )
    for result in whole["policies"].values():
        result["verdict"] = plain(verdict(result, whole["reference"], prompts=len(prompts)))
    return whole


Part = Callable[[], Any]


def _measured(record: PolicyRecord, parts: Mapping[str, Part]) -> dict[str, Any]:
    """Each part, or None with the reason why there is none."""
    result: dict[str, Any] = {"source": record.source, "trained": record.trained, "notes": list(record.notes)}
    absent: dict[str, str] = {}
    for name, part in parts.items():
        result[name] = None
        if name in record.absent:
            absent[name] = record.absent[name]
            continue
        try:
            result[name] = part()
        except TrueupError as error:
            absent[name] = str(error)
    return {**result, "absent": absent}


def _alone(record: PolicyRecord, resampling: Resampling) -> dict[str, Any]:
    """What is measured of a policy without another one."""
    return _measured(
        record,
        {
            "samples": lambda: [_look(one, resampling) for one in _drawn(record)],
            "entropy": lambda: _entropy(record, resampling),
            "pass_at_k": lambda: passing(record.drawn, resampling=resampling),
        },
    )


def _against(record: PolicyRecord, reference: PolicyRecord | None, resampling: Resampling) -> dict[str, Any]:
    """What is measured of a policy beside its reference."""
    return _measured(
        record,
        {
            "samples": lambda: [_look(one, resampling) for one in _drawn(record)],
            "win_rates": lambda: _win_rates(record, reference, resampling),
            "rewards": lambda: _rewards(record, reference, resampling),
            "kl": lambda: _kl(record, resampling),
            "entropy": lambda: _entropy(record, resampling),
            "length_change": lambda: _length_change(record, reference, resampling),
            "pass_at_k": lambda: passing(record.drawn, reference.drawn if reference else (), resampling=resampling),
            "implicit_reward": lambda: _implicit(record.pairs, resampling),
        },
    )


def _drawn(record: PolicyRecord) -> Sequence[Drawn]:
    if not record.drawn:
        raise DataError("no responses were drawn")
    return record.drawn


def _look(drawn: Drawn, resampling: Resampling) -> dict[str, Any]:
    """How responses at one temperature look, whatever they are worth."""
    characters = np.array([[len(text) for text in group] for group in drawn.texts], np.float64)
    ended = np.asarray(drawn.finished, np.float64).sum(axis=1)[:, None]
    return {
        "temperature": drawn.temperature,
        "responses": drawn.samples,
        "diversity": diversity(drawn.texts, resampling=resampling),
        "tokens": mean(np.asarray(drawn.tokens, np.float64).mean(axis=1), resampling=resampling),
        "characters": mean(characters.mean(axis=1), resampling=resampling),
        "finished": proportions(ended, np.full_like(ended, drawn.samples), resampling=resampling)[0],
    }


def _by_prompt(drawn: Drawn) -> Array:
    return np.repeat(np.arange(len(drawn.texts)), drawn.samples)


def _entropy(record: PolicyRecord, resampling: Resampling) -> Any:
    drawn = _at_one(record)
    if drawn.logprob is None:
        raise DataError("the policy does not state log-probabilities of what it draws")
    return entropy(drawn.logprob.ravel(), drawn.tokens.ravel(), prompt=_by_prompt(drawn), resampling=resampling)


def _at_one(record: PolicyRecord) -> Drawn:
    drawn = record.at_own_temperature()
    if drawn is None:
        raise DataError("nothing was drawn at temperature 1, where a policy is itself", cure="add temperature 1")
    return drawn


def _kl(record: PolicyRecord, resampling: Resampling) -> dict[str, Estimate]:
    """KL(policy || reference) by k1, the mean log-ratio of the policy's own samples: nats a response, and a token."""
    drawn = _at_one(record)
    if drawn.logprob is None or drawn.reference_logprob is None:
        raise DataError("the reference's log-probabilities of the policy's own responses are not known")
    ratio = (drawn.logprob - drawn.reference_logprob).sum(axis=1)
    counts = np.full_like(ratio, drawn.samples)
    units = np.stack([counts, np.asarray(drawn.tokens, np.float64).sum(axis=1)], axis=1)
    response, token = ratios(np.stack([ratio, ratio], axis=1), units, resampling=resampling)
    return {"response": response, "token": token}


def _win_rates(record: PolicyRecord, reference: PolicyRecord | None, resampling: Resampling) -> dict[str, Any]:
    if reference is None or not record.judged:
        raise DataError("nothing judged the responses")
    ours, theirs = _drawn(record)[0], _drawn(reference)[0]
    return {name: _against_reference(one, ours, theirs, resampling) for name, one in record.judged.items()}


def _against_reference(judged: Judged, ours: Drawn, theirs: Drawn, resampling: Resampling) -> dict[str, Any]:
    prompts, compared = judged.forward.shape
    prompt = np.repeat(np.arange(prompts), compared)
    forward, backward = judged.forward.ravel(), judged.backward.ravel()
    found = win_rate(forward, backward, prompt=prompt, resampling=resampling)
    win = wins(forward, backward)
    longer = [
        len(a) - len(b)
        for mine, other in zip(ours.texts, theirs.texts, strict=True)
        for a, b in zip(mine[:compared], other[:compared], strict=True)
    ]
    return {
        "by": "decided" if judged.decided else "probability",
        "headline": found.decided if judged.decided else found.rate,
        **found._asdict(),
        "length_controlled": length_controlled(
            decisions(win) if judged.decided else win, np.array(longer), prompt=prompt, resampling=resampling
        ),
    }


def _rewards(record: PolicyRecord, reference: PolicyRecord | None, resampling: Resampling) -> dict[str, Any]:
    if not record.rewards:
        raise DataError("no reward scored the responses")
    found = {}
    for name, table in record.rewards.items():
        policy = table.mean(axis=1)
        other = reference.rewards[name].mean(axis=1) if reference and name in reference.rewards else None
        found[name] = {
            "policy": mean(policy, resampling=resampling),
            "reference": None if other is None else mean(other, resampling=resampling),
            "difference": None if other is None else paired_difference(other, policy, resampling=resampling),
        }
    return found


def _length_change(record: PolicyRecord, reference: PolicyRecord | None, resampling: Resampling) -> dict[str, Any]:
    """Characters of the policy's responses over the reference's, each prompt against itself."""
    if reference is None:
        raise DataError("there is no reference")
    tables = [
        np.array([np.mean([len(text) for text in group]) for group in _drawn(one)[0].texts])
        for one in (reference, record)
    ]
    before, after = tables
    change = ratios(after[:, None], before[:, None], resampling=resampling)[0]
    return {"characters": paired_difference(before, after, resampling=resampling), "ratio": change}


def _implicit(pairs: PairScores | None, resampling: Resampling) -> dict[str, Any]:
    if pairs is None:
        raise DataError("no held-out pairs were given")
    found = implicit_reward(
        pairs.policy,
        pairs.reference,
        implicit=lambda policy, reference: pairs.reward,
        prompt=pairs.prompt,
        pairs=pairs.pairs,
        length=pairs.length,
        resampling=resampling,
    )
    split = ScoredSplit(
        name="pairs", reward=pairs.reward, prompt=pairs.prompt, pairs=pairs.pairs, length=pairs.length.astype(float)
    )
    return {
        "formula": pairs.formula,
        "pairs": len(pairs.pairs),
        "prompts": split.prompts,
        **found._asdict(),
        "length": {
            "spearman_within_prompt": length_correlation(split, resampling=resampling).within_prompt,
            **length_accuracy(split, resampling=resampling)._asdict(),
        },
    }


def _histograms(everyone: Mapping[str, PolicyRecord]) -> dict[str, Any] | None:
    """Lengths in characters of the responses that are judged, in bins that all share."""
    lengths = {
        name: [len(text) for group in one.drawn[0].texts for text in group]
        for name, one in everyone.items()
        if one.drawn
    }
    if not lengths:
        return None
    every = [length for values in lengths.values() for length in values]
    edges = np.histogram_bin_edges(every, bins=min(_BINS, max(len(set(every)), 2)))
    counts = {name: np.histogram(values, bins=edges)[0] for name, values in lengths.items()}
    return {"unit": "characters", "edges": edges, "counts": counts}
