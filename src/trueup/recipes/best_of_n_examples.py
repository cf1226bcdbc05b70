"""Responses that best-of-n chooses for a few prompts: at n = 1, at gold's peak, and at the largest n."""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import numpy as np

from trueup.data.fingerprint import prompt_record
from trueup.data.pools import Pool
from trueup.data.rows import Prompt, prompt_text
from trueup.errors import RecipeError
from trueup.measure.best_of_n import best_of_n
from trueup.rewards.function import import_function

Features = Callable[..., Any]
"""`f(prompts, completions) -> [{name: number}, ...]`."""


def add_examples(
    result: MutableMapping[str, Any], pool: Pool, *, count: int, seed: int, features: str | None = None
) -> None:
    """Write examples into every proxy's entry of `results`, under `examples`.

    Prompts are chosen by a rule that the entry states: those on which gold falls most from the middle size to the
    largest (without gold, those on which the proxy gains most), and as the last one a prompt drawn at random. What is
    shown is the best of the first n samples of the pool.

    Args:
        result: The mapping of schema `trueup.best_of_n/1`.
        pool: The pool that it was measured on.
        count: How many prompts for each proxy; 0 for none.
        seed: Seed of the random one.
        features: `package.module:function` that breaks gold down.

    Raises:
        RecipeError: The function cannot be imported, or returns something else than a mapping for each response.
    """
    breakdown = None if features is None else import_function(features).function
    for name, one in result["results"].items():
        if count:
            one["examples"] = _examples(result, pool, name, count=count, seed=seed, breakdown=breakdown)


def _examples(
    result: Mapping[str, Any], pool: Pool, name: str, *, count: int, seed: int, breakdown: Features | None
) -> dict[str, Any]:
    gold = None if result["gold"] is None else pool.score(result["gold"]["name"])
    middle, why_middle = _middle(result, name)
    last = int(result["n"][-1])
    proxy = pool.score(name)
    if gold is None:
        change, rule = _change(proxy, proxy, 1, last), "on which the proxy gains most"
    else:
        change = -_change(proxy, gold, middle, last)
        rule = f"on which gold falls most from n = {middle:,} to n = {last:,}"
    extreme = np.argsort(-change, kind="stable")[: count - 1]
    left = np.setdiff1d(np.arange(pool.shape[0]), extreme)
    random = np.random.default_rng(seed).choice(left, size=min(1, len(left)), replace=False)
    words = [rule] * len(extreme) + ["drawn at random"] * len(random)
    shown = zip([*extreme.tolist(), *random.tolist()], words, strict=True)
    sizes = list(dict.fromkeys((1, middle, last)))
    return {
        "rule": _rule(rule, extreme=len(extreme), random=len(random)),
        "middle": why_middle,
        "prompts": [
            {
                "id": pool.ids[row],
                "prompt": prompt_text(pool.prompts[row]),
                "why": why,
                "choices": [_choice(pool, row, n, proxy=proxy, gold=gold, breakdown=breakdown) for n in sizes],
            }
            for row, why in shown
        ],
    }


def _rule(rule: str, *, extreme: int, random: int) -> str:
    """Which prompts are shown, in words."""
    worst = [f"the {extreme} prompt{'s' if extreme > 1 else ''} {rule} (extreme, not typical)"] if extreme else []
    return ", and ".join(worst + (["one prompt drawn at random"] if random else []))


def _middle(result: Mapping[str, Any], name: str) -> tuple[int, str]:
    """Size of the example between the ends: gold's peak where there is one."""
    sizes = result["n"]
    law = result["results"][name].get("law")
    if law is not None and law["verdict"] == "peaks" and law["peak_n"]["value"] is not None:
        nearest = min(sizes, key=lambda n: abs(np.log(n) - np.log(law["peak_n"]["value"])))
        return int(nearest), "gold's peak by the fitted law"
    return int(sizes[len(sizes) // 2]), "half-way, as no peak of gold was found"


def _change(proxy: np.ndarray, value: np.ndarray, low: int, high: int) -> np.ndarray:
    curve = best_of_n(proxy, value, np.asarray([low, high]))
    return np.asarray(curve[:, 1] - curve[:, 0])


def _choice(
    pool: Pool, row: int, n: int, *, proxy: np.ndarray, gold: np.ndarray | None, breakdown: Features | None
) -> dict[str, Any]:
    place = int(np.argmax(proxy[row, :n]))
    text = pool.responses[row][place]
    return {
        "n": n,
        "sample": place,
        "text": text,
        "tokens": int(pool.tokens[row, place]),
        "proxy": float(proxy[row, place]),
        "gold": None if gold is None else float(gold[row, place]),
        "features": None if breakdown is None else _features(breakdown, pool.prompts[row], text),
    }


def _features(breakdown: Features, prompt: Prompt, text: str) -> dict[str, float]:
    reply = text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
    found = list(breakdown(prompts=[prompt_record(prompt)], completions=[reply]))
    if len(found) != 1 or not isinstance(found[0], Mapping):
        raise RecipeError(f"gold_features returned {found!r:.80}; return one {{name: number}} for each response")
    return {str(key): float(value) for key, value in found[0].items()}
