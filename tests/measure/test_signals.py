import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from measure.alarm_simulations import planted_pool
from trueup.divergences.best_of_n import nominal_kl
from trueup.errors import DataError, RecipeError
from trueup.measure.signals import Observed, Signals, expected_max, repetitions, signals

ALL = {
    "kl", "proxy_slope", "proxy_tail", "disagreement", "disagreement_ratio", "member_gap", "member_transfer",
    "norm_drift", "length_drift", "repetition_drift",
}  # fmt: skip


def best_of(select, value, n):
    """Mean of `value` where `select` is highest, over all n-subsets of each row; no ties."""
    rows = []
    for scores, judged in zip(select, value, strict=True):
        subsets = itertools.combinations(range(len(scores)), n)
        rows.append(np.mean([judged[max(subset, key=lambda i, of=scores: of[i])] for subset in subsets]))
    return np.mean(rows)


def gaussians(correlation, *, members=2, prompts=300, samples=128, seed=0):
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal((prompts, samples))
    own = generator.standard_normal((members, prompts, samples))
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own


def test_expected_max_has_known_values():
    known = [0.0, 1 / np.sqrt(np.pi), 1.5 / np.sqrt(np.pi), 1.0293753730]
    assert expected_max(np.array([1, 2, 3, 4])) == pytest.approx(known, abs=1e-9)


@pytest.mark.parametrize("n", [7, 500, 100_000])
def test_expected_max_agrees_with_another_integral(n):
    # E max = int_0^inf (1 - F^n) - int_-inf^0 F^n
    above = integrate.quad(lambda x: -np.expm1(n * stats.norm.logcdf(x)), 0, 14, epsabs=1e-12)[0]
    below = integrate.quad(lambda x: np.exp(n * stats.norm.logcdf(x)), -14, 0, epsabs=1e-12)[0]
    assert expected_max(np.array([n]))[0] == pytest.approx(above - below, abs=1e-9)


def test_every_signal_against_enumeration():
    generator = np.random.default_rng(5)
    proxy, norms, tokens, repetition = generator.standard_normal((4, 3, 6))
    members = generator.standard_normal((3, 3, 6))
    observed = Observed(
        proxy=proxy, members=members, selector=1, norms=norms, training_norms=(0.3, 2.0), tokens=tokens,
        repetition=repetition,
    )  # fmt: skip
    found = signals(observed, [1, 2, 4])
    sigma = {key: np.std(table, axis=1, ddof=1).mean() for key, table in {"proxy": proxy, "tokens": tokens}.items()}
    z = [(one - one.mean(axis=1, keepdims=True)) / np.std(one, axis=1, ddof=1).mean() for one in members]
    spread = np.std(z, axis=0, ddof=1)
    gain = np.array([best_of(proxy, proxy, n) - proxy.mean() for n in (1, 2, 4)]) / sigma["proxy"]
    own, other = (np.array([best_of(z[1], of, n) for n in (1, 2, 4)]) for of in (z[1], (z[0] + z[2]) / 2))
    distance = np.abs(norms - 0.3) / 2
    maxima = np.array([0, 0.5641895835, 1.0293753730])
    slope = (gain[2] - gain[1]) / (maxima[2] - maxima[1]) / (gain[1] / maxima[1])
    transfer = np.diff(other) / np.diff(own)
    expected = {
        "kl": [0, np.log(2) - 1 / 2, np.log(4) - 3 / 4],
        "proxy_slope": [1, 1, slope],
        "proxy_tail": [gain[1] / maxima[1], gain[1] / maxima[1], gain[2] / maxima[2]],
        "disagreement": [best_of(proxy, spread, n) for n in (1, 2, 4)],
        "disagreement_ratio": [best_of(proxy, spread, n) / spread.mean() for n in (1, 2, 4)],
        "member_gap": own - other,
        "member_transfer": [transfer[0], *transfer],
        "norm_drift": [best_of(proxy, distance, n) - distance.mean() for n in (1, 2, 4)],
        "length_drift": [(best_of(proxy, tokens, n) - tokens.mean()) / sigma["tokens"] for n in (1, 2, 4)],
        "repetition_drift": [best_of(proxy, repetition, n) - repetition.mean() for n in (1, 2, 4)],
    }
    assert set(found.values) == set(expected) == ALL
    for name, value in expected.items():
        assert found.values[name] == pytest.approx(np.array(value), abs=1e-9), name


def test_without_a_selector_every_member_selects_in_turn():
    members = gaussians(0.5, members=3, prompts=10, samples=16)
    turns = [signals(Observed(proxy=members[0], members=members, selector=k)).values["member_gap"] for k in range(3)]
    every = signals(Observed(proxy=members.mean(axis=0), members=members)).values["member_gap"]
    assert every == pytest.approx(np.mean(turns, axis=0), abs=1e-12)


@pytest.mark.parametrize("correlation", [0.2, 0.8])
def test_gaussian_rewards_give_the_textbook_values(correlation):
    members = gaussians(correlation)
    found = signals(Observed(proxy=members[0], members=members, selector=0))
    near = found.n <= 32
    assert found.values["proxy_slope"][near] == pytest.approx(np.ones(near.sum()), abs=0.05)
    assert found.values["proxy_tail"] == pytest.approx(np.ones(len(found.n)), abs=0.03)
    assert found.values["member_transfer"][near] == pytest.approx(np.full(near.sum(), correlation), abs=0.08)
    assert found.values["member_gap"] == pytest.approx((1 - correlation) * expected_max(found.n), abs=0.12)
    # between two members of unit variance: E|x - y| / sqrt(2) = sqrt(2 (1 - r)) sqrt(2 / pi) / sqrt(2)
    assert found.values["disagreement"][0] == pytest.approx(np.sqrt((1 - correlation) * 2 / np.pi), rel=0.03)


def test_a_shared_heavy_error_shows_in_tail_slope_norms_length_and_repetition():
    hacked, clean = (
        signals(planted_pool(np.random.default_rng(0), hacked=kind, prompts=80)[0]).values for kind in (True, False)
    )
    for name, margin in {"proxy_slope": 1.0, "proxy_tail": 0.2, "norm_drift": 1.0, "length_drift": 0.3}.items():
        assert hacked[name][-1] > clean[name][-1] + margin, name
    assert hacked["repetition_drift"][-1] > 0.05 > clean["repetition_drift"][-1]
    # what the members share does not part them
    assert hacked["disagreement_ratio"][-1] == pytest.approx(1, abs=0.2)
    assert hacked["member_transfer"][-1] > 0.8


def test_an_error_of_its_own_shows_between_the_members():
    generator = np.random.default_rng(1)
    gold = generator.standard_normal((80, 256))
    members = gold + np.stack([0.4 * generator.standard_t(2, gold.shape) for _ in range(3)])
    values = signals(Observed(proxy=members[0], members=members, selector=0)).values
    assert values["disagreement_ratio"][-1] > 2
    assert values["member_transfer"][-1] < 0.2 < values["member_transfer"][0]
    assert values["member_gap"][-1] > 2


@settings(max_examples=25)
@given(
    scale=st.floats(0.01, 100), seed=st.integers(0, 99), members=st.integers(2, 4),
    selector=st.sampled_from([None, 0, 1]),
)  # fmt: skip
def test_no_unit_of_any_reward_enters(scale, seed, members, selector):
    generator = np.random.default_rng(seed)
    raw = generator.standard_normal((members, 4, 12))
    shift = generator.normal(0, 10, (members, 4, 1))
    tokens = generator.integers(1, 50, (4, 12))
    norms = generator.uniform(5, 9, (4, 12))
    one = Observed(
        proxy=raw[0], members=raw, selector=selector, tokens=tokens, norms=norms, training_norms=(6.0, 1.0)
    )  # fmt: skip
    two = Observed(
        proxy=scale * raw[0] + shift[0], members=scale * raw + shift, selector=selector, tokens=3 * tokens,
        norms=scale * norms, training_norms=(6.0 * scale, scale),
    )  # fmt: skip
    first, second = signals(one), signals(two)
    for name, value in first.values.items():
        assert second.values[name] == pytest.approx(value, rel=1e-6, abs=1e-7, nan_ok=True), name


def test_what_has_no_input_is_absent():
    proxy = np.random.default_rng(0).standard_normal((5, 16))
    found = signals(Observed(proxy=proxy, norms=np.ones((5, 16)), tokens=np.full((5, 16), 24)))
    assert set(found.values) == {"kl", "proxy_slope", "proxy_tail"}
    assert found.known == set(found.values)
    assert found.values["kl"] == pytest.approx(nominal_kl(found.n))
    assert set(signals(Observed(proxy=proxy), 1).values) == {"kl"}


def test_every_signal_without_direction_starts_at_zero():
    found = signals(planted_pool(np.random.default_rng(3), hacked=True)[0]).values
    for name in ("kl", "norm_drift", "length_drift", "repetition_drift", "member_gap"):
        assert found[name][0] == pytest.approx(0, abs=1e-12)


def test_repetition_of_texts():
    assert repetitions([["a b c a b c", "a b c d"]]) == pytest.approx(np.array([[0.25, 0.0]]))


def test_a_signal_that_is_not_finite_is_not_known():
    made = Signals(np.array([1, 2]), {"kl": np.array([0.0, 0.2]), "gap": np.array([0.0, np.nan])})
    assert made.known == {"kl"}
    with pytest.raises(DataError, match="2 sizes"):
        Signals(np.array([1, 2]), {"kl": np.array([0.0])})


SCORES = np.random.default_rng(0).standard_normal((4, 8))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"proxy": np.where(SCORES > 1, np.nan, SCORES)}, "proxy.*not finite"),
        ({"proxy": np.ones((4, 8))}, "proxy.*equal scores"),
        ({"members": SCORES[None]}, "members.*1 member"),
        ({"members": np.stack([SCORES, np.ones((4, 8))])}, r"members\[1\].*equal scores"),
        ({"members": np.zeros((2, 4, 7))}, r"members\[0\].*4 prompts by 7"),
        ({"tokens": np.ones((3, 8))}, "tokens.*3 prompts"),
        ({"repetition": np.full((4, 8), np.inf)}, "repetition.*not finite"),
        ({"norms": SCORES, "training_norms": (1.0, 0.0)}, "training_norms"),
    ],
)
def test_bad_input_is_named(fields, words):
    with pytest.raises(DataError, match=words):
        signals(Observed(**{"proxy": SCORES, **fields}))


@pytest.mark.parametrize(
    ("observed", "n", "words"),
    [
        (Observed(proxy=SCORES, members=np.stack([SCORES, -SCORES]), selector=2), None, "selector"),
        (Observed(proxy=SCORES), [1, 9], "9"),
        (Observed(proxy=SCORES[:, :1]), None, "2 samples"),
    ],
)
def test_settings_that_cannot_be_used(observed, n, words):
    with pytest.raises(RecipeError, match=words):
        signals(observed, n)
