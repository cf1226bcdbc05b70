"""How alike texts are: METEOR, distinct n-grams, and drift from the initial policy's answers.

Two uses: completions of *different* prompts that resemble each other say that a policy answers everything alike
(SuperHF's measure of reward hacking); completions of the *same* prompt that no longer resemble the initial policy's
say how far it has gone in words.

**Source** Banerjee & Lavie (2005), METEOR: An Automatic Metric for MT Evaluation with Improved Correlation with Human
Judgments; use as drift: Mukobi et al. (2023), SuperHF, arXiv 2310.16763.

**Deviations** Words match where they are equal but for case. There is no stemmer and no WordNet, so scores lie below
those of implementations that have them; differences along a run are comparable. Of longer texts the first 256 words
are compared.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from trueup.errors import RecipeError
from trueup.measure.scored import Array

_RECALL_WEIGHT = 0.9
_PENALTY = 0.5
_BEAM = 8
_PLACES = 6
LONGEST = 256
"""Words of a text that are compared; what a response says at such length hardly changes what it resembles."""


def meteor(hypothesis: str, reference: str) -> float:
    """METEOR of one text against another, 0 to 1; not symmetric.

    With m matched words of |h| and |r|, P = m/|h| and R = m/|r|:

        score = P R / (0.9 P + 0.1 R) * (1 - 0.5 (chunks / m)^3)

    where chunks is the number of runs that are contiguous and in the same order in both texts.

    >>> round(meteor("the cat sat", "the cat sat"), 6)
    0.981481
    >>> meteor("one two", "three four")
    0.0
    """
    told, wanted = (text.lower().split()[:LONGEST] for text in (hypothesis, reference))
    matched = (Counter(told) & Counter(wanted)).total()
    if matched == 0:
        return 0.0
    precision, recall = matched / len(told), matched / len(wanted)
    mean = precision * recall / (_RECALL_WEIGHT * precision + (1 - _RECALL_WEIGHT) * recall)
    return mean * (1 - _PENALTY * (chunk_count(told, wanted) / matched) ** 3)


def chunk_count(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """Fewest chunks among alignments that match as many words as possible, by beam search from left to right.

    Exact while no more than the beam's width of alignments compete, as in texts of few repeated words; never below
    the exact number.
    """
    if list(hypothesis) == list(reference):
        return 1 if hypothesis else 0
    places: dict[str, int] = {}
    for place, word in enumerate(reference):
        places[word] = places.get(word, 0) | 1 << place
    left = Counter(hypothesis)
    # a state: places of the reference in use as bits, and the bit after the one matched by the word before, or 0
    states: dict[tuple[int, int], int] = {(0, 0): 0}
    for word in hypothesis:
        options = places.get(word, 0)
        states = _fewest(
            (after, chunks + extra)
            for (used, following), chunks in states.items()
            for after, extra in _moves(used, following, options & ~used, left=left[word])
        )
        left[word] -= 1
    return min(states.values())


def _moves(used: int, following: int, free: int, *, left: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Next states with the chunks they add; a word is passed over only where others of its kind can stand in."""
    if left > free.bit_count():
        yield (used, 0), 0
    if free & following:
        yield (used | following, following << 1), 0
        free &= ~following
    for _ in range(_PLACES):
        if not free:
            return
        lowest = free & -free
        free &= ~lowest
        yield (used | lowest, lowest << 1), 1


def _fewest(found: Iterable[tuple[tuple[int, int], int]]) -> dict[tuple[int, int], int]:
    """The states with the fewest chunks, each once, no more than the beam is wide."""
    best: dict[tuple[int, int], int] = {}
    for state, chunks in found:
        if chunks < best.get(state, chunks + 1):
            best[state] = chunks
    if len(best) <= _BEAM:
        return best
    return dict(sorted(best.items(), key=lambda item: item[1])[:_BEAM])


def between_prompts(
    responses: Sequence[Sequence[str]], *, pairs: int, generator: np.random.Generator
) -> Float[Array, " pairs"]:
    """METEOR of completions of different prompts, both orders averaged, for pairs drawn at random.

    Args:
        responses: Responses to each of two or more prompts.
        pairs: How many pairs to draw.
        generator: Draws them.

    Raises:
        RecipeError: There are fewer than two prompts.
    """
    if len(responses) < 2:
        raise RecipeError(f"similarity between prompts needs two prompts or more, got {len(responses)}")
    found = []
    for _ in range(pairs):
        chosen = generator.choice(len(responses), size=2, replace=False).tolist()
        a, b = (responses[k][int(generator.integers(len(responses[k])))] for k in chosen)
        found.append((meteor(a, b) + meteor(b, a)) / 2)
    return np.array(found, np.float64)


def to_start(
    responses: Sequence[Sequence[str]], start: Sequence[Sequence[str]], *, most: int = 4
) -> Float[Array, " prompts"]:
    """Mean METEOR of each prompt's responses against the initial policy's answers to the same prompt.

    Response i is never compared with start answer i, so that the initial policy itself is measured like any other
    (its answers are then compared with each other); with one answer there is nothing else to compare with.

    Args:
        responses: Responses now.
        start: The initial policy's.
        most: Responses of each prompt that are compared.
    """
    return np.array([_to_start(now[:most], then[:most]) for now, then in zip(responses, start, strict=True)])


def _to_start(now: Sequence[str], then: Sequence[str]) -> float:
    compared = [meteor(a, b) for i, a in enumerate(now) for j, b in enumerate(then) if i != j or len(then) == 1]
    return float(np.mean(compared)) if compared else np.nan


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Share of the n-grams of words of all texts together that differ, 0 to 1; NaN where there is none.

    **Source** Li et al. (2016), A Diversity-Promoting Objective Function for Neural Conversation Models, arXiv
    1510.03055, section 5.

    >>> distinct(["a b a b", "a b"])
    0.5
    """
    if n < 1:
        raise RecipeError(f"n must be at least 1, got {n}")
    grams = [gram for text in texts for gram in _grams(text.lower().split(), n)]
    return len(set(grams)) / len(grams) if grams else np.nan


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
