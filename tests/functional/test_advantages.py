import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import RecipeError
from trueup.functional.advantages import gae, group_normalized, leave_one_out, whiten

GROUPS = st.lists(st.lists(st.floats(-100, 100), min_size=2, max_size=5), min_size=1, max_size=5)
FLOAT = torch.float64


def flat(rows):
    index = torch.tensor([i for i, row in enumerate(rows) for _ in row])
    return torch.tensor([x for row in rows for x in row], dtype=FLOAT), index


@given(groups=GROUPS)
def test_leave_one_out_compares_with_the_others(groups):
    reward, prompt = flat(groups)
    expected = [x - np.mean(row[:i] + row[i + 1 :]) for row in groups for i, x in enumerate(row)]
    assert leave_one_out(reward, prompt).tolist() == pytest.approx(expected, abs=1e-9)


@given(groups=GROUPS, seed=st.integers(0, 99))
def test_groups_need_not_lie_together(groups, seed):
    reward, prompt = flat(groups)
    order = torch.randperm(len(reward), generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(leave_one_out(reward, prompt)[order], leave_one_out(reward[order], prompt[order]), atol=1e-9)
    assert torch.allclose(
        group_normalized(reward, prompt)[order], group_normalized(reward[order], prompt[order]), atol=1e-9
    )


def test_of_two_each_is_the_others_negative():
    found = leave_one_out(torch.tensor([1.0, 4.0, 7.0, 5.0]), torch.tensor([0, 0, 1, 1]))
    assert found.tolist() == [-3.0, 3.0, 2.0, -2.0]


def test_a_single_response_cannot_be_left_out():
    with pytest.raises(RecipeError, match="at least 2"):
        leave_one_out(torch.tensor([1.0, 4.0, 7.0]), torch.tensor([0, 0, 1]))


@given(groups=GROUPS)
def test_normalised_within_groups(groups):
    reward, prompt = flat(groups)
    expected = [(x - np.mean(row)) / (np.std(row, ddof=1) + 1e-4) for row in groups for x in row]
    assert group_normalized(reward, prompt).tolist() == pytest.approx(expected, abs=1e-6)
    centred = [x - np.mean(row) for row in groups for x in row]
    assert group_normalized(reward, prompt, scale=False).tolist() == pytest.approx(centred, abs=1e-9)


def test_no_spread_is_no_advantage():
    found = group_normalized(torch.tensor([2.0, 2.0, 5.0]), torch.tensor([0, 0, 1]))
    assert found.tolist() == [0.0, 0.0, 0.0]


@given(
    rows=st.lists(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=7), max_size=4),
    gamma=st.sampled_from([0.5, 0.99, 1.0]),
    lam=st.sampled_from([0.0, 0.95, 1.0]),
)
def test_gae_is_its_double_sum(rows, gamma, lam):
    expected = []
    for row in rows:
        value = [v for _, v in row] + [0.0]
        delta = [r + gamma * value[i + 1] - value[i] for i, (r, _) in enumerate(row)]
        expected += [sum((gamma * lam) ** (k - i) * delta[k] for k in range(i, len(row))) for i in range(len(row))]
    branch = torch.tensor([i for i, row in enumerate(rows) for _ in row], dtype=torch.long)
    reward = torch.tensor([r for row in rows for r, _ in row], dtype=FLOAT)
    value = torch.tensor([v for row in rows for _, v in row], dtype=FLOAT)
    advantage, returns = gae(reward, value, branch, gamma=gamma, lam=lam)
    assert advantage.tolist() == pytest.approx(expected, abs=1e-9)
    assert torch.allclose(returns, advantage + value)


def test_at_lambda_1_the_advantage_is_the_return_less_the_value():
    reward, value = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([10.0, 20.0, 30.0, 40.0])
    advantage, returns = gae(reward, value, torch.tensor([0, 0, 0, 1]), gamma=0.5, lam=1.0)
    assert returns.tolist() == [1 + 1 + 1, 2 + 2, 4, 8]
    assert advantage.tolist() == [3 - 10, 4 - 20, 4 - 30, 8 - 40]


@given(values=st.lists(st.floats(-1000, 1000), min_size=1, max_size=8))
def test_whitened_values_have_mean_0_and_variance_1(values):
    found = whiten(torch.tensor(values, dtype=FLOAT))
    assert found.mean().item() == pytest.approx(0, abs=1e-6)
    variance = np.var(values)
    assert found.var(correction=0).item() == pytest.approx(variance / (variance + 1e-8), abs=1e-6)


def test_masked_entries_count_for_nothing():
    values, mask = torch.tensor([1.0, 5.0, float("nan"), 3.0]), torch.tensor([True, True, False, True])
    found = whiten(values, mask)
    assert torch.equal(found[mask], whiten(values[mask]))
    assert found[2] == 0
    assert whiten(values, torch.zeros(4, dtype=torch.bool)).tolist() == [0.0] * 4
