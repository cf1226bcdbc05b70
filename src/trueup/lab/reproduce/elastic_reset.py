"""Elastic Reset in the small language world: more reward at less drift by going back every so often.

**Source** Noukhovitch, Lavoie, Strub, Courville (2023), Language Model Alignment with Elastic Reset, arXiv 2312.07551.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from trueup.anchors import ElasticReset, ResetToAverage, ResetToInit
from trueup.lab.policy_runs import PolicyRun
from trueup.lab.reproduce.fronts import (
    at_step,
    best_within,
    common_step,
    directed_claim,
    drift,
    front_table,
    gains,
    paired,
    step_figure,
)
from trueup.lab.reproduce.policy_arms import PolicyWorld, over_known, run_policies
from trueup.lab.reproduce.policy_pages import gold_and_proxy_figure, optimization_settings
from trueup.lab.reproduce.policy_plans import FREE, plain, varied
from trueup.lab.reproduce.scale import Scale
from trueup.measure.scored import Estimate
from trueup.measure.similarity import to_start
from trueup.report.evidence import Claim, Evidence
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

PAPER = "Noukhovitch et al. 2023"
PENALTY, ELASTIC, LATE = "KL penalty 0.05", "elastic reset", "elastic reset, fast average"
AVERAGE, INIT = "reset to average", "reset to start"
RESETS = (ELASTIC, LATE, AVERAGE, INIT)

SHARE, LATE_SHARE = 0.28, 0.0055
"""What is left of the start in the average of a policy at rest after one period: `decay ** period`.

The published runs lie at 0.92 (IMDB, nearly a reset to the start) and 0.0055 (StackLLaMA). With the first, elastic
reset and reset to the start could hardly be told apart here, and the second hardly goes back within 100 steps.
"""

_RESETS = 4
_KLS = (2.0, 4.0, 8.0)
"""Low to middle drift, where fronts are compared."""


def period_of(scale: Scale) -> int:
    """Steps between resets: a fourth of the run, and a step at which is looked."""
    every = plain(scale, scale.seeds[0]).how.every
    return max(every * round(scale.policy_steps / (_RESETS * every)), every)


def arms(scale: Scale, seed: int) -> dict[str, PolicyRun]:
    """RLOO without and with a penalty, and with each kind of reset."""
    period, free = period_of(scale), plain(scale, seed)
    anchors = {
        ELASTIC: ElasticReset(period=period, decay=SHARE ** (1 / period)),
        LATE: ElasticReset(period=period, decay=LATE_SHARE ** (1 / period)),
        AVERAGE: ResetToAverage(period=period, decay=SHARE ** (1 / period)),
        INIT: ResetToInit(period=period),
    }
    resets = {name: varied(free, anchor=anchor) for name, anchor in anchors.items()}
    return {FREE: free, PENALTY: plain(scale, seed, kl_coefficient=0.05), **resets}


def elastic_reset(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    worlds, period = run_policies(scale, arms, progress=progress), period_of(scale)
    front = paired(worlds, ELASTIC, FREE, read=partial(_front, what="gold"))
    return Evidence(
        name="elastic-reset",
        title="Does Elastic Reset give more reward at less drift, in the small language world?",
        lead=(
            "RLOO optimises one proxy of gold. In some arms the policy goes back every so often: to a moving average "
            "of its own weights, which then begins anew at the start (elastic reset); to an average that goes on; or "
            "to the start itself. Looks at gold follow every fifth step, those at a reset right after it; the look "
            "before a reset is five steps earlier.\n\n"
            "Drift is the KL to the start, and how little the answers to a prompt still resemble the start's (METEOR). "
            "The paper's measure, the likelihood of human text, was not taken. The best within a KL is chosen on one "
            "half of the prompts and measured on the other."
        ),
        finding=f"best gold within a KL of 2 to 8 nats, elastic reset minus no reset: {with_interval(front)}",
        claims=[*_step_claims(worlds, period), *_front_claims(worlds), *_reset_claims(worlds, period)],
        command=command,
        seeds=scale.seeds,
        settings=_settings(scale, period),
        sections=_sections(worlds, period),
        figures={
            "elastic-reset-kl.svg": gold_and_proxy_figure(worlds, (FREE, PENALTY, *RESETS)),
            "elastic-reset-steps.svg": step_figure(worlds, (FREE, PENALTY, *RESETS)),
        },
    )


def _settings(scale: Scale, period: int) -> dict[str, str]:
    return {
        "arms": f"{2 + len(RESETS)} runs of RLOO a world; the optimiser's state is kept at resets",
        "period": f"{period} steps, one update of the average a step",
        "decay": f"{SHARE ** (1 / period):.4f} (decay ** period = {SHARE:g}); fast average "
        f"{LATE_SHARE ** (1 / period):.4f} ({LATE_SHARE:g}, as in the paper's StackLLaMA runs)",
        **optimization_settings(scale, plain(scale, scale.seeds[0]).how),
    }


def _claim(statement: str, ran: str, effect: Estimate, *, claimed: Literal[1, -1] = 1) -> Claim:
    return directed_claim(statement, effect, source=f"{PAPER}, abstract and method", ran=ran, claimed=claimed)


def _front(world: PolicyWorld, arm: str, *, what: str) -> float:
    return float(np.mean([best_within(world, arm, kl, what=what) for kl in _KLS]))


def _step_claims(worlds: Sequence[PolicyWorld], period: int) -> list[Claim]:
    """At equal steps, just before a reset would come: where going back shows least."""

    def read(world: PolicyWorld, arm: str, *, what: str) -> float:
        return at_step(world, arm, common_step(world, (ELASTIC, FREE), without=period), what=what)

    ran = "elastic reset minus no reset, at the last step at which both were looked at and that is no reset: "
    return [
        _claim(
            "At equal steps the policy has drifted less.",
            ran + "KL to the start, nats",
            paired(worlds, ELASTIC, FREE, read=partial(read, what="kl")),
            claimed=-1,
        ),
        _claim(
            "At equal steps the optimised reward is higher.",
            ran + "proxy",
            paired(worlds, ELASTIC, FREE, read=partial(read, what="proxy")),
        ),
        _claim(
            "At equal steps the aim itself is reached better.",
            ran + "gold",
            paired(worlds, ELASTIC, FREE, read=partial(read, what="gold")),
        ),
        _claim(
            "At equal steps answers have kept more of the start's words.",
            ran + "METEOR against the start's answers",
            paired(worlds, ELASTIC, FREE, read=partial(_alike, period=period)),
        ),
    ]


def _alike(world: PolicyWorld, arm: str, *, period: int) -> float:
    """METEOR of answers against the start's at the step that equal-step claims use."""
    step, looks = common_step(world, (ELASTIC, FREE), without=period), world.looks[arm]
    place = np.flatnonzero(looks.step == step)
    if step == 0 or not len(place):
        return float("nan")
    return float(np.nanmean(to_start(looks.texts[place[0]], looks.texts[0], most=2)))


def _front_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    ran = f"best at a KL of at most {', '.join(f'{kl:g}' for kl in _KLS)} nats, mean of these"
    return [
        _claim(
            f"At low to middle drift more {name} is reached than {against}.",
            f"elastic reset minus {other}: {ran}",
            paired(worlds, ELASTIC, other, read=partial(_front, what=what)),
        )
        for other, against in ((FREE, "without resets"), (PENALTY, "with a KL penalty"))
        for what, name in (("proxy", "optimised reward"), ("gold", "gold"))
    ]


@dataclass(frozen=True)
class Reset:
    """One reset of one run; rewards are the proxy's, in standard deviations above the start.

    Args:
        kl: KL at the look before and right after, nats.
        reward: The same of the reward.
        recovery: Steps until the reward is back where it was, a whole period if it is not before the next reset; NaN
            where the run ended before that could be seen.
    """

    kl: tuple[float, float]
    reward: tuple[float, float]
    recovery: float


def resets_of(world: PolicyWorld, arm: str, period: int) -> list[Reset]:
    """The resets that an arm's looks show."""
    steps, kl, reward = world.looks[arm].step.tolist(), drift(world.looks[arm]), gains(world, arm, "proxy")
    found = []
    for place in range(1, len(steps)):
        if steps[place] % period:
            continue
        following = [i for i in range(place, len(steps)) if steps[i] < steps[place] + period]
        back = [steps[i] - steps[place] for i in following if reward[i] >= reward[place - 1]]
        whole = steps[-1] + steps[1] >= steps[place] + period
        found.append(
            Reset(
                kl=(float(kl[place - 1]), float(kl[place])),
                reward=(float(reward[place - 1]), float(reward[place])),
                recovery=float(back[0] if back else period) if whole else float("nan"),
            )
        )
    return found


def _mean_of(world: PolicyWorld, arm: str, *, period: int, read: Callable[[Reset], float]) -> float:
    """A mean over those of an arm's resets for which something is defined."""
    found = [value for value in map(read, resets_of(world, arm, period)) if np.isfinite(value)]
    return float(np.mean(found)) if found else float("nan")


def _kept(world: PolicyWorld, arm: str, *, period: int) -> float:
    """Share of the reward that resets keep, minus the share of the KL; sums over resets, so that none divides by 0."""
    found = resets_of(world, arm, period)
    before = [sum(getattr(one, what)[0] for one in found) for what in ("reward", "kl")]
    after = [sum(getattr(one, what)[1] for one in found) for what in ("reward", "kl")]
    if min(before, default=0.0) <= 0:
        return float("nan")
    return float(after[0] / before[0] - after[1] / before[1])


def _reset_claims(worlds: Sequence[PolicyWorld], period: int) -> list[Claim]:
    lost = partial(_mean_of, period=period, read=lambda reset: reset.reward[0] - reset.reward[1])
    recovery = partial(_mean_of, period=period, read=lambda reset: reset.recovery)
    share = over_known([_kept(world, ELASTIC, period=period) for world in worlds])
    return [
        _claim(
            "A reset takes away much of the drift and little of the reward.",
            "elastic reset, look before against look after: share of the proxy's gain that is kept minus share of "
            "the KL that is kept, all resets of a run together",
            share,
        ),
        _claim(
            "A reset costs less reward than going back to the start.",
            "proxy lost at a reset, elastic reset minus reset to start",
            paired(worlds, ELASTIC, INIT, read=lost),
            claimed=-1,
        ),
        _claim(
            "The reward is back sooner than after going back to the start.",
            "steps until the proxy is as high as before, at most a period, elastic reset minus reset to start",
            paired(worlds, ELASTIC, INIT, read=recovery),
            claimed=-1,
        ),
    ]


def _sections(worlds: Sequence[PolicyWorld], period: int) -> list[tuple[str, str]]:
    every = (FREE, PENALTY, *RESETS)
    return [
        ("Along the steps", "![KL, gold and proxy along the steps](elastic-reset-steps.svg)"),
        ("Against distance", "![gold and proxy against distance](elastic-reset-kl.svg)"),
        ("The front: best gold within a KL", front_table(worlds, every, what="gold")),
        ("The front: best optimised reward within a KL", front_table(worlds, every, what="proxy")),
        ("At a reset", _reset_table(worlds, period)),
    ]


def _reset_table(worlds: Sequence[PolicyWorld], period: int) -> str:
    columns: dict[str, Callable[[Reset], float]] = {
        "KL before": lambda reset: reset.kl[0],
        "KL after": lambda reset: reset.kl[1],
        "proxy before": lambda reset: reset.reward[0],
        "proxy after": lambda reset: reset.reward[1],
        "steps to recover": lambda reset: reset.recovery,
    }
    rows: list[tuple[Cell, ...]] = [
        (
            arm,
            *(
                over_known([_mean_of(world, arm, period=period, read=read) for world in worlds])
                for read in columns.values()
            ),
        )
        for arm in RESETS
    ]
    return markdown_table(("arm", *columns), rows)
