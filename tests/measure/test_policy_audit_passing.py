import numpy as np
import pytest

from trueup.errors import DataError
from trueup.measure.bootstrap import Resampling
from trueup.measure.pass_at_k import pass_at_k
from trueup.measure.policy_audit_passing import passing, sizes
from trueup.measure.policy_audit_records import Drawn

FEW = Resampling(resamples=40)


def answered(correct: np.ndarray, temperature: float = 1.0) -> Drawn:
    shape = correct.shape
    return Drawn(
        temperature=temperature,
        texts=tuple(tuple("a" for _ in range(shape[1])) for _ in range(shape[0])),
        tokens=np.ones(shape),
        finished=np.ones(shape),
        correct=correct.astype(np.int64),
    )


@pytest.mark.parametrize(("samples", "expected"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (16, [1, 2, 4, 8, 16])])
def test_sizes(samples: int, expected: list[int]) -> None:
    assert sizes(samples) == expected


def test_rates_and_differences_are_those_of_the_counts() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random((10, 4)) < share for share in (0.6, 0.3))
    found = passing([answered(ours)], [answered(theirs)], resampling=FEW)
    each = [pass_at_k(table.sum(axis=1), 4, [1, 2, 4]) for table in (ours, theirs)]
    assert [one.value for one in found["temperatures"][0]["rate"]] == pytest.approx(each[0].mean(axis=0))
    assert [one.value for one in found["difference"]] == pytest.approx((each[0] - each[1]).mean(axis=0))
    assert found["best"] is None
    assert found["problems"] == 10


def test_with_several_temperatures_the_better_one_is_found() -> None:
    good, bad = np.ones((8, 4)), np.zeros((8, 4))
    found = passing([answered(bad, 1.0), answered(good, 0.5)], resampling=FEW)
    assert [one.value for one in found["best"]["rate"]] == [1.0, 1.0, 1.0]
    assert np.all(found["best"]["chosen"] == 0.5)
    assert found["difference"] is None
    assert passing([answered(bad[:3], 1.0), answered(good[:3], 0.5)], resampling=FEW)["best"] is None


def test_without_a_verifier_there_is_nothing() -> None:
    nothing = Drawn(temperature=1.0, texts=(("a",),), tokens=np.ones((1, 1)), finished=np.ones((1, 1)))
    for some in ([], [nothing]):
        with pytest.raises(DataError, match="no verifier"):
            passing(some, resampling=FEW)
