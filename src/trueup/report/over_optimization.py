"""The report of best-of-n: the measured mapping in, a page out."""

from collections.abc import Mapping

from trueup.report import over_optimization_sections as sections
from trueup.report.audit_values import Node, entries, find
from trueup.report.over_optimization_values import Pool
from trueup.report.page import Findings, KeyNumber, Page, Verdict
from trueup.report.provenance import provenance
from trueup.report.text import Missing, shorten

SCHEMA = "trueup.best_of_n/1"
_MOST_KEY_PROXIES = 2


def over_optimization_page(measured: Mapping[str, object]) -> Page:
    """The report of best-of-n by one or several proxies, the verdict first.

    Args:
        measured: A mapping with schema `trueup.best_of_n/1`, as measured or as `best_of_n.json` holds it.

    Raises:
        ValueError: The schema is another one.
    """
    if measured.get("schema") != SCHEMA:
        raise ValueError(f"a mapping of schema {SCHEMA} is needed, got {measured.get('schema')!r}")
    pool = Pool(measured)
    facts, recipe = provenance(measured.get("created_by"), measured.get("intervals"))
    made = (
        sections.curves,
        sections.examples,
        sections.agreement,
        sections.drifts,
        sections.warnings,
        sections.laws,
        sections.forecasts,
    )
    return Page(
        title=_title(pool),
        lead=_lead(pool),
        verdict=tuple(_findings(name, pool.result(name)) for name in pool.proxies),
        numbers=tuple(number for name in pool.proxies[:_MOST_KEY_PROXIES] for number in _numbers(pool, name)),
        sections=tuple(section for make in made if (section := make(pool)) is not None),
        provenance=facts,
        recipe=recipe,
    )


def _title(pool: Pool) -> str:
    names = [shorten(name, 40) for name in pool.proxies]
    return (
        f"How far can {names[0] if len(names) == 1 else 'each of these ' + str(len(names)) + ' proxies'} be optimised?"
    )


def _lead(pool: Pool) -> str:
    prompts, samples = (int(value) if isinstance(value := pool.node.get(key), int) else 0 for key in _SIZES)
    policy = find(pool.node, "created_by", "pool", "policy")
    source = f" of {shorten(str(policy), 60)}" if policy else ""
    judge = f"judged by {pool.gold}" if pool.gold is not None else "without gold"
    return (
        f"Best-of-n on {samples:,} samples{source} to each of {prompts:,} prompts, {judge}: the proxy picks the best "
        f"of n samples, and n = 1 to {pool.n[-1]:,} is how hard it is optimised."
    )


_SIZES = ("prompts", "samples")


def _findings(name: str, result: Node) -> Findings:
    return Findings(name, tuple(_finding(item) for item in entries(result.get("verdict"))))


def _finding(item: Node) -> Verdict:
    text, level = str(item.get("text", "")), item.get("level")
    return Verdict("good" if level == "good" else "bad" if level == "bad" else "watch", text[:1].upper() + text[1:])


def _numbers(pool: Pool, name: str) -> tuple[KeyNumber, ...]:
    """Where gold peaks, and what is left at the end."""
    whose = f", {shorten(name, 24)}" if len(pool.proxies) > 1 else ""
    end = f"n = {pool.n[-1]:,}"
    if pool.gold is None:
        gain = pool.along(name, "proxy_gain")[-1]
        return (KeyNumber(label=f"Proxy gain{whose}", value=gain, style="signed", detail=f"from n = 1 to {end}"),)
    gains = pool.along(name, "gold_gain")
    left = KeyNumber(label=f"Gold change{whose}", value=gains[-1], style="signed", detail=f"from n = 1 to {end}")
    peak = pool.peak(name)
    if isinstance(peak, Missing):
        return (KeyNumber(label=f"Peak of gold{whose}", value="?", detail=peak.reason), left)
    at = peak.partition(" ")[0] if isinstance(peak, str) else "?"
    interval = peak.partition(" ")[2] if isinstance(peak, str) else ""
    return (KeyNumber(label=f"Gold peaks at n{whose}", value=at, detail=interval.strip("()")), left)
