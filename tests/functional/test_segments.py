import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.functional.segments import branch_mean, branch_sum, last_token, reverse_cumsum, shared_value

ROWS = st.lists(st.lists(st.floats(-10, 10), max_size=9), min_size=1, max_size=6)


def flat(rows):
    branch = torch.tensor([i for i, row in enumerate(rows) for _ in row], dtype=torch.long)
    return torch.tensor([x for row in rows for x in row], dtype=torch.float64), branch


@given(rows=ROWS)
def test_sums_and_means_are_those_of_python(rows):
    values, branch = flat(rows)
    expected = torch.tensor([sum(row) for row in rows], dtype=torch.float64)
    means = torch.tensor([sum(row) / len(row) if row else 0.0 for row in rows], dtype=torch.float64)
    assert torch.allclose(branch_sum(values, branch, len(rows)), expected)
    assert torch.allclose(branch_mean(values, branch, len(rows)), means)


@given(rows=ROWS, decay=st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_what_is_to_come_is_the_double_sum(rows, decay):
    values, branch = flat(rows)
    expected = [sum(decay ** (k - i) * row[k] for k in range(i, len(row))) for row in rows for i in range(len(row))]
    assert torch.allclose(reverse_cumsum(values, branch, decay=decay), torch.tensor(expected, dtype=torch.float64))


@given(rows=ROWS)
def test_last_tokens_are_where_a_branch_ends(rows):
    _, branch = flat(rows)
    expected = [i == len(row) - 1 for row in rows for i in range(len(row))]
    assert last_token(branch).tolist() == expected


def test_a_value_that_tokens_share_is_taken_exactly():
    values, branch = torch.tensor([-0.1, -0.1, -0.1, 0.7]), torch.tensor([0, 0, 0, 2])
    assert torch.equal(shared_value(values, branch, 3), torch.tensor([-0.1, 0.0, 0.7]))


def test_gradients_pass_through():
    values, branch = flat([[0.3, -1.0, 2.0, 0.1, 5.0], [1.0], [], [0.4, 0.2]])
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: branch_sum(v, branch, 4), values)
    assert torch.autograd.gradcheck(lambda v: branch_mean(v, branch, 4), values)
    assert torch.autograd.gradcheck(lambda v: reverse_cumsum(v, branch, decay=0.9), values)


def test_an_infinity_stays_in_its_branch():
    values, branch = torch.tensor([1.0, float("inf"), 2.0, 3.0]), torch.tensor([0, 1, 2, 2])
    assert reverse_cumsum(values, branch).tolist() == [1.0, float("inf"), 5.0, 3.0]
