from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from small_preferences import judged, preferences, with_random_reference
from trueup.errors import RecipeError
from trueup.functional.policy_batch import branch_logprob, branch_ratio
from trueup.functional.segments import branch_mean, branch_sum
from trueup.objectives import PREFERENCE_OBJECTIVES
from trueup.objectives.example import two_preferences
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.h_dpo import HDPO
from trueup.objectives.preference.inpo import INPO
from trueup.objectives.preference.modpo import MODPO
from trueup.objectives.preference.simpo import SimPO
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.train.implied_rewards import batch_of_given, implied_rewards
from trueup.types import Coupled


@pytest.mark.parametrize("name", PREFERENCE_OBJECTIVES)
def test_it_is_what_the_method_logs_of_its_pairs(name: str) -> None:
    """Every method's reward of single responses gives the very margins that training logs."""
    method, batch = PREFERENCE_OBJECTIVES[name](), two_preferences()
    stats = method.statistics(batch) if isinstance(method, Coupled) else {}
    logged = method(batch, stats).metrics
    found = implied_rewards(method, batch)
    assert not found.requires_grad
    assert torch.equal(found[batch.pairs[:, 0]], logged["rewards/chosen"])
    assert torch.equal(found[batch.pairs[:, 1]], logged["rewards/rejected"])


def test_closed_forms() -> None:
    batch = two_preferences()
    logprob, ratio = branch_logprob(batch).detach(), branch_ratio(batch).detach()
    held = logprob - ratio
    count = len(batch.prompt)
    assert torch.allclose(implied_rewards(DPO(beta=0.3), batch), 0.3 * ratio)
    assert torch.allclose(implied_rewards(HDPO(beta=0.3, alpha=0.7), batch), 0.3 * (0.7 * logprob - held))
    per_token = branch_mean(batch.logprob.detach(), batch.branch, count)
    assert torch.allclose(implied_rewards(SimPO(beta=2.0), batch), 2.0 * per_token)
    others = (0.2 * ratio - batch.reward) / 0.5
    assert torch.allclose(implied_rewards(MODPO(beta=0.2, weight=0.5), batch), others)
    before = branch_sum(batch.previous, batch.branch, count)
    expected = 0.01 * (logprob - 0.25 * held - 0.75 * before)
    assert torch.allclose(implied_rewards(INPO(eta=0.01, tau=0.0025), batch), expected)


def test_rows_of_any_number_of_responses_become_one_batch() -> None:
    dataset = with_random_reference(preferences(judged(5)))
    rows = [dataset[i] for i in range(len(dataset))]
    logprob = [-torch.rand(sum(row.branch_lengths)) for row in rows]
    batch = batch_of_given(rows, logprob, reference=[row.tokens_of["reference"] for row in rows])
    lengths = [length for row in rows for length in row.branch_lengths]
    starts = np.cumsum([0, *lengths])
    flat = torch.cat(logprob).double()
    sums = [float(flat[a:b].sum()) for a, b in pairwise(starts)]
    assert branch_logprob(batch).tolist() == pytest.approx(sums)
    assert batch.logprob.dtype == batch.reference.dtype == torch.float64
    assert batch.prompt.tolist() == [i for i, row in enumerate(rows) for _ in row.branch_lengths]


def test_methods_without_a_reward_and_batches_without_a_reference_are_refused() -> None:
    with pytest.raises(RecipeError, match="imply no reward"):
        implied_rewards(NegativeLogLikelihood(), two_preferences())
    with pytest.raises(RecipeError, match="reference"):
        implied_rewards(DPO(), replace(two_preferences(), reference=None))
