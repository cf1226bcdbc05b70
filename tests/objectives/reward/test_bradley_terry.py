import math

import pytest
import torch
from torch.autograd import gradcheck

from trueup.errors import RecipeError
from trueup.objectives.example import pairs, two_pairs
from trueup.objectives.reward.bradley_terry import BradleyTerry


def test_worked_value():
    assert BradleyTerry()(two_pairs(), {}).values.mean().item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_a_constant_added_to_a_prompt_changes_nothing():
    plain = BradleyTerry()(pairs([1.0, 3.0], [0.0, 2.0]), {}).values
    shifted = BradleyTerry()(pairs([8.0, 3.0], [7.0, 2.0]), {}).values
    assert torch.allclose(plain, shifted)


def test_gradient_with_respect_to_head_and_hidden_states():
    """dL/dW = -mean sigmoid(-margin)(h_w - h_l), and dL/dh_w = -dL/dh_l."""
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = (torch.randn(5, 7, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    head = torch.randn(7, generator=generator, dtype=torch.float64).requires_grad_()
    batch = pairs([0.0] * 5, [0.0] * 5)
    reward = torch.stack([chosen @ head, rejected @ head], dim=1).flatten()
    loss = BradleyTerry()(type(batch)(**{**vars(batch), "reward": reward}), {}).values.mean()
    loss.backward()
    margin = (chosen - rejected) @ head
    expected = -(torch.sigmoid(-margin)[:, None] * (chosen - rejected)).mean(0)
    assert torch.allclose(head.grad, expected.detach())
    assert torch.allclose(chosen.grad, -rejected.grad)


def test_label_smoothing_is_a_mixture_of_both_labels():
    right, wrong = BradleyTerry()(pairs([1.0], [0.0]), {}), BradleyTerry()(pairs([0.0], [1.0]), {})
    smoothed = BradleyTerry(label_smoothing=0.2)(pairs([1.0], [0.0]), {})
    assert torch.allclose(smoothed.values, 0.8 * right.values + 0.2 * wrong.values)


def test_label_smoothing_is_bounded():
    with pytest.raises(RecipeError, match="label_smoothing"):
        BradleyTerry(label_smoothing=0.5)


def test_gradcheck():
    def loss(reward):
        batch = pairs([0.0] * 3, [0.0] * 3)
        return BradleyTerry(label_smoothing=0.1)(type(batch)(**{**vars(batch), "reward": reward}), {}).values

    assert gradcheck(loss, torch.randn(6, dtype=torch.float64, requires_grad=True))
