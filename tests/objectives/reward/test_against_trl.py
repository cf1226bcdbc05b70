"""Bradley-Terry, margin and centring give TRL's own value and gradient on the same tensors."""

from types import SimpleNamespace

import pytest
import torch

from trueup.objectives import BradleyTerry, Centering, Margin
from trueup.objectives.example import pairs

trl = pytest.importorskip("trl.trainer.reward_trainer")


def trl_loss(chosen, rejected, *, margin=None, centring=None):
    """Run RewardTrainer.compute_loss on given rewards."""
    logits = torch.cat([chosen, rejected])[:, None]
    gather = SimpleNamespace(gather=lambda t: t, gather_for_metrics=lambda t: t)
    from collections import defaultdict

    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(center_rewards_coefficient=centring),
        accelerator=gather,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {"attention_mask": torch.ones(4, 3)}
    if margin is not None:
        inputs["margin"] = margin
    return trl.RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=logits), inputs)


@pytest.mark.parametrize("case", ["plain", "margin", "centring"])
def test_equal_value_and_gradient(case):
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(2))
    margin = torch.rand(6, generator=generator, dtype=torch.float64) if case == "margin" else None
    theirs = [tensor.clone().requires_grad_() for tensor in (chosen, rejected)]
    expected = trl_loss(*theirs, margin=margin, centring=0.05 if case == "centring" else None)
    expected.backward()
    batch = pairs(chosen.tolist(), rejected.tolist())
    if margin is not None:
        batch = type(batch)(**{**vars(batch), "margin": margin})
    terms = {"plain": [BradleyTerry()], "margin": [Margin()], "centring": [BradleyTerry(), Centering(coefficient=0.05)]}
    ours = sum(term(batch, {}).values.mean() for term in terms[case])
    ours.backward()
    assert torch.allclose(ours, expected)
    assert torch.allclose(batch.reward.grad.view(-1, 2), torch.stack([t.grad for t in theirs], dim=1))
