import json
from dataclasses import replace

import numpy as np
import pytest

from measure.alarm_simulations import drawn_run, planted_runs
from trueup.errors import DataError
from trueup.measure.alarm_evaluation import evaluate_alarms
from trueup.measure.alarm_labels import Run, gold_has_fallen
from trueup.measure.alarm_metrics import auroc_difference
from trueup.measure.alarm_model import AlarmModel
from trueup.measure.alarms import Alarm, fit_alarm
from trueup.measure.bootstrap import Resampling
from trueup.measure.signals import Signals

FEW = Resampling(resamples=200)


def drawn_runs(seed, groups, *, fell=(True, False), **settings):
    generator = np.random.default_rng(seed)
    return [
        drawn_run(
            generator,
            name=f"{seed}-{group}-{j}",
            group=f"{seed}-{group}",
            onset=int(generator.integers(3, 10)) if kind else None,
            **settings,
        )
        for group in range(groups)
        for j, kind in enumerate(fell)
    ]


def share_of_pairs(positive, negative):
    return np.mean((positive[:, None] > negative) + 0.5 * (positive[:, None] == negative))


def by_name(table):
    return {one.name: one for one in table.scores}


@pytest.fixture(scope="module")
def table():
    return evaluate_alarms(fit_alarm(drawn_runs(0, 20)), drawn_runs(1, 20), resampling=FEW)


def test_what_tells_beats_kl_and_what_does_not_does_not(table):
    scores = by_name(table)
    assert [one.name for one in table.scores] == ["learned", "kl", "clue", "blank"]
    assert scores["clue"].auroc.value > 0.87
    assert scores["blank"].auroc.low < 0.5 < scores["blank"].auroc.high
    assert scores["learned"].over_kl.low > 0
    assert "learned" in table.better_than_kl
    assert "blank" not in table.better_than_kl
    assert table.verdict.startswith("yes: KL alone has AUROC")
    assert "blank" not in table.verdict
    assert np.isnan(scores["kl"].over_kl.value)


def test_its_numbers_are_those_of_the_points(table):
    runs = drawn_runs(1, 20)
    assert (table.runs, table.groups, table.fallen_runs) == (40, 20, 20)
    assert table.ambiguous == 0
    # gold rises by 0.3 a size until it falls
    labels = np.concatenate([run.gold_by_prompt.mean(axis=0)[1:] < 0.3 * np.arange(1, 12) - 0.1 for run in runs])
    kl = np.concatenate([run.signals.values["kl"][1:] for run in runs])
    assert by_name(table)["kl"].auroc.value == pytest.approx(share_of_pairs(kl[labels], kl[~labels]))


def test_differences_from_kl_hold_together(table):
    runs, clue = drawn_runs(1, 20), fit_alarm(drawn_runs(0, 20)).only("clue")
    labels = np.concatenate([gold_has_fallen(run.gold_by_prompt).state[1:] for run in runs])
    scores = tuple(
        np.concatenate([values[1:] for values in each])
        for each in ([clue.probability(r.signals) for r in runs], [r.signals.values["kl"] for r in runs])
    )
    unit = np.repeat(np.unique([run.group for run in runs], return_inverse=True)[1], 11)
    # three alarms beside KL
    expected = auroc_difference(scores, labels, unit, resampling=replace(FEW, level=1 - 0.05 / 3))
    assert by_name(table)["clue"].over_kl == expected


def test_where_gold_follows_kl_alone_the_answer_is_no():
    def of_kl(seed, groups):
        generator = np.random.default_rng(seed)
        names = [f"{seed}-{group}" for group in range(groups)]
        onsets = 7 + generator.integers(0, 2, groups)
        return [
            drawn_run(generator, name=name, group=name, onset=int(onset), strength=0.2)
            for name, onset in zip(names, onsets, strict=True)
        ]

    found = evaluate_alarms(fit_alarm(of_kl(2, 20)), of_kl(3, 20), resampling=FEW)
    assert found.better_than_kl == ()
    assert found.verdict.startswith("no: nothing is shown to beat KL alone")


def stub(threshold=0.5):
    """Warns where the clue exceeds the threshold."""
    model = AlarmModel(
        signals=("clue",), mean=(0.0,), std=(1.0,), weights=(1.0,), bias=0.0, threshold=threshold, runs=1, fallen=1,
        log_loss=0.1,
    )  # fmt: skip
    kl = replace(model, signals=("kl",), threshold=2.2)
    return Alarm(models=(model,), singles=(kl, model), false_alarm_rate=0.1)


def made_run(name, gold, clue, *, group=None):
    gold, clue = np.array(gold, float), np.array(clue, float)
    kl = np.arange(len(gold), dtype=float)
    signals = Signals(2 ** np.arange(len(gold)), {"kl": kl, "clue": clue})
    return Run(name=name, group=group or name, signals=signals, gold_by_prompt=np.tile(gold, (6, 1)))


RISE_FALL = [0, 1, 2, 1, 0]


def test_false_alarms_detection_and_delay_worked_by_hand():
    runs = [
        made_run("late", RISE_FALL, [0, 0, 0, 0, 1]),  # detected, one nat after the fall
        made_run("in time", RISE_FALL, [0, 0, 0, 1, 1]),  # detected at once
        made_run("early", RISE_FALL, [0, 1, 0, 1, 1]),  # warned falsely at one of three sizes
        made_run("missed", RISE_FALL, [0, 0, 0, 0, 0]),
        made_run("clean", [0, 1, 2, 3, 4], [0, 0, 0, 0, 0]),
        made_run("at once", [0, 1, 2, 3, 4], [1, 0, 0, 0, 0]),  # warned falsely at n = 1
    ]
    found = by_name(evaluate_alarms(stub(), runs, resampling=FEW))["learned"]
    assert found.false_runs.value == pytest.approx(2 / 6)
    assert found.false_sizes.value == pytest.approx(2 / (4 * 3 + 2 * 5))
    assert found.detected.value == pytest.approx(2 / 4)
    assert found.delay.value == pytest.approx(0.5)
    # told: 4 sizes a run, n = 1 left out; 8 fallen of 24, the clue 1 at 5 of them and at 1 other
    assert found.auroc.value == pytest.approx((5 * 15 + 0.5 * (5 * 1 + 3 * 15)) / (8 * 16))
    kl = by_name(evaluate_alarms(stub(), runs, resampling=FEW))["kl"]
    assert kl.delay.value == pytest.approx(0)
    assert kl.false_runs.value == pytest.approx(2 / 6)
    assert kl.detected.value == 1


def test_calibration_is_reported_of_the_probabilities():
    runs = [made_run(f"r{k}", RISE_FALL, [0, 0, 0, 0, 0]) for k in range(4)]
    found = by_name(evaluate_alarms(stub(), runs, resampling=FEW))["learned"]
    # sigmoid(0) = 1/2 is claimed, and half of the four sizes have fallen
    assert found.ece.value == pytest.approx(0)
    assert [(b.confidence, b.accuracy, b.n) for b in found.reliability] == [(0.5, 0.5, 16)]


def test_groups_are_what_is_resampled():
    runs = drawn_runs(4, 6, fell=(True, False, True))
    many = evaluate_alarms(stub(), runs, resampling=FEW).scores[0]
    alone = evaluate_alarms(stub(), [replace(run, group="one") for run in runs], resampling=FEW).scores[0]
    assert many.auroc.n == 6
    assert alone.auroc.n == 18
    assert many.auroc.value == alone.auroc.value


def test_runs_in_which_nothing_falls_have_false_alarms_only():
    found = evaluate_alarms(stub(3.0), drawn_runs(5, 20, fell=(False,)), resampling=FEW)
    learned = by_name(found)["learned"]
    assert found.fallen_runs == 0
    assert np.isnan([learned.auroc.value, learned.delay.value, learned.detected.value]).all()
    # P(N(0, 1) > 3) = 0.00135
    assert learned.false_sizes.value < 0.02
    assert learned.false_runs.high < 0.35
    assert found.verdict.startswith("cannot tell")


def test_a_signal_that_few_runs_have_is_compared_on_those():
    tuning = [*drawn_runs(6, 10), *drawn_runs(7, 10, names=("blank",))]
    unseen = [*drawn_runs(8, 10), *drawn_runs(9, 10, names=("blank",))]
    scores = by_name(evaluate_alarms(fit_alarm(tuning), unseen, resampling=FEW))
    having = by_name(evaluate_alarms(fit_alarm(tuning), unseen[:20], resampling=FEW))
    assert [scores[name].runs for name in ("learned", "kl", "blank", "clue")] == [40, 40, 40, 20]
    assert scores["clue"].over_kl.value == pytest.approx(having["clue"].auroc.value - having["kl"].auroc.value)


def test_simulated_pools_from_end_to_end():
    found = evaluate_alarms(fit_alarm(planted_runs(0, 10)), planted_runs(100, 10), resampling=FEW)
    scores = by_name(found)
    assert scores["learned"].auroc.low > scores["kl"].auroc.value
    assert scores["learned"].false_runs.value <= 0.2
    assert scores["proxy_tail"].over_kl.low > 0
    # the error is shared, so that members agree on it
    assert "disagreement_ratio" not in found.better_than_kl
    json.dumps(found.to_dict(), allow_nan=False)


def test_runs_that_tuned_the_alarm_may_not_judge_it():
    runs = drawn_runs(10, 6)
    with pytest.raises(DataError, match="10-3-1"):
        evaluate_alarms(fit_alarm(runs), [*drawn_runs(11, 3), replace(runs[7], name="10-3-1")], resampling=FEW)


def test_runs_without_the_needed_signals_are_refused():
    with pytest.raises(DataError, match="clue"):
        evaluate_alarms(stub(), drawn_runs(12, 3, names=("blank",)), resampling=FEW)
