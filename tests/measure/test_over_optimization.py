import json
import math
from typing import Any

import numpy as np
import pytest

from trueup.divergences.best_of_n import nominal_kl
from trueup.errors import DataError, RecipeError
from trueup.measure.best_of_n import best_of_n
from trueup.measure.bootstrap import Resampling
from trueup.measure.over_optimization import PoolScores, over_optimization, size_at, spread_within
from trueup.measure.over_optimization_verdict import headline

PROMPTS, SAMPLES = 80, 256
FEW = Resampling(resamples=200)


def scores(kind: str, *, prompts: int = PROMPTS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A proxy and its gold: `gaussian` never peaks, `heavy` does, `useless` points the wrong way."""
    generator = np.random.default_rng(seed)
    gold = generator.normal(size=(prompts, SAMPLES)) + generator.normal(size=(prompts, 1))
    if kind == "gaussian":
        return gold + generator.normal(size=gold.shape), gold
    if kind == "heavy":
        return gold + 0.7 * generator.standard_t(2.2, size=gold.shape), gold
    return -gold + generator.normal(size=gold.shape), gold


def measured(kind: str, **changes: Any) -> dict[str, Any]:
    proxy, gold = scores(kind)
    given: dict[str, Any] = {"gold": PoolScores(name="g", reward=gold), "resampling": FEW, **changes}
    return over_optimization([PoolScores(name="p", reward=proxy)], given.pop("gold"), **given)


@pytest.fixture(scope="module")
def heavy() -> dict[str, Any]:
    return measured("heavy")


def levels(result: dict[str, Any], name: str = "p") -> dict[str, str]:
    return {finding["text"]: finding["level"] for finding in result["results"][name]["verdict"]}


def test_the_mapping_is_json_and_says_what_it_is(heavy: dict[str, Any]) -> None:
    assert json.loads(json.dumps(heavy, allow_nan=False)) == heavy
    assert heavy["schema"] == "trueup.best_of_n/1"
    assert (heavy["prompts"], heavy["samples"], heavy["n"][0], heavy["n"][-1]) == (PROMPTS, SAMPLES, 1, SAMPLES)
    np.testing.assert_allclose(heavy["kl"], nominal_kl(np.asarray(heavy["n"])))
    np.testing.assert_allclose(np.square(heavy["d"]), heavy["kl"])


def test_curves_are_means_of_the_estimator(heavy: dict[str, Any]) -> None:
    proxy, gold = scores("heavy")
    one = heavy["results"]["p"]
    n = np.asarray(heavy["n"])
    for key, value in (("proxy", proxy), ("gold", gold)):
        by_prompt = best_of_n(proxy, value, n)
        np.testing.assert_allclose([e["value"] for e in one[key]], by_prompt.mean(axis=0))
        gain = [e["value"] for e in one[f"{key}_gain"]]
        np.testing.assert_allclose(gain, by_prompt.mean(axis=0) - value.mean(), atol=1e-12)
    assert one["proxy_gain"][0] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": PROMPTS}
    paired, plain = ([e["high"] - e["low"] for e in one[key]][-1] for key in ("gold_gain", "gold"))
    assert paired < plain


def test_a_prompts_difficulty_does_not_widen_gains() -> None:
    proxy, gold = scores("gaussian")
    hard = 100 * np.arange(PROMPTS)[:, None]
    narrow = over_optimization([PoolScores(name="p", reward=proxy)], PoolScores(name="g", reward=gold), resampling=FEW)
    shifted = over_optimization(
        [PoolScores(name="p", reward=proxy)], PoolScores(name="g", reward=gold + hard), resampling=FEW
    )
    for a, b in zip(*(r["results"]["p"]["gold_gain"] for r in (narrow, shifted)), strict=True):
        assert a == pytest.approx(b, abs=1e-8)


@pytest.mark.parametrize(
    ("kind", "verdict", "level"), [("heavy", "peaks", "bad"), ("gaussian", "still rising", "good")]
)
def test_verdicts_follow_the_data(kind: str, verdict: str, level: str) -> None:
    result = measured(kind)
    assert result["results"]["p"]["law"]["verdict"] == verdict
    assert level in levels(result).values()
    assert {"peaks": "gold peaks at n = ", "still rising": "gold is still rising"}[verdict] in headline(
        result["results"]["p"], result
    )


def test_the_peak_lies_where_the_mean_curve_is_highest(heavy: dict[str, Any]) -> None:
    one = heavy["results"]["p"]
    values = [e["value"] for e in one["gold_gain"]]
    highest = heavy["n"][int(np.argmax(values))]
    assert one["law"]["peak_n"]["low"] / 2 < highest < 2 * one["law"]["peak_n"]["high"]
    assert one["law"]["peak_n"]["value"] == pytest.approx(size_at(one["law"]["peak_d"]["value"]))


def test_a_planted_hack_is_called_one() -> None:
    proxy, gold = scores("gaussian")
    trick = np.random.default_rng(1).random(gold.shape) < 0.004
    result = over_optimization(
        [PoolScores(name="p", reward=proxy + 8.0 * trick)],
        PoolScores(name="g", reward=gold - 8.0 * trick),
        resampling=FEW,
    )
    agreement = result["results"]["p"]["agreement"]
    assert agreement["pooled"]["pearson"]["low"] > 0
    assert (agreement["hacked"][0], agreement["hacked"][-1]) == ("no", "yes")
    assert any(text.startswith("hacked: correlated") for text in levels(result))


def test_a_useless_proxy_is_not_a_hacked_one() -> None:
    result = measured("useless")
    assert result["results"]["p"]["agreement"]["hacked"][-1] == "no"
    assert any("not correlated with gold" in text for text in levels(result))
    assert not any(text.startswith("hacked") for text in levels(result))


def test_few_noisy_prompts_cannot_tell() -> None:
    generator = np.random.default_rng(3)
    proxy = generator.normal(size=(6, 32))
    gold = 0.05 * proxy + generator.normal(size=proxy.shape)
    result = over_optimization([PoolScores(name="p", reward=proxy)], PoolScores(name="g", reward=gold), resampling=FEW)
    assert result["results"]["p"]["law"]["verdict"] == "cannot tell"
    assert any(text.startswith("cannot tell whether gold peaks by n = 32") for text in levels(result))
    assert any("only 6 prompts" in text for text in levels(result))


def test_without_gold_only_drift_is_measured() -> None:
    proxy, gold = scores("heavy")
    tokens = np.exp(gold)
    result = measured("heavy", gold=None, signals={"tokens": tokens})
    one = result["results"]["p"]
    assert result["gold"] is None
    assert one["gold"] is None
    assert "law" not in one
    assert one["absent"] == {"gold": "no gold was given"}
    assert "gold was not given" in next(iter(levels(result)))
    assert "no gold given" in headline(one, result)
    expected = best_of_n(proxy, tokens, np.asarray(result["n"])).mean(axis=0)
    np.testing.assert_allclose([e["value"] for e in one["signals"]["tokens"]["values"]], expected)


def test_drift_is_reported_where_it_is_clear() -> None:
    proxy, _ = scores("gaussian")
    generator = np.random.default_rng(4)
    signals = {
        "tokens": np.exp(proxy - proxy.mean(axis=1, keepdims=True)),
        "repetition": (proxy > proxy.mean(axis=1, keepdims=True) + 1).astype(float),
        "finished": (generator.random(proxy.shape) < 0.8).astype(float),
    }
    texts = " ".join(levels(measured("gaussian", signals=signals)))
    assert "its choices are longer: 3 tokens at n = 1" in texts
    assert "repeat themselves" in texts
    assert "20% of the samples were cut" in texts
    calm = {name: np.ones_like(proxy) * (name != "repetition") for name in signals}
    texts = " ".join(levels(measured("gaussian", signals=calm)))
    assert "longer" not in texts
    assert "repeat" not in texts
    assert "cut" not in texts


def test_ties_are_reported() -> None:
    proxy, gold = scores("gaussian")
    result = over_optimization(
        [PoolScores(name="p", reward=np.sign(proxy))], PoolScores(name="g", reward=gold), resampling=FEW
    )
    assert any("many samples have equal scores" in text for text in levels(result))
    assert not any("equal scores" in text for text in levels(measured("gaussian")))


def test_what_cannot_be_measured_has_a_reason() -> None:
    proxy, gold = scores("gaussian")
    result = over_optimization(
        [PoolScores(name="p", reward=proxy[:, :2])], PoolScores(name="g", reward=gold[:, :2]), resampling=FEW
    )
    one = result["results"]["p"]
    assert one["law"] is None
    assert "different distances above 0" in one["absent"]["law"]
    assert "forecast" in one["absent"]["forecasts"]
    assert any(text.startswith("cannot tell") for text in levels(result))
    assert "cannot tell whether gold peaks" in headline(one, result)


def test_one_prompt_has_no_intervals_and_no_verdict() -> None:
    proxy, gold = (values[:1] for values in scores("gaussian"))
    result = over_optimization([PoolScores(name="p", reward=proxy)], PoolScores(name="g", reward=gold), resampling=FEW)
    one = result["results"]["p"]
    assert one["gold"][0]["low"] is None
    assert one["law"]["verdict"] == "cannot tell"
    assert "no interval" in headline(one, result)
    json.dumps(result, allow_nan=False)


def test_sizes_always_hold_one() -> None:
    assert measured("gaussian", n=np.asarray([8, 4]))["n"] == [1, 4, 8]


@pytest.mark.parametrize("n", [1.0, 2.0, 3.5, 100.0, 1e6])
def test_size_at_inverts_the_nominal_kl(n: float) -> None:
    assert size_at(float(np.sqrt(nominal_kl(n)))) == pytest.approx(n, rel=1e-6)


def test_size_at_has_ends() -> None:
    assert size_at(math.inf) == math.inf
    assert size_at(1e6) == math.inf
    assert math.isnan(size_at(math.nan))


def test_spread_is_that_within_prompts() -> None:
    values = np.array([[0.0, 2.0], [100.0, 102.0]])
    assert spread_within(values) == pytest.approx(1.0)


def test_bad_input_is_named() -> None:
    proxy, gold = scores("gaussian")
    wrong = gold.copy()
    wrong[3, 5] = np.nan
    one = PoolScores(name="p", reward=proxy)
    with pytest.raises(DataError, match=r"field `g`: 1 of .* not finite"):
        over_optimization([one], PoolScores(name="g", reward=wrong), resampling=FEW)
    with pytest.raises(DataError, match=r"field `g`: .* expected 80 by 256"):
        over_optimization([one], PoolScores(name="g", reward=gold[:, :8]), resampling=FEW)
    with pytest.raises(RecipeError, match="different names"):
        over_optimization([one, one], resampling=FEW)
    with pytest.raises(RecipeError, match="different names"):
        over_optimization([], resampling=FEW)
    with pytest.raises(RecipeError, match="best-of-257 needs as many samples"):
        over_optimization([one], n=np.asarray([257]), resampling=FEW)
