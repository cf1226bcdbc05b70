"""The same samples through both sides of the policy benchmark: rewards, advantages, loss and gradient must agree."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import policy_training_sides as sides

# Of the largest, or of the norm of all; both sides compute in float32.
TOLERANCE = 1e-3
# Relative size of the random changes that set policy, reference and what is trained apart.
_MOVED = 0.03


def compare(folder: Path, request: dict[str, Any]) -> dict[str, float]:
    """Largest differences of what both sides make of one rollout of ours.

    Drawn by a policy that has left its reference, learned from after it has moved again, so that neither the KL nor
    the ratio is trivial.
    """
    import torch
    from transformers import AutoModelForCausalLM

    moved = AutoModelForCausalLM.from_pretrained(folder / "policy")
    _move(moved, seed=1)
    moved.save_pretrained(folder / "moved")
    request = request | {"side": "check", "steps": 1}
    ours = sides.trueup_trainer(folder, request, policy="moved")
    found = ours.collector.collect(range(request["prompts"]), seed=sides.SEED)
    theirs = sides.trl_trainer(folder, request, policy="moved")
    theirs.model.train()
    inputs = _inputs_of(theirs, ours.prompts, found)
    lengths = [length for row in found.rows for length in row.branch_lengths]
    advantage = torch.stack([part[0] for part in torch.split(found.batch.advantage, lengths)])
    with torch.no_grad():
        rewards = theirs._calculate_rewards(*_asked(ours.prompts, found))[:, 0]
    losses, gradients, ratio = _losses(ours, theirs, found=found, inputs=inputs)
    return {
        "reward": _apart(found.scores.float(), rewards),
        "advantage": _apart(advantage, inputs["advantages"]),
        "loss": abs(losses[0] - losses[1]) / float(advantage.abs().mean()),
        "gradient": float((gradients[0] - gradients[1]).norm() / gradients[1].norm()),
        "our_loss": losses[0],
        "trl_loss": losses[1],
        "mean_absolute_log_ratio": ratio,
        "responses_finished": float(found.batch.finished.float().mean()),
    }


def _asked(prompts: Sequence[str], found: Any) -> tuple[Any, ...]:
    texts = [text for group in found.texts for text in group]
    asked = [prompts[row.index] for row in found.rows for _ in row.branch_lengths]
    ids = [s[row.prompt_length :].tolist() for row in found.rows for s in row.sequences()]
    return [{"prompt": prompt} for prompt in asked], asked, texts, ids


def _inputs_of(trainer: Any, prompts: Sequence[str], found: Any) -> dict[str, Any]:
    """What TRL prepares for its loss, with our samples in the place of its own."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    inputs, _, _, ids = _asked(prompts, found)
    grpo = type(trainer).__name__ == "GRPOTrainer"
    # TRL reads prompts and decodes responses itself, or the comparison would leave that out.
    trainer._generate_single_turn = lambda *_: (ids, None) if grpo else ids
    prepared = dict(trainer._generate_and_score_completions(inputs))
    lengths = [len(one) for one in ids]
    behaviour = pad_sequence(list(torch.split(found.batch.behaviour, lengths)), batch_first=True)
    if prepared.get("old_logps") is None:
        prepared["old_per_token_logps"] = behaviour
    return prepared


def _losses(ours: Any, theirs: Any, *, found: Any, inputs: dict[str, Any]) -> tuple[list[float], list[Any], float]:
    """Loss and gradient of both after the same change of the weights; how far the log-probabilities moved."""
    import torch

    from trueup.models.reading import logprobs
    from trueup.train.policy_trainer import PolicyTrainer

    model = ours.collector.policy.checkpoint.model
    for core in (model.core, theirs.model):
        _move(core, seed=2)
        core.zero_grad()
    now = torch.cat(logprobs(model, found.rows, token_budget=4096))
    ratio = found.batch.branch.new_zeros(len(found.scores), dtype=now.dtype)
    ratio = ratio.index_add(0, found.batch.branch, now - found.batch.behaviour)
    loss = float(PolicyTrainer.training_step(ours, model, {"rows": found.rows}))
    theirs.current_gradient_accumulation_steps = 1
    other = theirs._compute_loss(theirs.model, inputs)
    other.backward()
    return [loss, float(other)], [_gradient(model.core), _gradient(theirs.model)], float(ratio.abs().mean())


def _move(core: Any, *, seed: int) -> None:
    """Add noise to all matrices, the same for the same seed."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in core.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 2:
                weight += _MOVED * weight.std() * noise


def _gradient(core: Any) -> Any:
    import torch

    return torch.cat([weight.grad.flatten() for weight in core.parameters()])


def _apart(left: Any, right: Any) -> float:
    """Largest difference, as a share of the largest value."""
    return float((left - right).abs().max() / right.abs().max())
