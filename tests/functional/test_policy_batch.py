import math
from dataclasses import replace

import pytest
import torch

from trueup.errors import RecipeError
from trueup.functional.policy_batch import (
    branch_logprob,
    branch_ratio,
    given,
    kept_tokens,
    not_negative,
    positive,
    token_moved,
    token_ratio,
)
from trueup.objectives.example import two_groups


def test_ratios_of_tokens_add_up_to_those_of_responses():
    batch = two_groups()
    two = math.log(2)
    assert token_ratio(batch).tolist() == pytest.approx([two, two, 0, two, two, 0])
    assert branch_ratio(batch).tolist() == pytest.approx([2 * two, 0, two, two])
    assert branch_logprob(batch).exp().tolist() == pytest.approx([0.25, 0.25, 0.5, 0.125])
    assert token_moved(batch).tolist() == [0.0] * 6


def test_tokens_follow_their_branch():
    batch = two_groups()
    assert kept_tokens(batch) is None
    kept = replace(batch, kept=torch.tensor([True, False, False, True]))
    assert kept_tokens(kept).tolist() == [True, True, False, False, True, True]


def test_what_is_missing_is_named():
    with pytest.raises(RecipeError, match="`reference`"):
        token_ratio(replace(two_groups(), reference=None))
    assert given(torch.ones(1), "reference") == 1


@pytest.mark.parametrize(("check", "bad"), [(not_negative, -0.1), (positive, 0), (positive, math.nan)])
def test_hyper_parameters_out_of_range(check, bad):
    check("c", 1)
    with pytest.raises(RecipeError, match=f"c must .* got {bad}"):
        check("c", bad)
