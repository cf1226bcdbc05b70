"""A server as engine: what it is asked and given, what becomes of its text, and when it is refused."""

from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from endpoints.doubles import Script
from tiny_models import make_tokenizer
from tiny_policies import tiny_policy
from tiny_training import FORM, TOKENIZER
from trueup.data.rows import Message
from trueup.data.templates import TextFormat
from trueup.endpoints.failure import EndpointError
from trueup.errors import RecipeError
from trueup.models.generation import Sampling
from trueup.models.live_weights import checkpoint_weights
from trueup.models.policy_checkpoints import PolicyCheckpoint, load_policy_checkpoint
from trueup.policies.engine import RolloutEngine
from trueup.policies.model import ModelPolicy
from trueup.policies.server_engine import ServerCall, ServerEngine, ServerSettings

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }}"
    "{% if message.role == 'assistant' %} .</s>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
CHAT = PolicyCheckpoint(
    tiny_policy(vocab_size=500),
    make_tokenizer(pad="<pad>", chat_template=TEMPLATE),
    TextFormat(kind="chat", special_tokens=False, append_eos=False),
)
PLAIN = PolicyCheckpoint(tiny_policy(vocab_size=len(TOKENIZER)), TOKENIZER, FORM)


def make(script, checkpoint=PLAIN, **settings):
    known = {"url": "http://host", "attempts": 1} | settings
    if "folder" not in known:
        known.setdefault("stale_rollouts", 5)
    return ServerEngine(
        checkpoint=checkpoint,
        sampling=Sampling(max_new_tokens=9, temperature=0.7),
        settings=ServerSettings(**known),
        transport=script.transport(),
    )


def saying(*texts, reason="stop"):
    """A server that says these in turn."""

    def answer(payload, number):
        count = payload.get("n", 1)
        words = [texts[(number + i) % len(texts)] for i in range(count)]
        chat = "messages" in payload
        return {
            "choices": [
                {"index": i, "finish_reason": reason, **({"message": {"content": one}} if chat else {"text": one})}
                for i, one in enumerate(words)
            ]
        }

    return Script(answer)


def test_a_policy_of_plain_text_is_asked_for_text():
    script = saying("one", "two more")
    asked, drawn = make(script, extra={"top_k": -1}).draw(["A prompt", "B"], 2, seed=0)
    assert {url for url in script.urls} == {"http://host/v1/completions"}
    assert sorted(payload["prompt"] for payload in script.asked) == ["A prompt", "B"]
    assert all((p["max_tokens"], p["temperature"], p["n"], p["top_k"]) == (9, 0.7, 2, -1) for p in script.asked)
    assert [TOKENIZER.decode(ids) for ids in asked] == ["A prompt", "B"]
    assert isinstance(make(script), RolloutEngine)
    for replies in drawn:
        for reply in replies:
            assert reply.finished
            assert reply.ids[-1] == TOKENIZER.eos_token_id
            assert len(reply.policy_logprobs) == len(reply.ids)
            assert np.isnan(reply.policy_logprobs).all()


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("checkpoint", [PLAIN, CHAT], ids=["plain", "chat"])
def test_a_reply_reads_as_the_text_that_came_back(checkpoint, reason):
    """With the end where the server says so; without it, and without the template's tail, where it was cut."""
    prompt = (Message("user", "Hi"),) if checkpoint is CHAT else "Hi"
    texts = ["some words", "other words, longer ones", "x"]
    _, [replies] = make(saying(*texts, reason=reason), checkpoint).draw([prompt], 3, seed=0)
    policy = ModelPolicy(checkpoint=checkpoint, name="policy")
    assert [text.strip() for text in policy.texts(prompt, replies)] == texts
    end = checkpoint.tokenizer.eos_token_id
    assert all((reply.ids[-1] == end) == reply.finished == (reason == "stop") for reply in replies)
    tails = ["." in checkpoint.tokenizer.decode(reply.ids) for reply in replies]
    assert all(tails) == any(tails) == (checkpoint is CHAT and reason == "stop")


def test_a_policy_of_chats_is_asked_for_turns_unless_the_route_is_for_text():
    turns = (Message("user", "Hi"),)
    script = saying("yes")
    make(script, CHAT).draw([turns], 1, seed=0)
    assert script.urls == ["http://host/v1/chat/completions"]
    assert script.asked[0]["messages"] == [{"role": "user", "content": "Hi"}]
    script = saying("yes")
    make(script, CHAT, url="http://host/v1/completions").draw([turns], 1, seed=0)
    assert script.asked[0]["prompt"] == "<|user|> Hi<|assistant|> "
    with pytest.raises(RecipeError, match="chat template around"):
        make(saying("yes"), url="http://host/v1/chat/completions").draw(["Hi"], 1, seed=0)


def test_a_reply_without_text_and_end_is_an_end(caplog):
    _, [replies] = make(saying("", "word", reason="length")).draw(["Hi"], 2, seed=0)
    assert [reply.finished for reply in replies] == [True, False]
    assert replies[0].ids == (TOKENIZER.eos_token_id,)
    assert "no text" in caplog.text


def test_a_server_that_cannot_be_renewed_is_refused_once_it_is_too_old():
    engine = make(saying("x"), stale_rollouts=2)
    for _ in range(3):  # the first is drawn with the weights that the policy has
        engine.renew(iter(()))
    with pytest.raises(RecipeError, match="2 rollouts with weights older"):
        engine.renew(iter(()))


def test_weights_are_written_before_the_server_is_told(tmp_path):
    def answer(payload, number):
        held = load_policy_checkpoint(Path(payload["args"][0])).model
        seen.append(float(held.core.get_output_embeddings().weight.detach().double().sum()))
        return {"ok": True}

    seen, model = [], tiny_policy(vocab_size=len(TOKENIZER))
    script = Script(answer)
    calls = [ServerCall(url="http://host/reload", body={"method": "reload", "args": ["{folder}"]})]
    known = PolicyCheckpoint(model, TOKENIZER, FORM)
    engine = make(script, known, folder=str(tmp_path / "served-{number}"), renew=calls)
    engine.renew(checkpoint_weights(model))
    with torch.no_grad():
        model.core.get_output_embeddings().weight.mul_(2)
    engine.renew(checkpoint_weights(model))
    assert seen[1] == pytest.approx(2 * seen[0])
    assert script.asked[1] == {"method": "reload", "args": [str(tmp_path / "served-2")]}
    assert [path.name for path in tmp_path.iterdir()] == ["served-2"]
    defaults = GenerationConfig.from_pretrained(tmp_path / "served-2")  # else `transformers serve` draws greedily
    assert (defaults.do_sample, defaults.temperature, defaults.top_p, defaults.top_k) == (True, 1.0, 1.0, 0)
    assert defaults.eos_token_id == model.core.generation_config.eos_token_id
    again = load_policy_checkpoint(tmp_path / "served-2").model
    assert all(torch.equal(value, dict(again.state_dict())[name]) for name, value in model.state_dict().items())


def test_a_server_that_loads_what_is_named(tmp_path):
    script = saying("x")
    engine = make(script, model="{folder}", folder=str(tmp_path / "served-{number}"))
    for number in (1, 2):
        engine.renew(checkpoint_weights(PLAIN.model))
        engine.draw(["Hi"], 1, seed=0)
        assert script.asked[-1]["model"] == str(tmp_path / f"served-{number}")


def test_a_server_that_does_not_take_the_weights_stops_the_run(tmp_path):
    script = Script(lambda payload, number: httpx2.Response(500, text="no room"))
    engine = make(script, folder=str(tmp_path / "served"), renew=[ServerCall(url="http://host/reload")])
    with pytest.raises(EndpointError, match="no room"):
        engine.renew(checkpoint_weights(PLAIN.model))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "never get the policy's new weights"),
        ({"folder": "x"}, "nothing makes the server read"),
        ({"renew": [ServerCall(url="http://host/reload")]}, "rollouts.folder"),
        ({"stale_rollouts": -1}, "stale_rollouts"),
        ({"stale_rollouts": 1, "url": "nowhere"}, "no address"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(RecipeError, match=words):
        ServerSettings(**({"url": "http://host"} | settings))
