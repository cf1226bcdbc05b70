"""Drawing replies: log-probabilities, independence of what is drawn beside, and the distribution itself."""

import numpy as np
import pytest
import torch

from tiny_models import FAMILIES
from tiny_policies import VOCABULARY, plain_logprobs, tiny_policy
from trueup.data.branches import BranchRow
from trueup.errors import RecipeError
from trueup.models.generation import Sampling, draw, pick
from trueup.models.plain_generation import can_draw, draw_with_transformers

SAMPLING = Sampling(max_new_tokens=20)
RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(8, VOCABULARY, size).tolist() for size in (3, 15, 1, 9)]


def as_row(prompt, replies) -> BranchRow:
    return BranchRow(
        tokens=np.asarray(prompt + [i for reply in replies for i in reply.ids], np.int32),
        prompt_length=len(prompt),
        branch_lengths=tuple(len(reply.ids) for reply in replies),
        pairs=np.zeros((0, 2), np.int64),
        rank=np.full(len(replies), -1),
    )


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_recorded_logprobs_are_exact(family: str) -> None:
    policy = tiny_policy(family)
    for prompt, replies in zip(PROMPTS, draw(policy, PROMPTS, 7, sampling=SAMPLING, seed=3), strict=True):
        with torch.no_grad():
            tokens = plain_logprobs(policy, [as_row(prompt, replies)])
        sums = [float(part.sum()) for part in tokens.split([len(reply.ids) for reply in replies])]
        assert sums == pytest.approx([reply.logprob for reply in replies], abs=2e-5)


def test_a_reply_depends_on_seed_prompt_and_number_alone() -> None:
    policy = tiny_policy()
    together = draw(policy, PROMPTS, 6, sampling=SAMPLING, seed=1)
    for number, prompt in enumerate(PROMPTS):
        assert [r.ids for r in draw(policy, [prompt], 6, sampling=SAMPLING, seed=1)[0]] == [
            r.ids for r in together[number]
        ]
    later = draw(policy, PROMPTS[:2], 2, sampling=SAMPLING, seed=1, first=4)
    assert [[r.ids for r in group] for group in later] == [[r.ids for r in group[4:]] for group in together[:2]]
    other = draw(policy, PROMPTS, 6, sampling=SAMPLING, seed=2)
    assert [r.ids for r in other[0]] != [r.ids for r in together[0]]


def test_replies_stop_at_an_end_token_or_at_the_limit() -> None:
    policy = tiny_policy()
    replies = [reply for group in draw(policy, PROMPTS, 40, sampling=SAMPLING, seed=0) for reply in group]
    assert any(reply.finished for reply in replies)
    assert any(not reply.finished for reply in replies)
    for reply in replies:
        assert reply.finished == (reply.ids[-1] in (5, 6, 7))
        assert not set(reply.ids[:-1]) & {5, 6, 7}
        assert reply.finished or len(reply.ids) == 20


def test_first_tokens_follow_the_models_distribution() -> None:
    policy = tiny_policy()
    count = 20_000
    replies = draw(policy, PROMPTS[:1], count, sampling=Sampling(max_new_tokens=1), seed=0)[0]
    found = np.bincount([reply.ids[0] for reply in replies], minlength=VOCABULARY) / count
    with torch.no_grad():
        policy.core.config._attn_implementation = "eager"
        expected = policy.core(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1).numpy()
    assert np.abs(found - expected).max() < 5 * (0.25 / count) ** 0.5


def test_temperature_and_nucleus() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).repeat(4000, 1)
    chance = torch.linspace(0, 1 - 1e-6, 4000, dtype=torch.float64)
    token, logprob = pick(logits, chance, sampling=Sampling(temperature=0.5, top_p=0.9))
    kept = (logits[0, :2] / 0.5).softmax(-1)
    assert token.unique().tolist() == [0, 1]
    assert float((token == 0).float().mean()) == pytest.approx(float(kept[0]), abs=1e-3)
    assert torch.allclose(logprob, kept.log()[token], atol=1e-6)
    greedy, nothing = pick(logits, chance, sampling=Sampling(temperature=0))
    assert set(greedy.tolist()) == {0}
    assert float(nothing.abs().max()) == 0.0


def test_greedy_replies_are_those_of_transformers() -> None:
    policy = tiny_policy(dtype=torch.float64)
    greedy = Sampling(max_new_tokens=12, temperature=0)
    ours = draw(policy, PROMPTS, 1, sampling=greedy, seed=0)
    theirs = draw_with_transformers(policy, PROMPTS, 1, sampling=greedy, seed=0)
    assert [[r.ids for r in group] for group in ours] == [[r.ids for r in group] for group in theirs]


def test_models_that_do_not_fit_are_found_out(caplog: pytest.LogCaptureFixture) -> None:
    assert can_draw(tiny_policy(), PROMPTS[0])
    broken = tiny_policy()
    broken.logits = lambda hidden: broken.core.get_output_embeddings()(hidden) + torch.arange(VOCABULARY)
    assert not can_draw(broken, PROMPTS[0])
    assert "transformers' own generation" in caplog.text
    separate = tiny_policy(sharing="separate")
    assert not can_draw(separate, PROMPTS[0])


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_sampling_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        Sampling(**wrong)
