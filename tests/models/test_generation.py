"""Drawing replies: log-probabilities, independence of what is drawn beside, and the distribution itself."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_token_s_logprob_is_what_training_will_compute(dtype: torch.dtype) -> None:
    policy = tiny_policy(dtype=dtype)
    drawn = draw(policy, PROMPTS, 5, sampling=SAMPLING, seed=4)
    with torch.no_grad():
        rows = [as_row(prompt, replies) for prompt, replies in zip(PROMPTS, drawn, strict=True)]
        expected = policy(policy.layout(rows)).logprob.numpy()
    replies = [reply for group in drawn for reply in group]
    assert np.abs(np.concatenate([reply.logprobs for reply in replies]) - expected).max() < 1e-5
    assert all(np.array_equal(reply.logprobs, reply.policy_logprobs) for reply in replies)
    assert all(reply.logprob == pytest.approx(reply.logprobs.sum(), abs=1e-4) for reply in replies)


@pytest.mark.parametrize("how", [draw, draw_with_transformers])
@pytest.mark.parametrize("changes", [{"temperature": 0.7}, {"top_p": 0.8}, {"temperature": 1.5, "top_p": 0.6}])
def test_both_distributions_are_recorded(how, changes: dict[str, float]) -> None:
    """Where replies are not drawn from the policy itself, what it gives them is known nevertheless."""
    policy = tiny_policy()
    drawn = how(policy, PROMPTS, 3, sampling=Sampling(max_new_tokens=8, **changes), seed=4)
    for prompt, replies in zip(PROMPTS, drawn, strict=True):
        for reply in replies:
            logits = plain_logits(policy, prompt, reply.ids)
            own = logits.log_softmax(-1).gather(-1, torch.tensor(reply.ids)[:, None])[:, 0]
            assert np.abs(reply.policy_logprobs - own.numpy()).max() < 1e-5
            found = [allowed(row, **changes)[i] for row, i in zip(logits, reply.ids, strict=True)]
            assert np.abs(np.exp(reply.logprobs) - found).max() < 1e-5


def plain_logits(policy, prompt, ids) -> torch.Tensor:
    """Logits of a reply's tokens by the plain model."""
    config = policy.core.config
    before, config._attn_implementation = config._attn_implementation, "eager"
    with torch.no_grad():
        logits = policy.core(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    config._attn_implementation = before
    return logits


def allowed(logits: torch.Tensor, *, temperature: float = 1.0, top_p: float = 1.0) -> np.ndarray:
    """Probability of each token, by the definition of nucleus sampling."""
    probability = (logits / temperature).softmax(-1).numpy()
    kept, held = np.zeros_like(probability), 0.0
    for token in np.argsort(-probability):
        if held >= top_p:
            break
        kept[token] = probability[token]
        held += probability[token]
    return kept / held


def test_greedy_tokens_are_certain_where_they_are_drawn_and_not_under_the_policy() -> None:
    policy, greedy = tiny_policy(), Sampling(max_new_tokens=6, temperature=0)
    for how in (draw, draw_with_transformers):
        (reply,) = how(policy, PROMPTS[1:2], 1, sampling=greedy, seed=0)[0]
        own = plain_logits(policy, PROMPTS[1], reply.ids).log_softmax(-1).amax(-1)
        assert reply.logprobs.tolist() == [0.0] * len(reply.ids)
        assert np.abs(reply.policy_logprobs - own.numpy()).max() < 1e-5


def test_transformers_draws_differ_between_groups_of_prompts() -> None:
    """A model that says the same to every prompt shows the random numbers themselves."""
    policy = tiny_policy()
    with torch.no_grad():
        policy.core.get_output_embeddings().weight.zero_()
    settings = {"sampling": Sampling(max_new_tokens=12), "seed": 3}
    first, again = (draw_with_transformers(policy, PROMPTS[:1], 4, **settings) for _ in range(2))
    other = draw_with_transformers(policy, PROMPTS[1:2], 4, **settings)
    later = draw_with_transformers(policy, PROMPTS[:1], 4, first=4, **settings)
    ids = [[reply.ids for reply in group] for (group,) in (first, again, other, later)]
    assert ids[0] == ids[1]
    assert not any(set(ids[0]) & set(different) for different in ids[2:])


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
    token, logprob, own = pick(logits, chance, sampling=Sampling(temperature=0.5, top_p=0.9))
    kept = (logits[0, :2] / 0.5).softmax(-1)
    assert token.unique().tolist() == [0, 1]
    assert float((token == 0).float().mean()) == pytest.approx(float(kept[0]), abs=1e-3)
    assert torch.allclose(logprob, kept.log()[token], atol=1e-6)
    assert torch.allclose(own, logits[0].log_softmax(-1)[token], atol=1e-6)
    greedy, nothing, _ = pick(logits, chance, sampling=Sampling(temperature=0))
    assert set(greedy.tolist()) == {0}
    assert float(nothing.abs().max()) == 0.0


@given(st.integers(1, 400), st.floats(0, 1, exclude_max=True), st.integers(0, 1000))
def test_a_token_is_found_by_inverting_the_distribution_function(size: int, chance: float, seed: int) -> None:
    """Block by block as in one running sum, and never a token without probability."""
    generator = np.random.default_rng(seed)
    scores = np.where(generator.random(size) < 0.3, -np.inf, generator.normal(0, 5, size))
    scores[generator.integers(size)] = 1.0
    numbers = torch.tensor([chance, 0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    token, logprob, _ = pick(torch.tensor(scores).repeat(3, 1), numbers, sampling=Sampling())
    probability = np.exp(scores - np.logaddexp.reduce(scores))
    upto = probability.cumsum()
    for aim, found, value in zip(numbers.tolist(), token.tolist(), logprob.tolist(), strict=True):
        assert value == pytest.approx(np.log(probability[found]), abs=1e-9)
        assert upto[found] - probability[found] - 1e-12 <= aim <= upto[found] + 1e-12
    assert token[1] == np.flatnonzero(probability)[0]
    assert token[2] == np.flatnonzero(probability * (1 - upto + probability > 1e-15))[-1]


def test_a_broken_model_s_tokens_have_no_logprob() -> None:
    token, logprob, _ = pick(torch.full((1, 5), torch.nan), torch.tensor([0.5]), sampling=Sampling())
    assert 0 <= int(token) < 5
    assert bool(logprob.isnan())


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
