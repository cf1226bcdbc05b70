"""The value head: zero at first, trained with the policy, and saved beside it."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tiny_models import make_tokenizer, save_base
from tiny_policies import reply_rows, tiny_policy
from trueup.data.templates import infer_format
from trueup.errors import CheckpointError
from trueup.models.heads.value import (
    FILE,
    load_value_head,
    save_value_head,
    with_value_head,
    without_value_head,
)
from trueup.models.policy import reference_states
from trueup.models.policy_checkpoints import load_policy_checkpoint, new_policy, save_policy
from trueup.models.tokenizers import load_tokenizer

ROWS = reply_rows(4)


def values(policy) -> torch.Tensor:
    return policy(policy.layout(ROWS), value=True).value


@pytest.mark.parametrize(
    ("kept", "wide"), [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)]
)
def test_values_start_at_zero_in_float32_or_wider(kept: torch.dtype, wide: torch.dtype) -> None:
    policy = with_value_head(tiny_policy(dtype=kept))
    with torch.autocast("cpu", torch.bfloat16, enabled=kept == torch.float32):
        found = values(policy)
    assert found.dtype == wide
    assert found.shape == (sum(sum(row.branch_lengths) for row in ROWS),)
    assert not found.any()


def test_making_a_head_draws_no_random_numbers() -> None:
    policy = tiny_policy()
    before = torch.get_rng_state()
    with_value_head(policy)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_head_is_kept_when_one_is_asked_for_again() -> None:
    policy = with_value_head(tiny_policy())
    head = policy.value_head
    assert with_value_head(policy).value_head is head


def test_values_can_be_learned() -> None:
    """A regression on the states alone finds its least squares."""
    policy = with_value_head(tiny_policy())
    head = policy.value_head
    aim = torch.linspace(-1, 1, len(values(policy)), dtype=torch.float64)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = (values(policy) - aim).square().mean()
        error.backward(inputs=list(head.parameters()))
        return error

    optimizer.step(loss)
    states = reference_states(policy, ROWS).hidden
    design = torch.cat([states, torch.ones(len(aim), 1, dtype=torch.float64)], dim=1)
    best = torch.linalg.lstsq(design, aim[:, None], driver="gelsd").solution
    assert torch.allclose(values(policy), (design @ best)[:, 0], atol=2e-2)


def test_it_is_saved_beside_the_policy_and_not_in_it(tmp_path) -> None:
    tokenizer = load_tokenizer(save_base(tmp_path / "base", make_tokenizer(bos="<s>", pad="<pad>")))
    policy = with_value_head(new_policy(tmp_path / "base", tokenizer=tokenizer))
    with torch.no_grad():
        policy.value_head.weight.normal_()
        policy.value_head.bias.fill_(0.5)
    saved = tmp_path / "saved"
    form = infer_format((), tokenizer, max_length=64)
    state = without_value_head(policy.state_dict())  # as a run on several devices gathers it
    save_policy(saved, policy, tokenizer=tokenizer, form=form, provenance={}, state=state)
    save_value_head(saved, policy, state=policy.state_dict())
    _, info = AutoModelForCausalLM.from_pretrained(saved, output_loading_info=True)
    assert not any(info[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    loaded = load_policy_checkpoint(saved).model
    assert loaded.value_head is None
    assert torch.equal(values(load_value_head(saved, loaded)), values(policy))
    (saved / FILE).unlink()
    save_value_head(saved, policy)
    assert torch.equal(load_value_head(saved, loaded).value_head.weight, policy.value_head.weight)


def test_a_policy_without_one_saves_none(tmp_path) -> None:
    save_value_head(tmp_path, tiny_policy())
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_loaded_is_said_and_changes_nothing(tmp_path) -> None:
    policy = tiny_policy()
    with pytest.raises(CheckpointError, match=f"holds no {FILE}"):
        load_value_head(tmp_path, policy)
    save_value_head(tmp_path, with_value_head(tiny_policy("gpt2", n_embd=64)))
    with pytest.raises(CheckpointError, match=r"\(1, 64\).*needs.*\(1, 32\)"):
        load_value_head(tmp_path, policy)
    (tmp_path / FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_value_head(tmp_path, policy)
    assert policy.value_head is None
