"""A policy beside its reference in plain words: what is good, what to watch, what is bad, with the numbers.

"Bad" needs the whole interval on the wrong side. Rules read the JSON form, so that a saved audit can be judged again.
"""

from collections.abc import Iterator

from trueup.measure.findings import FEW_PROMPTS, Finding, Json, known, number, percent, points, worst_first
from trueup.measure.over_optimization_verdict import TOLERATED_LENGTH_RATIO, TOLERATED_UNFINISHED

TOLERATED_CONTRADICTION = 0.1
TOLERATED_ENTROPY_SHARE = 0.5

# Of single precision, summed over a response.
_ROUNDING = 1e-3


def verdict(result: Json, reference: Json | None, *, prompts: int) -> list[Finding]:
    """Findings about one policy, worst first.

    Args:
        result: The policy's entry of `policies`.
        reference: The entry `reference`, or None.
        prompts: How many prompts responses were drawn to; 0 for none.
    """
    findings = [
        finding
        for rule in (_wins, _contradiction, _kl, _length, _cut, _passes, _accuracy, _less_likely)
        for finding in rule(result)
    ]
    if reference is not None:
        findings += [*_entropy(result, reference), *_diversity(result, reference)]
    if 0 < prompts < FEW_PROMPTS:
        findings.append(Finding("watch", f"only {prompts} prompts: intervals are wide and may be too narrow still"))
    return worst_first(findings)


def headline(result: Json) -> str:
    """One line about one policy: how often it wins, how far it has gone, what its reward knows."""
    words = []
    for judge, found in (result.get("win_rates") or {}).items():
        words.append(f"wins {percent(found['headline'])} against the reference by {judge}")
    kl, implicit, passed = (result.get(name) for name in ("kl", "implicit_reward", "pass_at_k"))
    if kl and kl["response"]["value"] is not None:
        words.append(f"KL {kl['response']['value']:.2f} nats")
    if passed:
        words.append(f"pass@1 {percent(passed['temperatures'][0]['rate'][0])}")
    if implicit:
        words.append(f"implicit reward right in {percent(implicit['accuracy'])} of pairs")
    return "; ".join(words) or "nothing beside its responses was measured"


def _wins(result: Json) -> Iterator[Finding]:
    for judge, found in (result.get("win_rates") or {}).items():
        rate = found["headline"]
        if not known(rate):
            continue
        if rate["high"] < 0.5:
            yield Finding("bad", f"loses to the reference by {judge}: preferred in {percent(rate)} of comparisons")
        elif rate["low"] <= 0.5:
            yield Finding("watch", f"cannot be told from the reference by {judge}: preferred in {percent(rate)}")
        else:
            yield from _won(judge, rate, found["length_controlled"]["rate"])


def _won(judge: str, rate: Json, controlled: Json) -> Iterator[Finding]:
    if known(controlled) and controlled["low"] <= 0.5:
        yield Finding(
            "watch",
            f"wins {percent(rate)} of comparisons by {judge}, but {percent(controlled)} at equal length: length may "
            "explain it",
        )
    else:
        held = f", {percent(controlled)} at equal length" if known(controlled) else ""
        yield Finding("good", f"preferred to the reference in {percent(rate)} of comparisons by {judge}{held}")


def _contradiction(result: Json) -> Iterator[Finding]:
    for judge, found in (result.get("win_rates") or {}).items():
        excess, bias = found["consistency"]["excess"], found["consistency"]["position_bias"]
        if excess["value"] is not None and excess["value"] > TOLERATED_CONTRADICTION:
            side = "first" if bias["value"] > 0 else "second"
            reversed_ = 100 * found["consistency"]["reversals"]["value"]
            yield Finding(
                "watch",
                f"the judge {judge} contradicts itself: turned round, a comparison changes by "
                f"{100 * excess['value']:.0f} points on average and {reversed_:.0f}% change sides; it leans to what "
                f"stands {side}",
            )


def _kl(result: Json) -> Iterator[Finding]:
    kl = result.get("kl")
    if kl and known(kl["response"]) and kl["response"]["high"] < -_ROUNDING:
        yield Finding(
            "bad",
            "mean KL is below 0, which no policy can have: the log-probabilities of drawing and of scoring differ",
        )


def _length(result: Json) -> Iterator[Finding]:
    change = result.get("length_change")
    if not change or not known(change["ratio"]):
        return
    ratio = change["ratio"]
    if ratio["low"] > TOLERATED_LENGTH_RATIO:
        yield Finding("watch", f"responses are {ratio['value']:.1f} times as long as the reference's")
    elif ratio["high"] < 1 / TOLERATED_LENGTH_RATIO:
        yield Finding("watch", f"responses have {100 * ratio['value']:.0f}% of the length of the reference's")


def _cut(result: Json) -> Iterator[Finding]:
    for look in (result.get("samples") or [])[:1]:
        ended = look["finished"]["value"]
        if ended is not None and ended < 1 - TOLERATED_UNFINISHED:
            yield Finding("watch", f"{100 * (1 - ended):.0f}% of the responses were cut at the length limit")


def _passes(result: Json) -> Iterator[Finding]:
    passed = result.get("pass_at_k")
    if not passed or not passed["difference"]:
        return
    ends = {passed["k"][place]: passed["difference"][place] for place in (0, -1)}
    for k, change in ends.items():
        if not known(change):
            continue
        if change["low"] > 0:
            yield Finding("good", f"solves more than the reference in {_tries(k)}: {points(change, sign='+')}")
        elif change["high"] < 0:
            why = "; its answers have become narrower" if k > 1 and k == passed["k"][-1] else ""
            yield Finding("bad", f"solves less than the reference in {_tries(k)}: {points(change, sign='+')}{why}")


def _tries(k: int) -> str:
    return "one try" if k == 1 else f"{k} tries"


def _accuracy(result: Json) -> Iterator[Finding]:
    found = result.get("implicit_reward")
    if not found or not known(found["accuracy"]):
        return
    accuracy = found["accuracy"]
    if accuracy["high"] < 0.5:
        yield Finding("bad", f"its implicit reward prefers the worse response: {percent(accuracy)} of pairs right")
    elif accuracy["low"] <= 0.5:
        yield Finding("watch", f"its implicit reward cannot be told from guessing: {percent(accuracy)} of pairs right")
    else:
        yield Finding("good", f"its implicit reward orders {percent(accuracy)} of held-out pairs right")


def _less_likely(result: Json) -> Iterator[Finding]:
    found = result.get("implicit_reward")
    if found and known(found["chosen_less_likely"]) and found["chosen_less_likely"]["low"] > 0.5:
        share = found["chosen_less_likely"]
        yield Finding("watch", f"chosen responses became less likely in {percent(share)} of held-out pairs")


def _entropy(result: Json, reference: Json) -> Iterator[Finding]:
    ours, theirs = ((one.get("entropy") or {}).get("token") for one in (result, reference))
    if not (known(ours) and known(theirs)):
        return
    if ours["high"] < TOLERATED_ENTROPY_SHARE * theirs["value"]:
        text = f"entropy is {number(ours)} nats a token, the reference's {theirs['value']:.2f}: it explores less"
        yield Finding("watch", text)


def _diversity(result: Json, reference: Json) -> Iterator[Finding]:
    looks = [one.get("samples") for one in (result, reference)]
    if not all(looks):
        return
    ours, theirs = (one[0]["diversity"]["self_bleu"] for one in looks if one)
    if known(ours) and known(theirs) and ours["low"] > theirs["high"]:
        yield Finding(
            "watch",
            f"says more of the same: BLEU between answers to one prompt is {number(ours)}, the reference's "
            f"{theirs['value']:.2f}",
        )
