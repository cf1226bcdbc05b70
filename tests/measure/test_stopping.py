import numpy as np
import pytest

from trueup.data.watched import Watched
from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.run_signals import run_signals
from trueup.measure.shipped_alarm import shipped_alarm
from trueup.measure.stopping import AlarmFired, GoldPeaked, KLBudget, LawPeakPassed, StopRule, fit_run

from .watched_runs import law_run, run, with_texts

D = np.linspace(0, 6, 13)


def first_stop(rule: StopRule, watched: Watched) -> int | None:
    """The step at which the rule stops the run."""
    prefixes = (watched.take(np.arange(k + 1)) for k in range(len(watched)))
    return next((int(part.steps[-1]) for part in prefixes if rule(part) is not None), None)


def test_a_budget_of_kl() -> None:
    watched = run(np.zeros(6), np.array([0, 1, 2, 3, 4, 5.0]), noise=0.0)
    assert first_stop(KLBudget(2.5), watched) == 30
    assert first_stop(KLBudget(50), watched) is None
    assert "budget is 2.5" in str(KLBudget(2.5)(watched))
    assert KLBudget(1)(Watched(steps=watched.steps, proxy=watched.proxy)) is None
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(RecipeError, match="KL budget"):
            KLBudget(wrong)


def test_kl_is_averaged_before_it_is_judged() -> None:
    kl = np.array([[[0.0, 0.0]], [[-4.0, 10.0]]])
    watched = Watched(steps=np.array([0, 5]), kl=kl)
    assert watched.mean_kl == pytest.approx([0, 3])
    assert KLBudget(2.9)(watched) is not None
    assert KLBudget(3.1)(watched) is None


def test_gold_that_peaked() -> None:
    gold = np.array([0, 1, 2, 3, 2.5, 2.0, 1.5])
    watched = run(gold, np.arange(7.0))
    assert first_stop(GoldPeaked(patience=1), watched) == 40
    assert first_stop(GoldPeaked(patience=2), watched) == 50
    assert first_stop(GoldPeaked(patience=3), watched) == 60
    assert "peaked near step 30" in str(GoldPeaked(patience=2)(watched))
    assert first_stop(GoldPeaked(patience=1), run(np.arange(7.0), np.arange(7.0))) is None


def test_a_dip_that_recovers_is_waited_out() -> None:
    gold = np.array([0, 2, 0.5, 2.5, 3, 3.5])
    watched = run(gold, np.arange(6.0))
    assert first_stop(GoldPeaked(patience=2), watched) is None
    assert first_stop(GoldPeaked(patience=1), watched) == 20


def test_noise_alone_seldom_stops_a_flat_run() -> None:
    stops = [
        first_stop(GoldPeaked(patience=2), run(np.zeros(12), np.arange(12.0), prompts=20, noise=1.0, seed=seed))
        for seed in range(40)
    ]
    assert sum(stop is not None for stop in stops) <= 2


def test_the_naive_rule_would_stop_flat_runs() -> None:
    """Why the best point is chosen on other prompts: on the same ones one look stops one flat run in ten."""
    stopped = 0
    for seed in range(60):
        gold = run(np.zeros(12), np.arange(12.0), prompts=20, noise=1.0, seed=seed).by_prompt("gold")
        assert gold is not None
        change = gold[-1] - gold[np.argmax(gold[:-1].mean(axis=1))]
        stopped += change.mean() + 2.09 * change.std(ddof=1) / np.sqrt(20) < 0
    assert stopped >= 6


def test_gold_that_is_missing_at_the_last_point_stops_nothing() -> None:
    watched = run(np.array([0, 3, 1, 0.0]), np.arange(4.0))
    assert watched.gold is not None
    assert GoldPeaked(patience=1)(watched) is not None
    watched.gold[-1] = np.nan
    assert GoldPeaked(patience=1)(watched) is None
    assert GoldPeaked()(Watched(steps=watched.steps, proxy=watched.proxy)) is None
    with pytest.raises(RecipeError, match="patience"):
        GoldPeaked(patience=0)


def test_the_law_is_recovered_and_its_peak_passed() -> None:
    alpha, beta = 1.0, 0.6
    peak = np.exp(alpha / beta - 1)
    watched = law_run(alpha, beta, d=D, noise=0.0)
    law = fit_run(watched, resampling=Resampling(resamples=50))
    assert law.alpha.value == pytest.approx(alpha, rel=0.02)
    assert law.peak_d.value == pytest.approx(peak, rel=0.02)
    stop = first_stop(LawPeakPassed(margin=0.25), law_run(alpha, beta, d=D, noise=0.05))
    assert stop is not None
    assert D[stop // 10] > 1.25 * peak
    assert D[stop // 10] <= 1.25 * peak + 1.0


def test_a_law_that_never_turns_stops_nothing() -> None:
    assert first_stop(LawPeakPassed(), law_run(1.0, -0.2, d=D, noise=0.05)) is None
    assert first_stop(LawPeakPassed(), law_run(1.0, 0.1, d=D, noise=0.05)) is None


def test_what_a_law_needs() -> None:
    watched = law_run(1.0, 0.6, d=D)
    for lacking in (
        Watched(steps=watched.steps, gold=watched.gold),
        Watched(steps=watched.steps, kl=watched.kl),
        watched.take(np.arange(1, len(watched))),
    ):
        assert LawPeakPassed()(lacking) is None
        with pytest.raises(DataError):
            fit_run(lacking, resampling=Resampling())
    with pytest.raises(RecipeError, match="a law needs 4 points"):
        fit_run(watched.take(np.arange(4)), resampling=Resampling(), points=4)


def test_signals_of_a_gaussian_run_are_those_of_best_of_n() -> None:
    """A proxy that gains what the best of n Gaussians gains has slope and tail 1 at every distance."""
    from trueup.divergences.best_of_n import nominal_kl
    from trueup.measure.signals import expected_max

    sizes = np.array([1, 2, 4, 8, 16, 32])
    rng = np.random.default_rng(0)
    base = rng.normal(size=(50, 400))
    sigma = base.std(axis=1, ddof=1).mean()
    gain = expected_max(sizes)
    watched = Watched(
        steps=np.arange(6),
        proxy=base[None] + sigma * gain[:, None, None],
        kl=np.broadcast_to(nominal_kl(sizes)[:, None, None], (6, 50, 400)).copy(),
        tokens=np.broadcast_to(10 + base[None] + 0.5 * sigma * np.arange(6)[:, None, None], (6, 50, 400)).copy(),
    )
    seen = run_signals(watched)
    assert seen.values["proxy_tail"] == pytest.approx(np.ones(6), abs=1e-6)
    assert seen.values["proxy_slope"] == pytest.approx(np.ones(6), abs=1e-6)
    assert seen.values["kl"] == pytest.approx(nominal_kl(sizes))
    assert seen.values["length_drift"] == pytest.approx(0.5 * np.arange(6), abs=1e-9)


def test_the_alarm_uses_the_signals_that_are_there() -> None:
    watched = with_texts(law_run(1.0, 0.6, d=D))
    names = set(run_signals(watched).known)
    assert names == {"kl", "proxy_slope", "proxy_tail", "length_drift", "repetition_drift"}
    reason = AlarmFired(threshold=0.5)(watched)
    assert reason is not None
    assert "tuned on best-of-n" in reason
    only_kl = Watched(steps=watched.steps, kl=watched.kl)
    model = shipped_alarm().model_for(run_signals(only_kl))
    assert model.signals == ("kl",)
    stop = first_stop(AlarmFired(), only_kl)
    kl = only_kl.mean_kl
    assert kl is not None
    firing = (kl - model.mean[0]) / model.std[0] * model.weights[0] + model.bias > model.threshold
    assert stop == only_kl.steps[np.argmax(firing)]
    assert AlarmFired(threshold=0.5)(watched.take(np.array([0]))) is None


def test_the_alarm_needs_kl() -> None:
    watched = law_run(1.0, 0.6, d=D)
    assert AlarmFired()(Watched(steps=watched.steps, proxy=watched.proxy)) is None
    with pytest.raises(RecipeError, match="threshold"):
        AlarmFired(threshold=1.5)
