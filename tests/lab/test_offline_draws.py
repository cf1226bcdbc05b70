"""What policies say: drawn once, with the likelihoods that reading the same text gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trueup.data.rows import Origin, Response, Row
from trueup.errors import DataError
from trueup.lab import offline_draws
from trueup.lab.arithmetic.policies import build_arithmetic_policy
from trueup.lab.offline_draws import Drawing, Draws, draw_from, likelihoods, verify
from trueup.models.policy_checkpoints import load_policy_checkpoint

from .test_offline_runs import TINY

ASKED = ("12+34=", "50-11=", "77+18=")
HOW = Drawing(samples=8, max_new_tokens=12)


@pytest.fixture(scope="module")
def home(lab) -> Path:
    """What is made for one test is there for the next."""
    return lab


@pytest.fixture(scope="module")
def policy(home) -> Path:
    return build_arithmetic_policy(TINY, folder=home / "policies")


@pytest.fixture(scope="module")
def draws(policy, home) -> Draws:
    return draw_from(policy, ASKED, HOW, folder=home)


def rows_of(texts) -> list[Row]:
    return [
        Row(prompt=prompt, responses=tuple(Response(text=text) for text in group), id=prompt, origin=Origin("made", n))
        for n, (prompt, group) in enumerate(zip(ASKED, texts, strict=True))
    ]


def test_likelihoods_of_what_was_drawn_are_those_of_the_drawing(policy, draws):
    """Reading a response that has ended gives what drawing it gave; special tokens within one are not in its text."""
    read = likelihoods(policy, rows_of(draws.texts))
    whole = draws.finished.flatten() & (read.tokens == draws.tokens.flatten())
    assert whole.sum() > 5
    assert read.logprob[whole] == pytest.approx(draws.policy_logprob.flatten()[whole], abs=1e-4)
    assert draws.logprob == pytest.approx(draws.policy_logprob)
    assert draws.entropy == pytest.approx(-draws.logprob.mean())


def test_a_loss_is_cross_entropy_per_token(policy):
    """Of transformers' own forward pass over prompt, response and end."""
    rows = rows_of([["46"], ["3,39"], ["9"]])
    known = load_policy_checkpoint(policy, dtype=torch.float32)
    total, count = 0.0, 0
    for row in rows:
        asked = known.tokenizer(row.prompt)["input_ids"]
        ids = asked + known.tokenizer(row.responses[0].text)["input_ids"] + [known.tokenizer.eos_token_id]
        with torch.no_grad():
            logits = known.model.core(torch.tensor([ids])).logits[0, len(asked) - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[len(asked) :]), reduction="sum"))
        count += len(ids) - len(asked)
    found = likelihoods(policy, rows)
    assert found.tokens.sum() == count == 3 + 5 + 2
    assert found.loss == pytest.approx(total / count, abs=1e-5)


def test_responses_are_their_tokens(policy, draws):
    tokenizer = load_policy_checkpoint(policy).tokenizer
    parts = np.split(draws.ids, np.cumsum(draws.tokens.flatten())[:-1])
    said = [tokenizer.decode(part, skip_special_tokens=True) for part in parts]
    assert said == [text for group in draws.texts for text in group]
    assert draws.tokens.max() <= HOW.max_new_tokens


def nats_per_token(draws: Draws) -> float:
    return -draws.logprob.sum() / draws.tokens.sum()


def test_temperature_sharpens(policy, home, draws):
    cold = draw_from(policy, ASKED, replace(HOW, temperature=0.3), folder=home)
    assert nats_per_token(cold) < nats_per_token(draws) - 0.1
    assert not np.allclose(cold.logprob, cold.policy_logprob)
    sure = draw_from(policy, ASKED, replace(HOW, temperature=0.0), folder=home)
    assert all(len(set(group)) == 1 for group in sure.texts)


def test_what_was_drawn_is_read(policy, home, draws, monkeypatch):
    again = draw_from(policy, ASKED, HOW, folder=home)
    assert again.texts == draws.texts
    for name in offline_draws._ARRAYS:
        assert np.array_equal(getattr(again, name), getattr(draws, name))

    def no_drawing(*_):
        raise AssertionError("this draws")

    monkeypatch.setattr(offline_draws, "_draw", no_drawing)
    draw_from(policy, ASKED, HOW, folder=home)
    for other in ((ASKED[:2], HOW), (ASKED, replace(HOW, seed=1)), (ASKED, replace(HOW, samples=7))):
        with pytest.raises(AssertionError, match="this draws"):
            draw_from(policy, *other, folder=home)


def test_a_damaged_file_is_drawn_again(policy, tmp_path, draws, caplog):
    draw_from(policy, ASKED, HOW, folder=tmp_path)
    (path,) = (tmp_path / "draws").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert draw_from(policy, ASKED, HOW, folder=tmp_path).texts == draws.texts
    assert "damaged, and made again" in caplog.text


def test_only_what_has_ended_can_be_right():
    one = np.ones((1, 3))
    drawn = Draws(texts=(("2", "2", "3"),), ids=np.zeros(3, int), tokens=one.astype(int),
                  finished=np.array([[True, False, True]]), logprob=-one, policy_logprob=-one)  # fmt: skip
    found = verify(drawn, ["1+1="], lambda prompt, text: prompt == "1+1=" and text == "2")
    assert found.tolist() == [[True, False, False]]
    with pytest.raises(DataError, match="2 prompts for the responses to 1"):
        verify(drawn, ["a", "b"], lambda prompt, text: True)


def test_a_row_that_is_too_long_is_said(policy):
    with pytest.raises(DataError, match="too long"):
        likelihoods(policy, rows_of([["1" * 600], ["1"], ["1"]]))
