"""A run of online optimisation in plain words: what is good, what to watch, what is bad, with the numbers.

"Bad" needs the whole interval on the wrong side. Rules read the JSON form, so that a saved audit can be judged again.
"""

from collections.abc import Iterator
from typing import Any

from trueup.measure.findings import FEW_PROMPTS, Finding, Json, known, number, worst_first
from trueup.measure.over_optimization_verdict import (
    TOLERATED_LENGTH_RATIO,
    TOLERATED_REPETITION,
    TOLERATED_UNFINISHED,
)

TOLERATED_SIMILARITY_GAIN = 0.1
TOLERATED_ENTROPY_SHARE = 0.5
TOLERATED_EQUAL_GROUPS = 0.5

# Of single precision, summed over a response.
_ROUNDING = 1e-3


def verdict(result: Json) -> list[Finding]:
    """Findings about one run, worst first.

    Args:
        result: The run's entry of `runs`.
    """
    rules = (_gold, _law, _kl, _length, _alike, _repetition, _cut, _entropy, _groups, _warned, _few, _stopped)
    findings = [finding for rule in rules for finding in rule(result)]
    return worst_first(findings)


def headline(result: Json) -> str:
    """One line about one run: where it stands and what became of gold."""
    place = f"step {result['steps'][-1]:,}"
    d = _last(result.get("d"))
    words = place if d is None else f"{place}, KL {d**2:.2f} nats"
    gain = _last(result.get("gold_gain"))
    if gain is None or gain["value"] is None:
        proxy = _last(result.get("proxy_gain"))
        rest = "" if proxy is None else f"; its own score changes by {number(proxy, sign='+')}"
        return f"{words}: no gold{rest}"
    best = result["best"]
    return f"{words}: gold changes by {number(gain, sign='+')}, best at step {best['step']:,}; {_peak_words(result)}"


def _peak_words(result: Json) -> str:
    law = result.get("law")
    if law is None:
        return "no law could be fitted"
    if law["verdict"] == "peaks":
        return f"gold peaks at KL {_nats(law['peak_d'])} nats"
    return "gold is still rising" if law["verdict"] == "still rising" else "cannot tell whether gold peaks"


def _last(values: Any) -> Any:
    return values[-1] if values else None


def _nats(d: Json) -> str:
    """A peak's distance as KL with its interval."""
    if d["value"] is None:
        return "without bound"
    ends = [f"{end**2:.1f}" if end is not None else "no bound" for end in (d["low"], d["high"])]
    return f"{d['value'] ** 2:.1f} ({ends[0]} to {ends[1]})"


def _gold(result: Json) -> Iterator[Finding]:
    gain, law = _last(result.get("gold_gain")), result.get("law")
    if gain is None:
        yield Finding("watch", "gold was not watched, so whether it falls cannot be seen; only drift is measured")
    elif known(gain) and gain["high"] < 0:
        yield Finding("bad", f"at the end gold is below the initial policy's: {number(gain, sign='+')}")
    elif law is None and not known(gain):
        yield Finding("watch", "gold is known as one mean a step: no interval, so no fall can be told from noise")


def _law(result: Json) -> Iterator[Finding]:
    law = result.get("law")
    if result.get("gold") is None:
        return
    if law is None:
        yield Finding("watch", f"cannot tell whether gold peaks: {result['absent'].get('law', 'no law was fitted')}")
    elif law["verdict"] == "peaks":
        fall = law["observed"]["fall"]
        yield Finding(
            "bad",
            f"over-optimised: gold peaks near KL {_nats(law['peak_d'])} nats, and at the end, KL "
            f"{law['d_max'] ** 2:.1f}, is lower by {fall['value']:.2f} ({fall['low']:.2f} to {fall['high']:.2f}); "
            f"the best step by gold is {result['best']['step']:,}",
        )
    elif law["verdict"] == "still rising":
        yield Finding("good", f"gold is still rising at the end, KL {law['d_max'] ** 2:.1f} nats: no peak so far")
    else:
        yield Finding("watch", f"cannot tell whether gold peaks: {result['prompts']:,} prompts leave it open")


def _kl(result: Json) -> Iterator[Finding]:
    kl = result.get("kl")
    if kl is None:
        yield Finding("watch", "KL to the initial policy is not known, so runs cannot be compared at equal distance")
        return
    below = [step for step, one in zip(result["steps"], kl, strict=True) if known(one) and one["high"] < -_ROUNDING]
    if below:
        yield Finding(
            "bad",
            f"mean KL is below 0 at step {below[0]:,}, which no policy can have: the log-probabilities of drawing and "
            "of scoring differ (temperature, top-p, padding, precision)",
        )


def _length(result: Json) -> Iterator[Finding]:
    tokens, gain = result.get("tokens"), _last(result.get("tokens_gain"))
    if not tokens or not known(gain) or not tokens[0]["value"]:
        return
    first, last = tokens[0]["value"], tokens[-1]["value"]
    clear = gain["low"] > 0 or gain["high"] < 0
    if clear and not 1 / TOLERATED_LENGTH_RATIO <= last / first <= TOLERATED_LENGTH_RATIO:
        word = "longer" if last > first else "shorter"
        yield Finding("watch", f"responses grow {word}: {first:.0f} tokens at the start, {last:.0f} at the end")


def _alike(result: Json) -> Iterator[Finding]:
    values = result["drift"].get("similarity_between_prompts")
    if values and known(values[-1]) and values[-1]["low"] > values[0]["value"] + TOLERATED_SIMILARITY_GAIN:
        first, last = values[0]["value"], values[-1]["value"]
        yield Finding(
            "bad",
            f"answers to different prompts become alike: METEOR between them rises from {first:.2f} to {last:.2f}",
        )


def _repetition(result: Json) -> Iterator[Finding]:
    values = result["drift"].get("repetition")
    if values and known(values[-1]) and values[-1]["low"] > values[0]["value"] + TOLERATED_REPETITION:
        first, last = (100 * values[place]["value"] for place in (0, -1))
        yield Finding("watch", f"responses repeat themselves: {first:.0f}% at the start, {last:.0f}% at the end")


def _cut(result: Json) -> Iterator[Finding]:
    ended = _last(result.get("ended"))
    if ended is not None and ended["value"] is not None and ended["value"] < 1 - TOLERATED_UNFINISHED:
        share = 100 * (1 - ended["value"])
        yield Finding("watch", f"{share:.0f}% of the responses at the end were cut at the length limit")


def _entropy(result: Json) -> Iterator[Finding]:
    series = result["training"].get("entropy")
    if series and series["values"] and series["values"][-1] < TOLERATED_ENTROPY_SHARE * series["values"][0]:
        first, last = series["values"][0], series["values"][-1]
        yield Finding("watch", f"entropy falls from {first:.2f} to {last:.2f} nats a token: the policy explores less")


def _groups(result: Json) -> Iterator[Finding]:
    series = result["training"].get("equal_groups")
    if series and series["values"] and series["values"][-1] > TOLERATED_EQUAL_GROUPS:
        share = 100 * series["values"][-1]
        yield Finding("watch", f"in {share:.0f}% of the last groups all rewards are equal and teach nothing")


def _warned(result: Json) -> Iterator[Finding]:
    warning = result.get("warning")
    if warning and warning["step"] is not None and result.get("gold") is None:
        yield Finding(
            "watch",
            f"the alarm without gold warns from step {warning['step']:,}; it was tuned on best-of-n in a small world, "
            "so this is a hint",
        )


def _few(result: Json) -> Iterator[Finding]:
    if 1 < result["prompts"] < FEW_PROMPTS:
        yield Finding("watch", f"only {result['prompts']} prompts: intervals are wide and may be too narrow still")


def _stopped(result: Json) -> Iterator[Finding]:
    stopped = result.get("stopped")
    if stopped:
        yield Finding("good", f"it was stopped at step {stopped.get('step', '?')}: {stopped.get('reason', '')}")
