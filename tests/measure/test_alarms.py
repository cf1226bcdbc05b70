import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from measure.alarm_simulations import drawn_run, planted_runs
from trueup.errors import DataError, RecipeError
from trueup.measure.alarm_labels import gold_has_fallen
from trueup.measure.alarms import Alarm, fit_alarm
from trueup.measure.signals import Signals


def drawn_runs(seed, groups, *, strength=2.0, per_group=2, fell=(True, False), prefix="run", **settings):
    """Runs of which the first kind falls at a random place; the clue tells, with noise."""
    generator = np.random.default_rng(seed)
    return [
        drawn_run(
            generator,
            name=f"{prefix}-{seed}-{group}-{j}",
            group=f"{prefix}-{seed}-{group}",
            onset=int(generator.integers(3, 10)) if fell[j % len(fell)] else None,
            strength=strength,
            **settings,
        )
        for group in range(groups)
        for j in range(per_group)
    ]


@pytest.fixture(scope="module")
def tuning():
    return drawn_runs(0, 30)


@pytest.fixture(scope="module")
def alarm(tuning):
    return fit_alarm(tuning, signals=("clue", "blank"))


def falsely_warned(alarm, runs):
    return np.mean([alarm.warns(run.signals)[gold_has_fallen(run.gold_by_prompt).before].any() for run in runs])


def test_it_weighs_what_tells_and_not_what_does_not(alarm):
    (model,) = alarm.models
    weights = dict(zip(model.signals, model.weights, strict=True))
    assert weights["clue"] > 5 * abs(weights["blank"])
    assert weights["clue"] > 0
    assert (model.runs, model.fallen) == (60, 30)


def test_with_many_runs_the_weight_is_that_of_the_law_that_made_the_signal():
    # for N(0, 1) against N(2, 1) the log-odds of the clue have slope 2; few runs are believed less
    few, many = (fit_alarm(drawn_runs(11, 10, per_group=k), signals=("clue",)).models[0] for k in (2, 60))
    assert many.weights[0] / many.std[0] == pytest.approx(2, abs=0.2)
    assert few.weights[0] / few.std[0] < many.weights[0] / many.std[0]


def test_probability_and_first_alarm_follow_from_the_model(alarm, tuning):
    signals, model = tuning[0].signals, alarm.models[0]
    z = [
        (signals.values[name] - mean) / std
        for name, mean, std in zip(model.signals, model.mean, model.std, strict=True)
    ]
    log_odds = sum(w * one for w, one in zip(model.weights, z, strict=True)) + model.bias
    assert alarm.probability(signals) == pytest.approx(expit(log_odds))
    places = np.flatnonzero(log_odds > model.threshold)
    assert alarm.warns(signals).tolist() == (log_odds > model.threshold).tolist()
    assert alarm.first_alarm(signals) == (signals.n[places[0]] if len(places) else None)


def test_it_is_silent_where_nothing_tells(alarm):
    quiet = Signals(np.array([1, 2]), {name: np.full(2, -5.0) for name in ("kl", "clue", "blank")})
    assert alarm.first_alarm(quiet) is None
    loud = Signals(np.array([1, 2]), {**quiet.values, "clue": np.array([-5.0, 9.0])})
    assert alarm.first_alarm(loud) == 2


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_unseen_runs_are_warned_falsely_about_as_often_as_stated(tuning, rate):
    alarm = fit_alarm(tuning, signals=("clue",), false_alarm_rate=rate)
    unseen, clean = drawn_runs(1, 150), drawn_runs(2, 150, fell=(False,))
    assert falsely_warned(alarm, unseen) <= rate + 0.06
    assert rate / 4 <= falsely_warned(alarm, clean) <= rate + 0.1


def test_runs_of_simulated_pools_without_hacking_are_left_in_peace():
    alarm = fit_alarm(planted_runs(0, 10))
    clean = planted_runs(100, 20, hacked=(False,))
    assert falsely_warned(alarm, clean) <= 0.15
    hacked = planted_runs(200, 10, hacked=(True,))
    ends = [alarm.probability(run.signals)[-1] for run in (*hacked, *clean)]
    assert np.mean(ends[:10]) > np.mean(ends[10:]) + 0.3


def test_probabilities_of_unseen_runs_mean_what_they_say(tuning):
    alarm, claimed, fallen = fit_alarm(tuning, signals=("clue",)), [], []
    for run in drawn_runs(3, 150):
        labels = gold_has_fallen(run.gold_by_prompt)
        claimed.append(alarm.probability(run.signals)[labels.told])
        fallen.append(labels.state[labels.told])
    probability, truth = np.concatenate(claimed), np.concatenate(fallen)
    for low, high in ((0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1)):
        inside = (low <= probability) & (probability < high)
        assert inside.sum() > 50
        assert truth[inside].mean() == pytest.approx(probability[inside].mean(), abs=0.12)


def test_a_signal_that_never_moves_has_no_weight():
    runs = drawn_runs(4, 6)
    still = [
        replace(run, signals=Signals(run.signals.n, {**run.signals.values, "blank": np.full(12, 0.3)})) for run in runs
    ]
    model = fit_alarm(still, signals=("clue", "blank")).models[0]
    assert dict(zip(model.signals, model.weights, strict=True))["blank"] == pytest.approx(0, abs=1e-9)


def test_there_is_a_model_for_each_set_of_signals_that_occurs():
    runs = [*drawn_runs(5, 6), *drawn_runs(6, 6, names=("blank",))]
    alarm = fit_alarm(runs)
    assert [model.signals for model in alarm.models] == [("blank", "clue", "kl"), ("blank", "kl"), ("kl",)]
    assert [model.runs for model in alarm.models] == [12, 24, 24]
    assert [model.signals for model in alarm.singles] == [("blank",), ("clue",), ("kl",)]
    assert alarm.model_for(runs[0].signals).signals == ("blank", "clue", "kl")
    assert alarm.model_for(runs[-1].signals).signals == ("blank", "kl")
    partly = {**runs[0].signals.values, "clue": np.r_[np.nan, runs[0].signals.values["clue"][1:]]}
    assert alarm.model_for(Signals(runs[0].signals.n, partly)).signals == ("blank", "kl")
    # the runs that lack the clue leave the model with it as it is
    alone = fit_alarm(runs[:12]).models[0]
    assert alarm.models[0] == alone


def test_signals_that_no_model_knows_are_named(alarm):
    lacking = Signals(np.array([1, 2]), {"kl": np.array([0.0, 0.2])})
    assert not alarm.applies(lacking)
    with pytest.raises(DataError, match=r"signals kl.*blank, clue"):
        alarm.probability(lacking)


def test_one_signal_alone(alarm, tuning):
    clue = alarm.only("clue")
    assert clue.models[0].signals == ("clue",)
    assert clue.applies(tuning[0].signals)
    with pytest.raises(RecipeError, match="one of blank, clue"):
        alarm.only("norm_drift")


def test_a_round_trip_through_json_changes_nothing(alarm, tuning):
    again = Alarm.from_dict(json.loads(json.dumps(alarm.to_dict(), allow_nan=False)))
    assert again == alarm
    assert again.probability(tuning[3].signals).tolist() == alarm.probability(tuning[3].signals).tolist()


@pytest.mark.parametrize("change", ["schema", "models", "mean", "extra"])
def test_a_damaged_alarm_is_refused(alarm, change):
    values = json.loads(json.dumps(alarm.to_dict()))
    if change == "schema":
        values["schema"] = "trueup.alarm/0"
    elif change == "models":
        del values["models"]
    elif change == "mean":
        values["models"][0]["mean"].append(0.0)
    else:
        values["models"][0]["slope"] = 1.0
    with pytest.raises(DataError):
        Alarm.from_dict(values)


def test_provenance_says_what_it_learned_from(tuning):
    made = fit_alarm(tuning, signals=("clue",), created_by={"seed": 7})
    learned = made.created_by["tuning"]
    assert learned["runs"] == [run.name for run in tuning]
    assert len(learned["groups"]) == 30
    assert learned["fallen_runs"] == 30
    sizes = learned["fallen_sizes"] + learned["not_fallen_sizes"] + learned["ambiguous_sizes"]
    assert sizes == 60 * 11
    assert made.created_by["seed"] == 7
    assert made.created_by["settings"] == {"penalty": 1.0, "level": 0.95}


def test_whole_groups_are_kept_out_of_training():
    # both runs of a group share a mark that tells all in training and nothing elsewhere
    generator = np.random.default_rng(8)
    runs = []
    for group in range(8):
        fell, mark = group % 2 == 0, generator.standard_normal()
        for j in range(2):
            run = drawn_run(generator, name=f"{group}-{j}", group=group, onset=3 if fell else None)
            marks = {f"mark{g}": np.full(12, mark if g == group else 0.0) for g in range(8)}
            kept = {"kl": run.signals.values["kl"], **marks}
            runs.append(replace(run, signals=Signals(run.signals.n, kept)))
    marks = [f"mark{g}" for g in range(8)]
    by_group = fit_alarm(runs, signals=marks, penalty=1e-3).models[0].log_loss
    apart = [replace(run, group=run.name) for run in runs]
    by_run = fit_alarm(apart, signals=marks, penalty=1e-3).models[0].log_loss
    assert by_run < 0.5 < by_group


def test_a_run_with_twice_as_many_sizes_weighs_no_more():
    runs = drawn_runs(12, 6)
    places = np.r_[0, np.repeat(np.arange(1, 12), 2)]
    dense = [
        replace(
            run,
            signals=Signals(np.arange(23), {"kl": 0.1 * np.arange(23), "clue": run.signals.values["clue"][places]}),
            gold_by_prompt=run.gold_by_prompt[:, places],
        )
        for run in runs[:5]
    ]
    plain, mixed = (fit_alarm([*some, *runs[5:]], signals=("clue",)).models[0] for some in (runs[:5], dense))
    assert mixed.weights == pytest.approx(plain.weights)
    assert (mixed.bias, mixed.threshold) == pytest.approx((plain.bias, plain.threshold))


def test_with_one_group_each_run_is_kept_out():
    runs = drawn_runs(9, 1, per_group=8)
    assert fit_alarm(runs, signals=("clue",)).models[0].weights[0] > 0


@pytest.mark.parametrize(
    ("runs", "signals"),
    [
        (drawn_runs(10, 4, fell=(False,)), ("clue",)),
        (drawn_runs(10, 1, per_group=1), ("clue",)),
        (drawn_runs(10, 4), ("norm_drift",)),
        (drawn_runs(10, 4), ()),
    ],
)
def test_what_cannot_be_learned_is_said(runs, signals):
    with pytest.raises(DataError, match="gold falls in"):
        fit_alarm(runs, signals=signals)


def test_runs_must_have_names_of_their_own(tuning):
    with pytest.raises(DataError, match="different names"):
        fit_alarm([tuning[0], tuning[0]])
    with pytest.raises(DataError, match="nothing"):
        fit_alarm([])


@pytest.mark.parametrize("settings", [{"false_alarm_rate": 0.0}, {"false_alarm_rate": 1.0}, {"penalty": -1.0}])
def test_settings_out_of_range(tuning, settings):
    with pytest.raises(RecipeError):
        fit_alarm(tuning, **settings)
