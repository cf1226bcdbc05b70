"""Scoring with a model: awkward groups of responses, hidden states, lengths, misuse."""

import logging

import numpy as np
import pytest
import torch

from tiny_models import LLAMA_LIKE, loaded, make_checkpoint, make_tokenizer, plain_rewards, save_base
from trueup.data.rows import Message
from trueup.data.templates import render
from trueup.errors import DataError
from trueup.models.checkpoints import load_reward_model
from trueup.models.reward import RewardModel
from trueup.rewards.base import Reward
from trueup.rewards.model import ModelReward


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def base(root):
    tokenizer = make_tokenizer(bos="<s>", extra=("<|role|>", "<|eot_id|>"), chat_template=LLAMA_LIKE)
    return save_base(root / "base", tokenizer)


@pytest.fixture(scope="module")
def checkpoint(base, root):
    return loaded(base, root / "plain", kind="plain")


def reward(checkpoint, **options):
    return ModelReward(checkpoint=checkpoint, name="m", **options)


GROUPS = {
    "identical": ["Paris.", "Paris.", "Paris."],
    "one is a prefix": ["Paris", "Paris is", "Paris is the capital"],
    "empty": ["", "Paris."],
    "all empty": ["", ""],
    "one response": ["Paris is the capital."],
    "twelve": [f"Answer {'very ' * n}{n}" for n in range(12)],
    "one token": ["a", "b"],
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("limit", [64, 12, 4, 2])
@pytest.mark.parametrize("group", GROUPS)
def test_awkward_groups_score_as_each_response_alone(checkpoint, base, root, group, limit, side):
    place = root / f"{side}-{limit}"
    folder = place if place.exists() else make_checkpoint(base, place, kind="plain", max_length=limit, side=side)
    known = load_reward_model(folder)
    prompt = "What is the capital of France? "
    found = reward(known).score([prompt, ""], [GROUPS[group], GROUPS[group]]).reward
    alone = [reward(known).score([p], [[text]]).reward[0] for p in (prompt, "") for text in GROUPS[group]]
    np.testing.assert_allclose(found, alone, atol=1e-5)
    if group == "identical":
        assert len(set(np.round(found[:3], 5))) == 1
    if side == "left":
        texts = [p + text + "</s>" for p in (prompt, "") for text in GROUPS[group]]
        np.testing.assert_allclose(plain_rewards(folder, texts, special=True, padded=False), found, atol=1e-5)


def test_responses_that_share_not_one_token(root):
    """Without BOS, left truncation leaves two tails with nothing in common."""
    tokenizer = make_tokenizer()
    known = loaded(save_base(root / "bare", tokenizer), root / "bare-model", kind="plain", max_length=3)
    texts = ["apples and pears", "boiling water for seven"]
    found = reward(known).score(["What is "], [texts]).reward
    alone = [reward(known).score(["What is "], [[text]]).reward[0] for text in texts]
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_hidden_states_explain_the_rewards(checkpoint):
    model = reward(checkpoint, keep_hidden=True)
    assert isinstance(model, Reward)
    scores = model.score(["One. ", "Two. "], [["a", "b c d e f"], ["e"]])
    np.testing.assert_allclose(scores.hidden @ scores.head, scores.reward, atol=1e-5)
    assert scores.before_norm.shape == (3,)
    assert (scores.before_norm > 0).all()
    assert scores.prompt.tolist() == [0, 0, 1]
    assert [len(group) for group in scores.grouped()] == [2, 1]
    assert reward(checkpoint).score(["One. "], [["a"]]).hidden is None


def test_length_is_of_the_response_whatever_stands_beside_it(checkpoint):
    text = "Paris is the capital"
    count = len(checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"])
    for beside in ([], [text], [text + " of France"], ["x"]):
        assert reward(checkpoint).score(["One. "], [[text, *beside]]).length[0] == count > 1


def test_nothing_to_score(checkpoint):
    scores = reward(checkpoint).score([], [])
    assert len(scores.reward) == 0
    assert scores.grouped() == []
    with pytest.raises(DataError, match="2: the prompt has no responses"):
        reward(checkpoint).score(["a", "b"], [["x"], []])


def test_turns_are_refused_by_a_model_of_plain_text(checkpoint):
    with pytest.raises(DataError, match=r"list of chat turns.*expected plain text"):
        reward(checkpoint).score([(Message("user", "Hello"),)], [["x"]])


def test_a_chat_model_takes_text_as_one_turn(base, root):
    known = loaded(base, root / "chat", kind="chat")
    as_text = reward(known).score(["Hello"], [["x"]]).reward
    as_turn = reward(known).score([(Message("user", "Hello"),)], [["x"]]).reward
    assert as_text == as_turn
    assert render("Hello", "x", tokenizer=known.tokenizer, form=known.form).startswith("<s><|role|>user: Hello")


def test_sharing_that_fails_on_the_rows_at_hand_falls_back(base, root, caplog, monkeypatch):
    known = loaded(base, root / "fallback", kind="plain")
    expected = reward(known).score(["One. "], [["a", "b c"]]).reward

    def fail(*_, **__):
        raise RuntimeError("no kernel")

    monkeypatch.setattr("trueup.models.attention.plan_trees", fail)
    with caplog.at_level(logging.WARNING, logger="trueup"):
        found = reward(known).score(["One. "], [["a", "b c"]]).reward
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert known.model.sharing == "separate"
    assert len([record for record in caplog.records if record.name.startswith("trueup")]) == 1


def test_sharing_is_compared_once_and_again_on_far_longer_rows(checkpoint, monkeypatch):
    compared = []
    monkeypatch.setattr("trueup.rewards.model.check_sharing", lambda model, rows: compared.append(rows[0].longest))
    one = reward(checkpoint)
    for times in (10, 10, 18, 30, 30):
        one.score(["One. "], [["a " * times, "b"]])
    assert len(compared) == 2
    assert compared[1] > 2 * compared[0]
    reward(checkpoint).score(["One. "], [["a"]])
    assert len(compared) == 3


def test_scoring_leaves_no_gradient_and_no_dropout(checkpoint):
    checkpoint.model.train()
    reward(checkpoint).score(["One. "], [["a"]])
    assert not checkpoint.model.training
    assert all(parameter.grad is None for parameter in checkpoint.model.parameters())
    assert isinstance(checkpoint.model, RewardModel)
    assert torch.is_grad_enabled()
