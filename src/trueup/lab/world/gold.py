"""The gold reward: a program that checks a response's text against what its prompt needs.

    gold(x, y) = (sum_i w_i * z_i - MEAN) / STD,   z_i = (f_i(x, y) - mean_i) / std_i

with five features f_i. All means and standard deviations are those of the reference sample (`trueup.lab.world.scale`).
"""

from collections.abc import Mapping
from math import exp, log1p
from types import MappingProxyType
from typing import NamedTuple

from trueup.lab.world.ontology import load_ontology
from trueup.lab.world.prompts import FAMILIES
from trueup.lab.world.reading import WORD, tokenise
from trueup.lab.world.records import Needs, Verdict, WorldPrompt

PRIOR = 0.25
"""Unmade claims that correctness assumes, as a share of those asked for; few right claims are then not perfect."""
PENALTY = 0.5
"""What a wrong claim takes away beyond lowering the share of right ones."""
TOPIC_CAP = 3.0
SUBJECT_WEIGHT = 2.0
SOFTNESS_WORDS = 4.0
"""How gradually concision begins to count excess words."""
HALVING_WORDS = 35.0
"""Excess words that halve concision."""
GRAM = 4
HALVING_REPEATS = 10.0
"""Repeated sequences of `GRAM` words that halve non-repetition."""


class Features(NamedTuple):
    """The five features, before standardisation.

    Args:
        correctness: Share of claims that are right, wrong ones costing more, from -0.5 to 0.8.
        coverage: Share of what was asked for that is there, 0 to 1.
        relevance: Share of what is spoken about that was asked about, 0 to 0.9.
        concision: Falls with words beyond what the right claims need, 0 to 1.
        non_repetition: Falls with word sequences said before, 0 to 1.
    """

    correctness: float
    coverage: float
    relevance: float
    concision: float
    non_repetition: float


class Scale(NamedTuple):
    """Constants that standardise over the reference sample."""

    mean: Features
    std: Features
    total_mean: float
    total_std: float


WEIGHTS = Features(correctness=0.28, coverage=0.24, relevance=0.24, concision=0.14, non_repetition=0.10)

SCALE = Scale(
    mean=Features(
        correctness=0.4046061701,
        coverage=0.5241833333,
        relevance=0.7674106227,
        concision=0.4767593139,
        non_repetition=0.9431142759,
    ),
    std=Features(
        correctness=0.4027716119,
        coverage=0.370913886,
        relevance=0.249439908,
        concision=0.2711519555,
        non_repetition=0.1441683851,
    ),
    total_mean=0.0,
    total_std=0.7805972803,
)
"""Measured once by `trueup.lab.world.scale.measure`; a test measures again."""


def features(prompt: WorldPrompt, text: str) -> Features:
    """Measure a response of any quality; linear in its length.

    Args:
        prompt: What was asked.
        text: Any text, also empty or gibberish.

    Returns:
        The five features, in their own units.
    """
    needs, tokens = prompt.needs, tokenise(text)
    words: list[str] = WORD.findall(text.lower())
    verdict = FAMILIES[prompt.family].judge(load_ontology(), prompt, text)
    coverage = min(verdict.right, needs.count) / needs.count
    return Features(
        correctness=_correctness(verdict, needs.count),
        coverage=coverage,
        relevance=_relevance(tokens, needs),
        concision=_concision(len(words), verdict.right, coverage, words_per_claim=needs.words),
        non_repetition=_non_repetition(words),
    )


def total(measured: Features, scale: Scale = SCALE) -> float:
    """Weighted sum of the standardised features, itself standardised: mean 0 and std 1 over the reference sample."""
    return (weighted(measured, scale) - scale.total_mean) / scale.total_std


def weighted(measured: Features, scale: Scale) -> float:
    """Weighted sum of the standardised features."""
    columns = zip(WEIGHTS, measured, scale.mean, scale.std, strict=True)
    return sum(weight * (value - mean) / std for weight, value, mean, std in columns)


def breakdown(measured: Features) -> Mapping[str, float]:
    """Features by name."""
    return MappingProxyType(measured._asdict())


def _correctness(verdict: Verdict, count: int) -> float:
    right, wrong = verdict
    return (right - PENALTY * wrong) / (right + wrong + PRIOR * count)


def _relevance(tokens: tuple[str, ...], needs: Needs) -> float:
    """On-topic words against strangers; topic words beside strangers alone prove nothing."""
    present = frozenset(tokens)
    names = load_ontology().names
    named = {names[word] for word in present if word in names}
    subjects = len(named & needs.subjects)
    strangers = len(named - needs.subjects - needs.topics)
    if not subjects and needs.subjects and strangers:
        return 0.0
    topical = min(SUBJECT_WEIGHT * subjects + len(present & needs.topics), TOPIC_CAP)
    return topical / (topical + strangers + 0.5)


def _concision(words: int, right: int, coverage: float, *, words_per_claim: float) -> float:
    """Earned by coverage, lost by words beyond what the right claims need."""
    if not words:
        return 0.0
    excess = words - right * words_per_claim
    soft = excess if excess > 40 * SOFTNESS_WORDS else SOFTNESS_WORDS * log1p(exp(excess / SOFTNESS_WORDS))
    earned = 0.1 + 0.9 * 2 * coverage / (1 + coverage)
    return earned / (1 + soft / HALVING_WORDS)


def _non_repetition(words: list[str]) -> float:
    if not words:
        return 0.0
    grams = list(zip(*(words[start:] for start in range(GRAM)), strict=False))
    return 1 / (1 + (len(grams) - len(frozenset(grams))) / HALVING_REPEATS)
