"""The sections of a page about best-of-n: from its numbers to figures, tables and examples."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from trueup.measure.scored import Estimate
from trueup.report.audit_sections import figure, folded
from trueup.report.audit_values import Node, cell, entries, find
from trueup.report.curves import drift, gold_and_proxy, gold_overlay
from trueup.report.over_optimization_values import Pool
from trueup.report.page import Block, Column, Quote, Quotes, Section, Table
from trueup.report.text import Cell, Missing, number

_LONGEST = 1500
_UNITS = {
    "tokens": "length in tokens",
    "characters": "length in characters",
    "repetition": "share of three-word sequences said before",
    "finished": "share that ended by itself",
    "disagreement": "spread of the ensemble's members",
    "hidden_norm": "norm of what enters the head",
    "before_norm": "the same before the last normalisation",
}

_WITH_GOLD = (
    "For every n, the response with the highest proxy among n samples: the mean change from n = 1 of its proxy score "
    "and of its gold, in standard deviations within a prompt. Bands are intervals over prompts. The dotted line is the "
    "law fitted to gold, d (alpha − beta d); the diamond is its peak, where the data show one, with the interval of "
    "where it is.",
    "Gold that rises with the proxy to the end. The gap between the two is what the proxy promises and gold does not "
    "keep; where gold turns down, more optimisation makes responses worse.",
)
_WITHOUT_GOLD = (
    "For every n, the mean change of the proxy's own score from n = 1, in standard deviations within a prompt.",
    "Nothing can be said of gold here, as none was given. See below how what is chosen drifts.",
)


def curves(pool: Pool) -> Section:
    """Gold and proxy against the distance from the base policy."""
    drawn = pool.curves()
    shows, good = _WITH_GOLD if pool.gold is not None else _WITHOUT_GOLD
    title = "Gold and proxy against distance" if pool.gold is not None else "The proxy against distance"
    blocks: list[Block] = [figure(partial(gold_and_proxy, drawn), title, shows=shows, good=good)]
    if pool.gold is not None and len(drawn) > 1:
        blocks.append(
            figure(
                partial(gold_overlay, drawn),
                "Gold under each proxy",
                shows="The same curves of gold in one picture.",
                good="A curve that lies higher: more gold for the same distance.",
            )
        )
    heading = "Does gold fall while the proxy rises?" if pool.gold is not None else "How far does the proxy rise?"
    return Section(heading, (*blocks, folded(_curve_table(pool))))


def _curve_table(pool: Pool) -> Table:
    rows = [
        (name, size, distance, *(_at(pool, name, key, place) for key in ("proxy", "gold", "gold_gain")))
        for name in pool.proxies
        for place, (size, distance) in enumerate(zip(pool.n, pool.d, strict=True))
    ]
    columns = (
        Column("Proxy"), Column("n", "count"), Column("sqrt KL", "number", 2), Column("Proxy score", "number", 2),
        Column("Gold", "number", 2), Column("Gold over n = 1", "signed", 2),
    )  # fmt: skip
    return Table(columns=columns, rows=tuple(rows), caption="Mean scores of the best of n, in their own units")


def _at(pool: Pool, name: str, key: str, place: int) -> Cell:
    values = find(pool.result(name), key)
    return cell(values[place]) if isinstance(values, list) else pool.cell(name, key)


def examples(pool: Pool) -> Section | None:
    """What each proxy chooses at n = 1, at the peak, and far past it."""
    blocks: list[Block] = []
    for name in pool.proxies:
        node = find(pool.result(name), "examples")
        found = entries(find(node, "prompts"))
        if not found:
            continue
        blocks.append(
            f"Chosen by {name}, each the best of the first n samples of the pool. Shown are {find(node, 'rule')}. "
            f"The size between the ends is {find(node, 'middle')}."
        )
        blocks += [_example(one, proxy=name) for one in found]
    return Section("What does it choose?", tuple(blocks)) if blocks else None


def _example(node: Node, *, proxy: str) -> Quotes:
    prompt = Quote("prompt", _cut(str(node.get("prompt", ""))), note=str(node.get("why", "")))
    return Quotes((prompt, *(_choice(one, proxy=proxy) for one in entries(node.get("choices")))))


def _choice(node: Node, *, proxy: str) -> Quote:
    size = node.get("n")
    label = "n = 1: a random sample" if size == 1 else f"best of {_words(size, 'count')}"
    notes = [f"{proxy} {_words(node.get('proxy'), 'signed')}"]
    if node.get("gold") is not None:
        notes.append(f"gold {_words(node.get('gold'), 'signed')}")
    features = node.get("features")
    if isinstance(features, Mapping):
        notes.append(", ".join(f"{str(key).replace('_', ' ')} {_words(value)}" for key, value in features.items()))
    return Quote(label, _cut(str(node.get("text", ""))), note="; ".join(notes))


def _words(value: object, style: str = "number") -> str:
    if not isinstance(value, int | float):
        return "unknown"
    return number(value, "count" if style == "count" else "signed" if style == "signed" else "number", digits=2)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text) - _LONGEST:,} more characters)"


def agreement(pool: Pool) -> Section | None:
    """Correlation of proxy and gold before and after selection, and whether hacking has occurred."""
    if pool.gold is None:
        return None
    rows: list[tuple[Cell, ...]] = []
    for name in pool.proxies:
        before = (pool.cell(name, "agreement", part, "pearson") for part in ("pooled", "within"))
        ranks = pool.cell(name, "agreement", "within", "spearman")
        after = find(pool.result(name), "agreement", "selected_pooled")
        last = cell(after[-1]) if isinstance(after, list) else pool.cell(name, "agreement", "selected_pooled")
        hacked = find(pool.result(name), "agreement", "hacked")
        word = str(hacked[-1]) if isinstance(hacked, list) else pool.cell(name, "agreement", "hacked")
        rows.append((name, *before, ranks, last, word))
    columns = (
        Column("Proxy"), Column("r, all samples", "number", 2), Column("r within prompts", "number", 2),
        Column("rank correlation within", "number", 2), Column(f"r among the best of {pool.n[-1]:,}", "number", 2),
        Column(f"hacked at n = {pool.n[-1]:,}"),
    )  # fmt: skip
    table = Table(columns=columns, rows=tuple(rows), caption="Correlation of each proxy with gold")
    text = (
        "A proxy that is correlated with gold under the base policy counts as hacked once optimising it brings gold "
        "below the base policy's. Selection among responses to one prompt can use only the correlation within prompts. "
        "Among what is selected it is lower by selection alone, as only a narrow range of proxy scores is left."
    )
    return Section("Can the proxy still be trusted after selection?", (text, table))


def drifts(pool: Pool) -> Section | None:
    """What changes in the chosen responses, told without gold."""
    found = {proxy: _signals(pool, proxy) for proxy in pool.proxies}
    moving = {name for by_name in found.values() for name, values in by_name.items() if _moves(values)}
    signals = {proxy: {n: v for n, v in by_name.items() if n in moving} for proxy, by_name in found.items()}
    if not moving:
        return None
    drawn = figure(
        partial(drift, signals, n=pool.n, d=pool.d),
        "Drift of what is chosen",
        shows="Means over the best of n, with their intervals over prompts. None of this needs gold. What is the same "
        "at every n is left out.",
        good="Flat lines. Responses that grow, repeat themselves or no longer end, members that disagree, and norms "
        "that leave where the reward model was trained are what over-optimisation often looks like from outside.",
    )
    return Section("What else changes?", (drawn,))


def warnings(pool: Pool) -> Section | None:
    """What the alarm without gold says of each proxy."""
    rows: list[tuple[Cell, ...]] = []
    for proxy in pool.proxies:
        found = pool.result(proxy).get("warning")
        if not isinstance(found, Mapping):
            continue
        stated = found.get("probability")
        last = stated[-1] if isinstance(stated, Sequence) and stated else None
        first = found.get("n")
        seen = found.get("signals")
        words = ", ".join(str(one).replace("_", " ") for one in seen) if isinstance(seen, Sequence) else ""
        rows.append((proxy, first if isinstance(first, int) else "no warning", last, words))
    if not rows:
        return None
    columns = (
        Column("proxy"),
        Column("warns from n =", "count"),
        Column(f"stated chance at n = {pool.n[-1]:,}", "percent", 0),
        Column("what it looks at"),
    )
    return Section(
        "Would one have been warned without gold?",
        (
            "A warning that sees no gold, only what a practitioner sees anyway, states the chance that gold has fallen "
            "below an earlier value. It was learned in a small language world, where gold is known; of other models "
            "it is a hint, and no more.",
            Table(columns=columns, rows=tuple(rows), caption="The warning without gold"),
        ),
    )


def _moves(values: Sequence[Estimate]) -> bool:
    """Whether a mean changes with n by more than rounding."""
    known = [one.value for one in values if math.isfinite(one.value)]
    return bool(known) and max(known) - min(known) > 1e-9 * max(map(abs, known))


def _signals(pool: Pool, proxy: str) -> dict[str, list[Estimate]]:
    found = find(pool.result(proxy), "signals")
    names = map(str, found) if isinstance(found, Mapping) else ()
    return {_UNITS.get(name, name): pool.along(proxy, "signals", name, "values") for name in names}


def laws(pool: Pool) -> Section | None:
    """The fitted laws and how well they foretell."""
    if pool.gold is None:
        return None
    rows = tuple(
        (name, pool.verdict(name), pool.peak(name), *(pool.cell(name, "law", key) for key in _LAW))
        for name in pool.proxies
    )
    fits = Table(
        columns=(
            Column("Proxy"), Column("Verdict"), Column("Peak at n"), Column("Peak, sqrt nats", "number", 2),
            Column("Gold there", "signed", 2), Column("alpha", "number", 3), Column("beta", "number", 3),
            Column("Residual", "number", 3), Column("Noise", "number", 3),
        ),
        rows=rows,
        caption="The law d (alpha − beta d) fitted to gold over n = 1, in gold's units",
    )  # fmt: skip
    checks = Table(
        columns=(
            Column("Proxy"), Column("Fitted up to d", "number", 2), Column("Error of the law", "number", 3),
            Column("of a cubic", "number", 3), Column("of a flat line", "number", 3), Column("Better form"),
        ),
        rows=tuple(
            (name, *(pool.cell(name, "held_out", key) for key in _HELD_OUT), _better(pool, name))
            for name in pool.proxies
        ),
        caption="Root mean square error where the law was not fitted: beyond half of the largest KL",
    )  # fmt: skip
    return Section("How well does a law describe it?", (fits, checks))


_LAW = ("peak_d", "peak_gold", "alpha", "beta", "rms", "noise")
_HELD_OUT = ("fit_up_to", "rms", "cubic_rms", "constant_rms")


def _better(pool: Pool, name: str) -> Cell:
    found = pool.cell(name, "forms", "better")
    return {"best_of_n": "best-of-n", "rl": "RL"}.get(found, found) if isinstance(found, str) else found


def _foretold(pool: Pool, name: str, method: str, key: str) -> Cell:
    """Where a forecast sees a peak; the reason where it sees none."""
    value = find(pool.result(name), "forecasts", method, key)
    known = find(pool.result(name), "forecasts") is not None
    return Missing("it foretells no peak") if value is None and known else pool.cell(name, "forecasts", method, key)


def forecasts(pool: Pool) -> Section | None:
    """What a few labelled samples foretell."""
    if pool.gold is None:
        return None
    rows = tuple(
        (
            name,
            pool.cell(name, "forecasts", "samples"),
            pool.cell(name, "forecasts", "threshold", "outcome"),
            _foretold(pool, name, "threshold", "size"),
            pool.cell(name, "forecasts", "tilt", "outcome"),
            _foretold(pool, name, "tilt", "peak_kl"),
            pool.peak(name),
        )
        for name in pool.proxies
    )
    columns = (
        Column("Proxy"), Column("Samples used", "count"), Column("Threshold says"), Column("Threshold n", "number", 1),
        Column("Tilt says"), Column("Peak at KL (nats)", "number", 2), Column("Fitted peak n, whole pool"),
    )  # fmt: skip
    text = (
        "Baselines for the law. They see only the first samples of each prompt: the threshold is the n at which "
        "expected gold, as a function of the proxy's rank, is highest; the tilt reweights samples by the exponential "
        "of the proxy, which is where KL-regularised training tends to."
    )
    table = Table(columns=columns, rows=rows, caption="Forecasts from few samples of the base policy")
    return Section("Could a few samples have foretold it?", (text, table))
