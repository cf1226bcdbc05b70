"""A causal model as a policy: what it says, how likely that was, and that no budget or company changes it."""

import json
import math

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tiny_models import CHATML, LLAMA_LIKE, make_tokenizer, save_base
from tiny_policies import plain_logprobs
from trueup.data.branches import BranchRow, join
from trueup.data.replies import encode_prompts, encode_replies
from trueup.data.rows import Message, Origin, Response, Row
from trueup.data.templates import infer_format
from trueup.errors import CheckpointError
from trueup.models.generation import Reply
from trueup.models.policy_checkpoints import new_policy, save_policy
from trueup.models.tokenizers import load_tokenizer
from trueup.policies.model import ModelPolicy, load_model_policy

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|role|>", "<|eot_id|>")
OPENS_CHATML = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
OPENS_LLAMA = "{% if add_generation_prompt %}<|role|>assistant:{% endif %}"
TOKENIZERS = {
    "ChatML": {"eos": "<|im_end|>", "extra": SPECIAL, "chat_template": CHATML + OPENS_CHATML},
    "ChatML, another end": {"extra": SPECIAL, "chat_template": CHATML + OPENS_CHATML},
    "Llama": {"bos": "<s>", "eos": "<|eot_id|>", "extra": SPECIAL, "chat_template": LLAMA_LIKE + OPENS_LLAMA},
    "no generation prompt": {"bos": "<s>", "extra": SPECIAL, "chat_template": LLAMA_LIKE},
    "built-in": {},
}
PROMPTS = ["What is the capital of France?", "Name three fruits.", "", "How do I boil an egg? " * 6, "Go:"]


def save(folder, kind="plain", **made) -> None:
    """A random policy as `trueup train sft` leaves it; its logits are far enough apart for samples to differ."""
    base = save_base(folder / "base", make_tokenizer(**({"bos": "<s>"} | made)), initializer_range=0.3)
    tokenizer = load_tokenizer(base)
    model = new_policy(base, tokenizer=tokenizer)
    form = infer_format((), tokenizer, max_length=64, kind=kind)
    save_policy(folder / "run" / "model", model, tokenizer=tokenizer, form=form, provenance={})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    save(folder)
    return folder / "run"


def policy(place, **options) -> ModelPolicy:
    return load_model_policy(str(place), device="cpu", **{"max_new_tokens": 12} | options)


def watched(made: ModelPolicy) -> list[tuple[list[int], list[Reply]]]:
    """Every prompt that is drawn for, and its replies, as they are drawn."""
    seen, draw = [], made._draw

    def record(asked, count, **options):
        replies = draw(asked, count, **options)
        seen.extend(zip(map(list, asked), replies, strict=True))
        return replies

    made._draw = record
    return seen


# What is said


TEXTS = ("Paris.", "a  b\n\n c", "  two spaces", "Pears:\n1. one\n2. zwei, ü", "Assistant: no", "x \t y")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_text_comes_back_from_its_tokens(name, tmp_path, monkeypatch):
    """What the template writes around a reply is taken away once, and what is in it stays."""
    save(tmp_path, "chat", **({"bos": None} | TOKENIZERS[name]))
    made = policy(tmp_path / "run")
    for text in TEXTS:
        says(made, text, monkeypatch)
        (first,), (second,) = made.sample(
            ["Say it.", (Message("system", "Be brief."), Message("user", "Go"))], 1, seed=0
        )
        expected = text.strip() if name == "built-in" else text  # the template itself strips
        assert first.text == second.text == expected
        assert first.finished


def test_plain_text_comes_back_as_it_is(place, monkeypatch):
    made = policy(place)
    says(made, " Pears\n and plums \n", monkeypatch)
    assert made.sample(["Name two:"], 1, seed=0)[0][0].text == " Pears\n and plums \n"


def test_a_reply_that_was_cut_keeps_its_last_line_break(tmp_path, monkeypatch):
    """Nobody knows that it is the template's."""
    save(tmp_path, "chat", bos=None)
    made = policy(tmp_path / "run")
    says(made, "one", monkeypatch, cut=1)
    (sample,) = made.sample(["Say it."], 1, seed=0)[0]
    assert (sample.text, sample.finished) == ("one\n", False)


def says(made: ModelPolicy, text: str, monkeypatch, *, cut: int = 0) -> None:
    """Let a policy always say the same, in the tokens that training would have shown it."""
    tokenizer, form = made.checkpoint.tokenizer, made.checkpoint.form

    def say(asked, count, **_):
        row = Row(prompt="Say it.", responses=(Response(text=text),), id="1", origin=Origin("made", 1))
        ((_, (ids,)),) = encode_replies([row], tokenizer=tokenizer, form=form, truncate=False)
        return [[Reply(tuple(ids[: len(ids) - cut]), cut == 0, -1.0)] * count for _ in asked]

    monkeypatch.setattr(made, "_draw", say)


def test_a_token_that_ends_replies_need_not_be_the_tokenizer_s_end(place, monkeypatch):
    """Models name several; whichever was drawn is no part of the text."""
    made = policy(place)
    end, word = made.checkpoint.tokenizer("?")["input_ids"][-1], made.checkpoint.tokenizer("a b")["input_ids"][1:]
    monkeypatch.setattr(made, "_draw", lambda asked, count, **_: [[Reply((*word, end), True, 0.0)] for _ in asked])
    assert made.sample(["Go:"], 1, seed=0)[0][0].text == "a b"
    monkeypatch.setattr(made, "_draw", lambda asked, count, **_: [[Reply((*word, end), False, 0.0)] for _ in asked])
    assert made.sample(["Go:"], 1, seed=0)[0][0].text == "a b?"


# How it is drawn


def test_samples_are_a_function_of_the_seed(place):
    first, again, other = (policy(place).sample(PROMPTS, 3, seed=seed) for seed in (4, 4, 5))
    assert first == again
    assert [[one.text for one in group] for group in first] != [[one.text for one in group] for group in other]
    assert len({one.text for group in first for one in group}) > 5


@pytest.mark.parametrize("budget", [1, 70])
def test_the_budget_changes_no_sample(place, budget):
    whole, small = policy(place), policy(place, token_budget=budget)
    calls = watched(small)
    expected, found = whole.sample(PROMPTS, 5, seed=2), small.sample(PROMPTS, 5, seed=2)
    assert len(calls) > len(PROMPTS)
    for group, wanted in zip(found, expected, strict=True):
        assert [one.text for one in group] == [one.text for one in wanted]
        assert [one.logprob for one in group] == pytest.approx([one.logprob for one in wanted], abs=1e-4)


def test_what_is_held_at_a_time_stays_within_the_budget(place):
    """Prompts count, too: a few long ones must not be read together because replies are short."""
    made = policy(place, token_budget=400, max_new_tokens=4)
    sizes = [list(range(8, 8 + n)) for n in (3, 100, 90, 5, 60, 300, 2)]
    groups = list(made._groups(sizes, 6))
    for group, count in groups:
        assert len(group) * (max(len(sizes[i]) for i in group) + 4 * count) <= 400
    assert sorted(i for group, _ in groups for i in group) == list(range(len(sizes)))
    assert any(len(group) > 1 for group, _ in groups)
    assert sum(count for group, count in made._groups(sizes[5:6], 60)) == 60


def test_a_prompt_s_samples_do_not_depend_on_the_others(place):
    made = policy(place)
    together, alone = made.sample(PROMPTS, 2, seed=1), made.sample(PROMPTS[1:2], 2, seed=1)
    assert [one.text for one in together[1]] == [one.text for one in alone[0]]
    assert made.sample([], 2, seed=1) == []


def test_the_logprob_is_the_policy_s_own(place):
    made = policy(place)
    seen = watched(made)
    samples = made.sample(PROMPTS, 4, seed=3)
    known = made.checkpoint
    asked = encode_prompts(PROMPTS, tokenizer=known.tokenizer, form=known.form)
    replies = {tuple(ids): own for ids, own in seen}
    model = known.model
    for ids, group in zip(asked, samples, strict=True):
        own = replies[tuple(ids)]
        sequences = [[*ids, *reply.ids] for reply in own]
        rows = [one_branch(ids, sequence) for sequence in sequences]
        with torch.no_grad():
            forward = model(model.layout(rows))
            sums = torch.zeros(len(rows)).index_add_(0, forward.branch, forward.logprob)
            plain = plain_logprobs(model, rows)
        assert [one.logprob for one in group] == pytest.approx(sums.tolist(), abs=1e-3)
        assert sum(one.logprob for one in group) == pytest.approx(float(plain.sum()), abs=1e-3)
        assert [one.tokens for one in group] == [len(reply.ids) for reply in own]


def one_branch(prompt, sequence) -> BranchRow:
    row = join([sequence])
    return BranchRow(
        tokens=row.tokens,
        prompt_length=len(prompt),
        branch_lengths=(len(sequence) - len(prompt),),
        pairs=row.pairs,
        rank=row.rank,
    )


def test_finished_replies_are_those_that_ended(place):
    made = policy(place, max_new_tokens=40)
    seen = watched(made)
    samples = [one for group in made.sample(PROMPTS, 30, seed=0) for one in group]
    end = made.checkpoint.tokenizer.eos_token_id
    replies = [reply for _, own in seen for reply in own]
    assert {reply.finished for reply in replies} == {True, False}
    for reply in replies:
        assert reply.finished == (reply.ids[-1] == end)
        assert len(reply.ids) == 40 or reply.finished
    assert sum(one.finished for one in samples) == sum(reply.finished for reply in replies)
    assert all(one.finished or one.tokens == 40 for one in samples)


def test_temperature_zero_says_the_likeliest(place):
    made = policy(place, temperature=0.0, max_new_tokens=6)
    seen = watched(made)
    first, second = made.sample(["Name three fruits."], 2, seed=0)[0]
    assert first.text == second.text
    ((ids, (reply, _)),) = seen
    made.checkpoint.model.settle("separate")
    with torch.no_grad():
        logits = made.checkpoint.model.core(torch.tensor([[*ids, *reply.ids]])).logits[0]
    assert logits.argmax(-1)[len(ids) - 1 : -1].tolist() == list(reply.ids)


def test_a_model_that_ours_does_not_fit_is_drawn_by_transformers(place, caplog):
    """Its samples are others, and their log-probabilities as exact."""
    made = policy(place)
    made.checkpoint.model.settle("separate")
    seen = watched(made)
    samples = made.sample(PROMPTS[:2], 3, seed=0)
    assert "transformers' own generation" in caplog.text
    assert made.sample(PROMPTS[:2], 3, seed=0) == samples
    for (ids, own), group in zip(sorted(seen[:2], key=lambda one: -len(one[0])), samples, strict=True):
        rows = [one_branch(ids, [*ids, *reply.ids]) for reply in own]
        with torch.no_grad():
            plain = float(plain_logprobs(made.checkpoint.model, rows).sum())
        assert sum(one.logprob for one in group) == pytest.approx(plain, abs=1e-3)


# Where it is loaded from


def test_a_run_directory_is_its_finished_model(place):
    run, inside = policy(place), policy(place / "model")
    assert run.name == "run"
    assert inside.name == "model"
    assert policy(place, label="base").name == "base"
    assert run.sample(PROMPTS[:2], 2, seed=0) == inside.sample(PROMPTS[:2], 2, seed=0)
    assert run.checkpoint.form.kind == "plain"
    assert run.sampling.max_new_tokens == 12


def test_someone_else_s_model_is_a_policy_too(tmp_path):
    """Without our side file: chat, in the template that came with it."""
    template = CHATML + OPENS_CHATML
    tokenizer: PreTrainedTokenizerFast = make_tokenizer(eos="<|im_end|>", extra=SPECIAL, chat_template=template)
    save_base(tmp_path / "model-of-others", tokenizer)
    made = policy(tmp_path / "model-of-others")
    seen = watched(made)
    (sample,) = made.sample(["Hello"], 1, seed=0)[0]
    assert made.checkpoint.form.kind == "chat"
    assert tokenizer.decode(seen[0][0]) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert math.isfinite(sample.logprob)


def test_what_is_no_policy_is_one_message(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        policy(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no causal language model"):
        policy(tmp_path / "empty")
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(CheckpointError, match="no causal language model"):
        policy(tmp_path / "run")
