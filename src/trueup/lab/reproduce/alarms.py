"""Alarms without gold: learned on some worlds, judged on worlds that nothing was tuned on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trueup.lab.gold_proxy import ProxyScores
from trueup.lab.proxy_runs import ProxyRun
from trueup.lab.reproduce import rm_ensembles, scaling_laws
from trueup.lab.reproduce.gathering import RESAMPLING
from trueup.lab.reproduce.scale import Scale, World, run_worlds
from trueup.measure.alarm_evaluation import LEARNED, AlarmScores, AlarmTable, evaluate_alarms
from trueup.measure.alarm_labels import Run
from trueup.measure.alarms import Alarm, fit_alarm
from trueup.measure.best_of_n import best_of_n, n_grid
from trueup.measure.signals import Observed, Signals, repetitions, signals
from trueup.report.evidence import Claim, Evidence, judge
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

_FALSE_ALARM_RATE = 0.1


def arms(scale: Scale, seed: int) -> dict[str, ProxyRun]:
    """Every proxy of the scaling laws and every member of the ensembles."""
    return scaling_laws.arms(scale, seed) | rm_ensembles.arms(scale, seed)


def tuning_seeds(scale: Scale) -> tuple[int, ...]:
    """Worlds that the alarm learns from: the first three fifths, one at least; the others judge it."""
    return scale.seeds[: max(len(scale.seeds) * 3 // 5, 1)]


def runs_of(world: World, scale: Scale) -> list[Run]:
    """Optimisations of one world as they are seen without gold, and what gold says of them."""
    sizes = n_grid(world.setup.pool.shape[1])
    repeated = repetitions(world.setup.pool.responses)
    tokens = world.setup.pool.tokens
    found = []

    def add(name: str, one: ProxyScores, members: np.ndarray | None = None, selector: int | None = None) -> None:
        observed = Observed(
            proxy=one.score,
            members=members,
            selector=selector,
            norms=one.hidden_norm,
            training_norms=one.training_norm,
            tokens=tokens,
            repetition=repeated,
        )
        gold = best_of_n(one.score, world.setup.gold, sizes)
        name = f"world {world.seed}, {name}"
        found.append(Run(name=name, group=world.seed, signals=signals(observed, sizes), gold_by_prompt=gold))

    for flip in (0.0, scale.flip):
        names = [rm_ensembles.member_name(member, flip) for member in range(scale.members)]
        stack = np.stack([world.proxies[name].score for name in names])
        for member, name in enumerate(names):
            add(name, world.proxies[name], stack, member)
    main = scaling_laws.pairs_name(scale.pairs[-1])
    alone = [name for name in scaling_laws.arms(scale, world.seed) if name not in (main, "noisy")]
    for name in alone:
        add(name, world.proxies[name])
    return found


@dataclass(frozen=True)
class Learned:
    """An alarm of the tuning worlds.

    Args:
        alarm: The alarm.
        table: How it, and each signal alone, do on the other worlds.
    """

    alarm: Alarm
    table: AlarmTable


def learn(scale: Scale, worlds: Sequence[World], *, without: frozenset[str] = frozenset()) -> Learned:
    """Tune on some worlds, judge on the others.

    Args:
        scale: Which worlds tune.
        worlds: All worlds.
        without: Signals that the alarm must do without.
    """
    tuning = set(tuning_seeds(scale))
    runs = {world.seed: [_without(run, without) for run in runs_of(world, scale)] for world in worlds}
    known = [run for seed, group in runs.items() if seed in tuning for run in group]
    unseen = [run for seed, group in runs.items() if seed not in tuning for run in group]
    alarm = fit_alarm(
        known,
        false_alarm_rate=_FALSE_ALARM_RATE,
        created_by={"worlds": sorted(tuning), "samples": scale.setup.samples, "prompts": scale.setup.prompts},
    )
    return Learned(alarm, evaluate_alarms(alarm, unseen, resampling=RESAMPLING))


def _without(run: Run, names: frozenset[str]) -> Run:
    kept = {name: values for name, values in run.signals.values.items() if name not in names}
    return replace(run, signals=Signals(run.signals.n, kept))


def portable_alarm(scale: Scale, worlds: Sequence[World]) -> Learned:
    """The alarm that best-of-n reports carry: norms of a reward model's training data are seldom at hand."""
    return learn(scale, worlds, without=frozenset({"norm_drift"}))


def alarms(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds, learn the alarm, and write down how it does on worlds that it has not seen."""
    worlds = run_worlds(scale, arms, progress=progress)
    table = learn(scale, worlds).table
    portable = portable_alarm(scale, worlds)
    by_name = {one.name: one for one in table.scores}
    learned = by_name[LEARNED]
    tuning = tuning_seeds(scale)
    return Evidence(
        name="alarms",
        title="Can it be seen without gold that gold has probably peaked?",
        lead=(
            "A practitioner sees the proxy, KL, hidden norms, lengths, repetition and, with an ensemble, how members "
            "disagree, but not gold. A logistic model of these signals learned from worlds whose gold is known, and is "
            "judged here on other worlds: other text, policies, prompts, comparisons and proxies. Gold has fallen "
            "where it is below its best earlier value by more than noise. Thresholds were set on the tuning worlds so "
            f"that a warning before gold has fallen comes in at most {_FALSE_ALARM_RATE:.0%} of the runs."
        ),
        finding=table.verdict,
        claims=[
            Claim(
                "A warning learned from several signals tells better than KL alone whether gold has peaked.",
                "ours",
                f"{table.runs} runs of {table.groups} unseen worlds, {table.fallen_runs} of which lose gold; tuned on "
                f"worlds {', '.join(map(str, tuning))}",
                f"AUROC {with_interval(learned.auroc)} against {with_interval(by_name['kl'].auroc)}; difference "
                f"{with_interval(learned.over_kl)}",
                judge(learned.over_kl, claimed=1),
            )
        ],
        command=command,
        seeds=scale.seeds,
        settings={
            "tuning worlds": ", ".join(map(str, tuning)),
            "unseen worlds": ", ".join(str(seed) for seed in scale.seeds if seed not in tuning),
            "runs in a world": "every member of a clean and of a noisy ensemble (with the other members as observers), "
            "smaller proxies, and proxies of fewer comparisons",
            "optimisation": f"best-of-n, n up to {scale.setup.samples}, {scale.setup.prompts} prompts",
            "sizes that cannot be told": f"{table.ambiguous}, left out",
        },
        sections=[
            ("The learned warning and each signal alone", _scores(table)),
            ("Calibration", _reliability(learned)),
            ("The warning in reports of best-of-n", _portable(portable.table)),
        ],
        figures={},
        files={"alarm.json": json.dumps(portable.alarm.to_dict(), indent=1) + "\n"},
    )


def _scores(table: AlarmTable) -> str:
    rows: list[tuple[Cell, ...]] = [
        (one.name.replace("_", " "), one.runs, one.auroc, one.over_kl, one.false_runs, one.detected, one.delay, one.ece)
        for one in sorted(table.scores, key=lambda one: -one.auroc.value)
    ]
    header = ("signal", "runs", "AUROC", "over KL", "false alarms (runs)", "detected (runs)", "delay (nats)", "ECE")
    note = (
        "AUROC: chance that a size at which gold has fallen is ranked above one at which it has not. False alarms: "
        "share of runs warned before gold has fallen. Detected: share of the runs that lose gold which are warned at "
        "all. ECE: expected calibration error of the probability. Signals between members exist only for "
        "ensembles.\n\n"
    )
    return note + markdown_table(header, rows)


def _reliability(one: AlarmScores) -> str:
    rows: list[tuple[Cell, ...]] = [
        (f"{b.confidence:.2f}", f"{b.accuracy:.2f}", str(b.n)) for b in one.reliability if b.n
    ]
    return markdown_table(("probability stated", "share that had fallen", "sizes"), rows)


def _portable(table: AlarmTable) -> str:
    one = next(one for one in table.scores if one.name == LEARNED)
    return (
        "`trueup bestofn` states a probability that gold has fallen, and warns, by the alarm that is saved beside this "
        "page as `alarm.json`. It does without hidden norms, whose values on a reward model's training data are "
        f"seldom at hand: AUROC {with_interval(one.auroc)}, over KL {with_interval(one.over_kl)}, false alarms in "
        f"{with_interval(one.false_runs)} of the runs, detection in {with_interval(one.detected)}. It was learned in "
        "the small language world alone; what it says of other models is a hint."
    )
