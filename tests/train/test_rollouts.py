"""Rollout rows: what they know of tokens and branches survives batching, selection and a file."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tiny_policies import reply_rows
from trueup.errors import CheckpointError
from trueup.train.rollouts import RolloutRow, batch_of, load_rows, save_rows, token_rewards, with_batch


def rows(count: int = 3) -> list[RolloutRow]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for row in reply_rows(count, seed=1):
        tokens, branches = sum(row.branch_lengths), len(row.branch_lengths)
        names = ("behaviour", "reference", "advantage")
        known = {name: torch.randn(tokens, generator=generator) for name in names}
        finished = torch.rand(branches, generator=generator) < 0.5
        fields = {name: getattr(row, name) for name in row.__dataclass_fields__}
        made.append(
            RolloutRow(**fields, tokens_of=known, branches_of={"finished": finished, "reward": torch.randn(branches)})
        )
    return made


def same(one: RolloutRow, other: RolloutRow) -> bool:
    return (
        np.array_equal(one.tokens, other.tokens)
        and (one.prompt_length, one.branch_lengths, one.index)
        == (other.prompt_length, other.branch_lengths, other.index)
        and all(torch.equal(value, other.tokens_of[name]) for name, value in one.tokens_of.items())
        and all(torch.equal(value, other.branches_of[name]) for name, value in one.branches_of.items())
    )


def test_a_batch_and_back():
    given = rows()
    batch = batch_of(given)
    assert torch.equal(batch.logprob, batch.behaviour)
    assert all(same(one, other) for one, other in zip(given, with_batch(given, batch), strict=True))


def test_branches_that_are_not_kept_are_gone():
    given = rows()
    batch = batch_of(given)
    counts = [len(row.branch_lengths) for row in given]
    kept = torch.zeros(sum(counts), dtype=torch.bool)
    kept[counts[0] :: 2] = True  # nothing of the first row
    found = with_batch(given, replace(batch, kept=kept))
    assert [row.index for row in found] == [1, 2]
    numbers = kept.nonzero()[:, 0].tolist()
    sequences = [ids for row in given for ids in row.sequences()]
    assert [ids.tolist() for row in found for ids in row.sequences()] == [sequences[i].tolist() for i in numbers]
    wanted = torch.cat([batch.advantage[batch.branch == i] for i in numbers])
    assert torch.equal(torch.cat([row.tokens_of["advantage"] for row in found]), wanted)


def test_token_rewards_sum_to_the_adjusted_reward():
    batch = batch_of(rows())
    earned = token_rewards(batch, kl_coefficient=0.3)
    for number, reward in enumerate(batch.reward):
        own = batch.branch == number
        ratio = (batch.behaviour - batch.reference)[own]
        assert earned[own].sum() == pytest.approx(float(reward - 0.3 * ratio.sum()), abs=1e-5)
        assert torch.allclose(earned[own][:-1], -0.3 * ratio[:-1])


def test_a_file_keeps_everything(tmp_path):
    given = rows()
    save_rows(given, tmp_path / "rollouts.safetensors")
    read = load_rows(tmp_path / "rollouts.safetensors")
    assert len(read) == len(given)
    assert all(same(one, other) for one, other in zip(given, read, strict=True))


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "rollouts.safetensors"
    path.write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match=r"rollouts\.safetensors"):
        load_rows(path)
