"""How different a policy's responses to the same prompt are: unique ones, distinct n-grams, self-BLEU, entropy.

Words are what stands between white space, and case does not count. Everything is measured among the responses to one
prompt and averaged over prompts, so that prompts can be resampled. All but entropy depend on how many responses a
prompt has: compare policies at equal numbers. What a policy repeats across prompts is in `trueup.measure.similarity`.

**Source** distinct-n: Li et al. (2016), arXiv 1510.03055; self-BLEU: Zhu et al. (2018), Texygen, arXiv 1802.01886;
BLEU: Papineni et al. (2002), with the smoothing of the NIST script (Chen & Cherry 2014, method 3).

**Deviations** The share of distinct n-grams is that of one prompt's responses, not of the whole set. Orders of which a
response is too short to have an n-gram are left out of its BLEU.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from trueup.errors import DataError
from trueup.measure.bootstrap import Resampling, mean, ratios, sum_by
from trueup.measure.preference_oracle import by_prompt
from trueup.measure.scored import Array, Estimate
from trueup.measure.similarity import distinct

_ORDER = 4
Gram = tuple[str, ...]


class Diversity(NamedTuple):
    """Diversity of responses, means over prompts.

    Args:
        unique: Share of a prompt's responses that differ, in (0, 1].
        distinct_1: Share of the words of a prompt's responses that differ.
        distinct_2: The same of pairs of neighbouring words.
        distinct_3: The same of three words in a row.
        self_bleu: Mean BLEU of each response against the others, 0 to 1; high where all say the same.
    """

    unique: Estimate
    distinct_1: Estimate
    distinct_2: Estimate
    distinct_3: Estimate
    self_bleu: Estimate


class Entropy(NamedTuple):
    """Entropy of a policy, estimated from the log-probabilities of its own samples.

    Args:
        response: Nats a response: mean of `-log pi(y | x)`. Unbiased for samples at the policy's own temperature.
        token: Nats a token: the sum of the same over the sum of tokens.
    """

    response: Estimate
    token: Estimate


def diversity(responses: Sequence[Sequence[str]], *, resampling: Resampling) -> Diversity:
    """Measure the responses to each prompt, with intervals by resampling prompts.

    A prompt with one response says nothing of unique ones and of self-BLEU, and is left out of them.

    Raises:
        DataError: There is no prompt, or one has no responses.
    """
    if not responses:
        raise DataError("there are no prompts", expected="at least one")
    empty = [row for row, group in enumerate(responses, 1) if not group]
    if empty:
        raise DataError("the prompt has no responses", row=empty[0], expected="at least one")
    columns = [
        [unique_share(group) for group in responses],
        *([distinct(group, n) for group in responses] for n in (1, 2, 3)),
        [float(np.mean(self_bleu(group))) for group in responses],
    ]
    return Diversity(*(mean(np.array(column, np.float64), resampling=resampling) for column in columns))


def unique_share(responses: Sequence[str]) -> float:
    """Different responses as a share of all, white space at the ends not counted; NaN for fewer than two."""
    return len({text.strip() for text in responses}) / len(responses) if len(responses) > 1 else np.nan


def self_bleu(responses: Sequence[str]) -> Float[Array, " responses"]:
    """BLEU of each response against all others, 0 to 1; NaN where there is one response.

    With m_n clipped matches of the g_n n-grams of a response, c words in it and r in the other response whose length
    is nearest (the shorter of two):

        BLEU = min(1, exp(1 - r / c)) * (prod_n m_n / g_n)^(1/N),    N = min(4, c)

    The i-th order without a match counts `2^-i / g_n`. A response without words is like others without words, and
    unlike all else.

    >>> self_bleu(["a b c d", "a b c d", "x y z"]).round(6).tolist()
    [1.0, 1.0, 0.0]
    """
    if len(responses) < 2:
        return np.full(len(responses), np.nan)
    words = [text.lower().split() for text in responses]
    lengths = np.array([len(each) for each in words])
    grams = [[_grams(each, n) for each in words] for n in range(1, _ORDER + 1)]
    most = [_most(counts) for counts in grams]
    out = np.zeros(len(words))
    for k, length in enumerate(lengths):
        others = np.delete(lengths, k)
        if length == 0:
            out[k] = float(np.any(others == 0))
            continue
        matches = [_matches(counts[k], top, own=k) for counts, top in zip(grams, most, strict=True)]
        out[k] = _bleu(matches[:length], length=int(length), nearest=_nearest(others, int(length)))
    return out


def entropy(
    logprob: Float[Array, " responses"],
    tokens: Num[Array, " responses"],
    *,
    prompt: Int[Array, " responses"],
    resampling: Resampling,
) -> Entropy:
    """Entropy from recorded log-probabilities, with intervals by resampling prompts.

    Args:
        logprob: Log-probability of each response under the distribution it was drawn from, nats, summed over tokens.
        tokens: Tokens of each response, the end-of-sequence token included.
        prompt: Prompt of each response.
        resampling: How intervals are made.

    Raises:
        DataError: A log-probability is missing, not finite or above zero, or a response has no tokens.
    """
    if not len(logprob):
        raise DataError("there are no responses", expected="at least one")
    bad = np.flatnonzero(~(np.isfinite(logprob) & (logprob <= 0) & (tokens > 0)))
    if len(bad):
        found = f"log-probability {logprob[bad[0]]} of {tokens[bad[0]]} tokens for response {bad[0]}"
        raise DataError(found, expected="a finite number, at most 0, of one token or more")
    unit, units = by_prompt(prompt)
    surprise, length, drawn = sum_by(np.stack([-logprob, tokens, np.ones(len(tokens))], axis=1), unit, units).T
    numerators, denominators = np.stack([surprise, surprise], axis=1), np.stack([drawn, length], axis=1)
    return Entropy(*ratios(numerators, denominators, resampling=resampling))


def _grams(words: Sequence[str], n: int) -> Counter[Gram]:
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def _most(counts: Sequence[Counter[Gram]]) -> dict[Gram, tuple[int, int, int]]:
    """Of each n-gram: whose count is highest, that count, and the highest among the others."""
    found: dict[Gram, tuple[int, int, int]] = {}
    for own, each in enumerate(counts):
        for gram, count in each.items():
            holder, highest, second = found.get(gram, (own, 0, 0))
            found[gram] = (own, count, highest) if count > highest else (holder, highest, max(second, count))
    return found


def _matches(counts: Counter[Gram], most: dict[Gram, tuple[int, int, int]], *, own: int) -> tuple[int, int]:
    """N-grams of a response that another one has as often, and how many there are."""
    matched = 0
    for gram, count in counts.items():
        holder, highest, second = most[gram]
        matched += min(count, second if holder == own else highest)
    return matched, counts.total()


def _bleu(matches: Sequence[tuple[int, int]], *, length: int, nearest: int) -> float:
    if not any(matched for matched, _ in matches):
        return 0.0
    logs, missed = 0.0, 0
    for matched, total in matches:
        missed += matched == 0
        logs += np.log(matched / total) if matched else np.log(2.0**-missed / total)
    return float(np.exp(min(0.0, 1 - nearest / length) + logs / len(matches)))


def _nearest(lengths: Int[Array, " others"], length: int) -> int:
    return int(min(lengths.tolist(), key=lambda other: (abs(other - length), other)))
