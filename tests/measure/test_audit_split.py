import numpy as np
import pytest

from trueup.errors import DataError, NonFiniteError
from trueup.measure.audit_split import check_split, frame, split_measures


def _measures(split, few, correct=None):
    return split_measures(split, shared=frame((split,)), resampling=few, correct=correct)


def test_absent_measures_are_none_with_a_reason(make_split, few):
    out = _measures(make_split([[1, 2], [3, 4]], pairs=np.zeros((0, 2), int)), few)
    for name in ("accuracy", "ties", "calibration", "tau", "dispersion", "before_final_norm", "decomposition"):
        assert out[name] is None
        assert out["absent"][name]
    assert out["benchmark"] is None
    assert out["length"]["matched"] is None
    assert out["reward"]["mean"].value == 2.5


def test_present_measures_are_all_there(make_split, few):
    rng = np.random.default_rng(0)
    hidden, head = rng.normal(size=(60, 3)), np.array([1.0, -1.0, 0.5])
    split = make_split(
        (hidden @ head).reshape(20, 3).tolist(),
        hidden=hidden,
        head=head,
        before_norm=np.linalg.norm(hidden, axis=1) * 3,
        gold=rng.normal(size=60),
        length=rng.integers(1, 50, 60).astype(float),
    )
    out = _measures(split, few)
    assert set(out["absent"]) == {"benchmark"}
    assert out["before_final_norm"]["mean"].value == pytest.approx(3 * out["dispersion"]["mean"].value)
    assert out["dispersion"]["measured_at"] == "head input"
    assert 1 < out["dispersion"]["effective_rank"].value <= 3
    assert out["dispersion"]["drift"] is None


def test_second_split_drifts_from_the_first_on_common_edges(make_split, few):
    a = make_split([[0.0, 1.0], [2.0, 3.0]], name="a")
    b = make_split([[10.0, 11.0], [12.0, 13.0]], name="b")
    shared = frame((a, b))
    one, two = (split_measures(split, shared=shared, resampling=few) for split in (a, b))
    assert one["reward"]["drift"] is None
    assert two["reward"]["drift"]["from"] == "a"
    assert two["reward"]["drift"]["mean_shift_in_std"] == pytest.approx(10 / np.std([0, 1, 2, 3]))
    assert (one["reward"]["histogram"].edges == two["reward"]["histogram"].edges).all()
    assert one["reward"]["histogram"].counts[-1] == 0


def test_benchmark_is_filled_in_when_recognized(make_split, few):
    out = _measures(make_split([[1, 0], [1, 2]], subset=("hep-go",) * 2), few, correct=np.array([True, False] * 2))
    assert out["benchmark"]["kind"] == "reward-bench"
    assert out["benchmark"]["overall"].value == 0.5


def test_non_finite_rewards_are_named(make_split):
    split = make_split([[1, 2], [np.nan, np.inf]], ids=("first", "second"))
    with pytest.raises(NonFiniteError, match=r"split under rm: 2 of 4 rewards .* at prompt second"):
        check_split(split, model="rm")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": np.array([1, 1, 0, 0])}, "in order of prompts"),
        ({"pairs": np.array([[0, 2]])}, "within one prompt"),
    ],
)
def test_arrays_that_cannot_be_trusted_are_refused(make_split, fields, words):
    with pytest.raises(DataError, match=words):
        check_split(make_split([[1, 2], [3, 4]], **fields), model="rm")


@pytest.mark.parametrize("name", ["length", "gold", "hidden", "before_norm"])
def test_arrays_of_another_length_are_refused(make_split, name):
    split = make_split([[1, 2], [3, 4]])
    object.__setattr__(split, name, np.ones((3, 2)))
    with pytest.raises(DataError, match="for each of the 4"):
        check_split(split, model="rm")


def test_pairs_outside_and_empty_splits_are_refused(make_split):
    with pytest.raises(DataError, match="within one prompt"):
        check_split(make_split([[1, 2]], pairs=np.array([[0, 5]])), model="rm")
    with pytest.raises(DataError, match="no responses"):
        check_split(make_split([]), model="rm")
