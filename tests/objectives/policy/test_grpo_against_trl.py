"""GRPO and its KL term give TRL's own value and gradient on the same tensors."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from trueup.objectives import GRPO, ForwardKLk3, GRPOTokens
from trueup.types import PolicyBatch

trl = pytest.importorskip("trl.trainer.grpo_trainer")

LENGTHS = torch.tensor([4, 2, 3, 1])
MASK = torch.arange(4)[None] < LENGTHS[:, None]


def trl_loss(logprob, old, reference, *, advantages, beta, loss_type):
    """Run GRPOTrainer._compute_loss on given log-probabilities, padded on the right."""
    same = SimpleNamespace(gather=lambda t: t, reduce=lambda t, reduction: t, num_processes=1)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        accelerator=same,
        beta=beta,
        loss_type=loss_type,
        epsilon_low=0.2,
        epsilon_high=0.2,
        importance_sampling_level="token",
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        tools=None,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprob, torch.zeros_like(logprob), None),
    )
    inputs = {
        "prompt_ids": torch.ones(4, 1, dtype=torch.long),
        "prompt_mask": torch.ones(4, 1, dtype=torch.long),
        "completion_ids": torch.ones(4, 4, dtype=torch.long),
        "completion_mask": MASK.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": MASK.sum(),
    }
    return trl.GRPOTrainer._compute_loss(trainer, None, inputs)


@pytest.mark.parametrize(
    ("loss_type", "method", "beta"), [("grpo", GRPO(), 0.0), ("grpo", GRPO(), 0.3), ("dapo", GRPOTokens(), 0.0)]
)
def test_equal_value_and_gradient(loss_type, method, beta):
    generator = torch.Generator().manual_seed(0)
    logprob, old, reference = (-torch.rand(4, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    logprob.requires_grad_()
    batch = PolicyBatch(
        logprob=logprob[MASK],
        branch=torch.arange(4).repeat_interleave(LENGTHS),
        prompt=torch.tensor([0, 0, 1, 1]),
        behaviour=old[MASK],
        reference=reference[MASK],
        reward=torch.tensor([1.0, 3.0, 0.2, -0.5], dtype=torch.float64),
    )
    batch = method.prepare(batch)
    terms = [method, ForwardKLk3(coefficient=beta)] if beta else [method]
    ours = sum(term(batch, {}).values.mean() for term in terms)
    advantages = torch.stack([row[0] for row in batch.advantage.split(LENGTHS.tolist())])
    theirs = trl_loss(logprob, old, reference, advantages=advantages, beta=beta, loss_type=loss_type)
    assert ours.item() == pytest.approx(theirs.item())
    slopes = [torch.autograd.grad(loss, logprob, retain_graph=True)[0] for loss in (ours, theirs)]
    assert torch.allclose(*slopes, atol=1e-12)
    assert method(batch, {}).metrics["policy_clipped"].sum() > 0
