from collections.abc import Sequence

import numpy as np
import pytest
import torch

from small_preferences import judged
from tiny_models import LLAMA_LIKE, make_tokenizer, save_base
from tiny_policies import tiny_policy
from tiny_training import TOKENIZER
from trueup.data.rows import Message, Origin, Response, Row
from trueup.data.templates import TextFormat
from trueup.errors import DataError, RecipeError
from trueup.models.policy_checkpoints import PolicyCheckpoint
from trueup.policies.base import Sample
from trueup.policies.model import ModelPolicy, load_model_policy
from trueup.recipes.offline_measuring import (
    Draws,
    compared,
    compared_by_reward,
    draw,
    score_pairs,
    seed_of,
    verified,
)
from trueup.recipes.offline_policies import Made
from trueup.rewards.function import FunctionReward
from trueup.rewards.function_oracle import FunctionOracle
from trueup.rewards.reward_oracle import from_reward

PLAIN = TextFormat(kind="plain", special_tokens=False, append_eos=True, max_length=80)


def even(prompts: Sequence[str], completions: Sequence[str]) -> list[bool]:
    return [len(text) % 2 == 0 for text in completions]


def longer(prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> list[float]:
    return [float(len(a) > len(b)) for a, b in zip(first, second, strict=True)]


class Counting:
    """Says how often it was asked and with which seed."""

    name = "counting"

    def sample(self, prompts: Sequence[str], count: int, *, seed: int) -> list[list[Sample]]:
        return [[Sample(f"{prompt} {seed} {k}", k + 1, k % 2 == 0) for k in range(count)] for prompt in prompts]


def test_no_two_sets_of_answers_share_a_seed() -> None:
    seeds = [seed_of(seed, role=role, place=place) for seed in range(3) for role in range(2) for place in range(3)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[0] == seed_of(0, role=0, place=0)


def test_draws_keep_the_order_of_prompts_over_parts() -> None:
    prompts = [f"p{i}" for i in range(300)]
    found = draw(Counting(), prompts, Draws(samples=2, temperature=0.5, seed=7))
    assert found.texts == tuple((f"p{i} 7 0", f"p{i} 7 1") for i in range(300))
    assert found.tokens[5].tolist() == [1, 2]
    assert found.finished[5].tolist() == [1, 0]
    assert found.logprob is None
    assert found.temperature == 0.5


def test_verified_answers() -> None:
    assert verified(FunctionReward(even, "even"), ["a", "b"], (("xx", "x"), ("", "xxx"))).tolist() == [[1, 0], [1, 0]]
    unsure = FunctionReward(lambda prompts, completions: [2.0] * len(completions), "unsure")
    with pytest.raises(RecipeError, match="unsure returned 2 for response 0; a verifier returns 0 or 1"):
        verified(unsure, ["a"], (("x",),))


def test_both_orders_of_the_first_answers() -> None:
    ours, theirs = (("aaa", "b"), ("c", "d")), (("aa", "bb"), ("cc", "d"))
    found = compared(FunctionOracle(longer, "longer"), ["p", "q"], ours=ours, theirs=theirs, comparisons=2)
    assert found.forward.tolist() == [[1, 0], [0, 0]]
    assert found.backward.tolist() == [[0, 1], [1, 0]]
    assert not found.decided
    fewer = compared(FunctionOracle(longer, "longer"), ["p", "q"], ours=ours, theirs=theirs, comparisons=1)
    assert fewer.forward.tolist() == [[1], [0]]
    reward = from_reward(FunctionReward(lambda prompts, completions: [len(c) for c in completions], "length"))
    assert compared(reward, ["p", "q"], ours=ours, theirs=theirs, comparisons=1).decided


def test_known_rewards_compare_as_the_oracle_of_the_reward_does() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 3, 4))
    found = compared_by_reward(ours, theirs, comparisons=4)
    assert found.forward == pytest.approx(1 / (1 + np.exp(theirs - ours)))
    assert found.backward == pytest.approx(1 - found.forward)


def policy(seed: int) -> ModelPolicy:
    model = tiny_policy("gpt2", vocab_size=len(TOKENIZER))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return ModelPolicy(checkpoint=PolicyCheckpoint(model, TOKENIZER, PLAIN), name="tiny")


def load(place: str):
    return policy({"before": 3}[place]).checkpoint.model


def test_pairs_of_one_prompt_are_one_unit_and_methods_find_what_they_need() -> None:
    rows = judged(4)
    rows = [*rows, *rows[-1:]]
    ours, held = policy(1), policy(2).checkpoint.model
    scored = {
        name: score_pairs(ours, held, rows, about=Made(name="x", place="x", recipe=recipe), budget=300, load=load)
        for name, recipe in {
            "plain": {},
            "inpo": {"method": {"name": "inpo", "eta": 0.5, "tau": 0.1}, "model": "before"},
            "simpo": {"method": "simpo"},
        }.items()
    }
    plain = scored["plain"]
    assert plain.formula == "log pi - log pi_ref"
    assert plain.reward == pytest.approx(plain.policy - plain.reference)
    assert plain.prompt[-1] == 3
    assert len(plain.pairs) == sum(len(p) for p in [*_pairs(rows)])
    before = score_pairs(policy(3), held, rows, about=Made(name="x", place="x"), budget=300, load=load).policy
    expected = 0.5 * (plain.policy - 0.2 * plain.reference - 0.8 * before)
    assert scored["inpo"].reward == pytest.approx(expected, abs=1e-9)
    assert scored["simpo"].reward == pytest.approx(2.0 * plain.policy / plain.length)
    assert scored["simpo"].formula == "implied by simpo (beta 2.0, gamma 1.0)"


def _pairs(rows):
    for row in rows:
        good = sum(bool(one.label) for one in row.responses)
        yield range(good * (len(row.responses) - good))


def test_pairs_that_do_not_fit() -> None:
    short = policy(1)
    form = TextFormat(kind="plain", special_tokens=False, append_eos=True, max_length=2)
    short = ModelPolicy(checkpoint=PolicyCheckpoint(short.checkpoint.model, TOKENIZER, form), name="tiny")
    with pytest.raises(DataError, match="none of 2 rows of pairs fits tiny's 2 tokens"):
        score_pairs(short, short.checkpoint.model, judged(2), about=Made(name="x", place="x"), budget=300, load=load)


def test_chat_turns_are_scored_as_the_template_writes_them(tmp_path) -> None:
    """The template writes the only beginning-of-sequence token, and the end of the turn counts."""
    tokenizer = make_tokenizer(
        bos="<s>", eos="<|eot_id|>", pad="<pad>", extra=("<|role|>",), chat_template=LLAMA_LIKE
    )  # fmt: skip
    chatty = load_model_policy(str(save_base(tmp_path, tokenizer)), dtype=torch.float64)
    turns = (Message("user", "Name three fruits."),)
    texts = ("Apples, pears and plums.", "An egg.")
    responses = tuple(Response(text=text, label=label) for text, label in zip(texts, (True, False), strict=True))
    row = Row(prompt=turns, responses=responses, id="0", origin=Origin("made.jsonl", 1))
    model = chatty.checkpoint.model
    found = score_pairs(chatty, model, [row], about=Made(name="x", place="x"), budget=300, load=load)
    asked = [{"role": "user", "content": "Name three fruits."}]
    start = len(tokenizer.apply_chat_template(asked, return_dict=False))
    for text, ours in zip(texts, found.policy, strict=True):
        ids = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": text}], return_dict=False)
        assert ids.count(tokenizer.bos_token_id) == 1
        with torch.no_grad():
            logits = model.core(torch.tensor([ids])).logits[0].log_softmax(-1)
        assert ours == pytest.approx(float(sum(logits[i - 1, ids[i]] for i in range(start, len(ids)))), abs=1e-5)
