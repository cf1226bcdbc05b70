"""Values of prompts, fitted to rewards of the reference's responses."""

import numpy as np
import pytest
import torch

from tiny_policies import reply_rows, tiny_policy
from trueup.errors import RecipeError
from trueup.models.heads.prompt_value import PromptValueHead
from trueup.train.prompt_values import ValueFitting, _states, fit_prompt_values, prompt_ids, prompt_values

BUDGET = 200


@pytest.fixture(scope="module")
def policy():
    return tiny_policy("gpt2", dtype=torch.float32)


def prompts(count, *, seed=0):
    """The first token says which of two kinds a prompt is."""
    rng = np.random.default_rng(seed)
    return [[20 + 40 * (i % 2), *rng.integers(8, 97, rng.integers(0, 6)).tolist()] for i in range(count)]


@pytest.mark.parametrize("sharing", ["trees", "mask", "separate"])
@torch.no_grad()
def test_states_are_those_of_the_plain_model(sharing):
    model = tiny_policy("llama")
    model.settle(sharing)
    asked = [[8, 9, 10, 11], [12], [13, 14]]
    found = dict(_states(model, asked, token_budget=6))
    for number, ids in enumerate(asked):
        with torch.no_grad():
            plain = model.core(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        assert torch.allclose(found[number], plain, atol=1e-9)


def test_it_tells_good_prompts_from_bad_ones(policy):
    asked = prompts(60)
    earned = [[0.4 if i % 2 else 1.6] for i in range(60)]
    fitting = ValueFitting(epochs=15, batch_size=8, learning_rate=3e-3)
    fitted = fit_prompt_values(policy, asked, earned, reward_max=2.0, token_budget=BUDGET, fitting=fitting)
    assert len(fitted.errors) == 16
    assert len(fitted.held_out) == 12
    held, all_of = set(fitted.held_out), np.array(earned)[:, 0]
    mean = np.mean([all_of[i] for i in range(60) if i not in held])
    assert fitted.errors[0] == pytest.approx(np.mean([(all_of[i] - mean) ** 2 for i in held]), rel=1e-5)
    assert fitted.errors[fitted.epoch] == min(fitted.errors)
    assert fitted.errors[fitted.epoch] < 0.05 * fitted.errors[0]
    new = prompt_values(policy, prompts(20, seed=9), fitted.head, token_budget=BUDGET)
    expected = torch.tensor([0.4 if i % 2 else 1.6 for i in range(20)])
    assert (new - expected).abs().mean() < 0.15
    assert fitted.head.reward_max == 2.0


def test_constant_rewards_are_the_value_of_every_prompt(policy):
    """Then every advantage is about zero."""
    fitted = fit_prompt_values(policy, prompts(20), [[0.7, 0.7]] * 20, reward_max=1.0, token_budget=BUDGET)
    values = prompt_values(policy, prompts(30, seed=4), fitted.head, token_budget=BUDGET)
    assert values.tolist() == pytest.approx([0.7] * 30, abs=0.01)


def test_a_head_that_starts_elsewhere_comes_to_the_constant_too(policy, monkeypatch):
    monkeypatch.setattr(PromptValueHead, "start_at", lambda self, reward: None)
    fitting = ValueFitting(epochs=25, batch_size=4, learning_rate=5e-3)
    fitted = fit_prompt_values(policy, prompts(24), [[0.9]] * 24, reward_max=1.0, token_budget=BUDGET, fitting=fitting)
    assert fitted.errors[0] > 0.05
    values = prompt_values(policy, prompts(30, seed=4), fitted.head, token_budget=BUDGET)
    assert (values - 0.9).abs().mean() < 0.05


def test_several_responses_count_with_their_mean(policy):
    asked = prompts(10)
    options = {"reward_max": 1.0, "token_budget": BUDGET, "fitting": ValueFitting(epochs=2)}
    several = fit_prompt_values(policy, asked, [[0.0, 0.5, 1.0]] * 5 + [[0.2]] * 5, **options)
    once = fit_prompt_values(policy, asked, [[0.5]] * 5 + [[0.2]] * 5, **options)
    assert several.errors == pytest.approx(once.errors)


def test_the_best_epoch_is_kept_and_it_may_be_the_mean(policy):
    """Rewards that say nothing: epochs that only fit noise are not kept."""
    rng = np.random.default_rng(0)
    earned = [[float(x)] for x in rng.random(30)]
    fitting = ValueFitting(epochs=6, batch_size=4, learning_rate=0.1)
    fitted = fit_prompt_values(policy, prompts(30), earned, reward_max=1.0, token_budget=BUDGET, fitting=fitting)
    assert fitted.errors[fitted.epoch] == min(fitted.errors)
    values = prompt_values(policy, prompts(30), fitted.head, token_budget=BUDGET)
    held = list(fitted.held_out)
    wanted = torch.tensor([earned[i][0] for i in held])
    assert (values[held] - wanted).square().mean().item() == pytest.approx(min(fitted.errors), rel=1e-5)


def test_it_is_a_function_of_the_seed_and_leaves_everything_as_it_was(policy):
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}
    policy.train()
    torch.manual_seed(1)
    expected = torch.rand(2)
    options = {"reward_max": 1.0, "token_budget": BUDGET}
    rewards = [[i / 12] for i in range(12)]
    torch.manual_seed(1)
    one = fit_prompt_values(policy, prompts(12), rewards, **options)
    assert torch.equal(torch.rand(2), expected)
    assert policy.training
    policy.eval()
    two = fit_prompt_values(policy, prompts(12), rewards, **options)
    other = fit_prompt_values(policy, prompts(12), rewards, **options, fitting=ValueFitting(seed=1))
    assert one.errors == two.errors
    assert one.held_out == two.held_out
    assert one.errors != other.errors
    assert all(torch.equal(weight, before[name]) for name, weight in policy.state_dict().items())
    assert all(weight.grad is None for weight in policy.parameters())


def test_values_do_not_depend_on_dropout_or_company(policy):
    head = PromptValueHead(32, reward_max=1.0, generator=torch.Generator().manual_seed(0), dropout=0.9)
    head.train()
    asked = prompts(7)
    together = prompt_values(policy, asked, head, token_budget=BUDGET)
    assert torch.equal(together, prompt_values(policy, asked, head, token_budget=BUDGET))
    alone = torch.cat([prompt_values(policy, [one], head, token_budget=1) for one in asked])
    assert torch.allclose(together, alone, atol=1e-6)
    assert together.std() > 0


def test_prompts_of_rows():
    rows = reply_rows(3)
    assert prompt_ids(rows) == [row.tokens[: row.prompt_length].tolist() for row in rows]
    assert all(type(token) is int for ids in prompt_ids(rows) for token in ids)


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ([[0.5], [1.2]], r"prompt 1 has reward 1.2, outside \[0, 1\]"),
        ([[-0.1], [0.2]], r"prompt 0 has reward -0.1, outside \[0, 1\]"),
        ([[float("nan")], [0.2]], "prompt 0 has reward nan"),
        ([[0.1], []], "prompt 1 has no rewarded response"),
        ([[0.1]], "2 prompts and rewards of 1"),
    ],
)
def test_rewards_that_do_not_fit_are_refused(policy, rewards, words):
    with pytest.raises(RecipeError, match=words):
        fit_prompt_values(policy, prompts(2), rewards, reward_max=1.0, token_budget=BUDGET)


def test_other_refusals(policy):
    with pytest.raises(RecipeError, match="prompt 1 holds no token"):
        fit_prompt_values(policy, [[8], []], [[0.1], [0.2]], reward_max=1.0, token_budget=BUDGET)
    with pytest.raises(RecipeError, match="at least 2 prompts"):
        fit_prompt_values(policy, [[8]], [[0.1]], reward_max=1.0, token_budget=BUDGET)
    with pytest.raises(RecipeError, match="reward_max must be positive"):
        fit_prompt_values(policy, prompts(2), [[0.0], [0.0]], reward_max=0.0, token_budget=BUDGET)
    with pytest.raises(RecipeError, match="held_out"):
        ValueFitting(held_out=1.0)
    with pytest.raises(RecipeError, match="epochs must be positive"):
        ValueFitting(epochs=0)
