"""Fine-tuning a policy: its loss by hand, however a step is cut; packing, evaluation, checkpoints, resumption."""

import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from kills import Killed
from tiny_models import make_tokenizer, save_base
from tiny_policies import VOCABULARY, plain_logprobs, reply_rows, tiny_policy
from tiny_training import FORM, TOKENIZER, arguments, largest_difference, step_once, weights
from trueup.data.rows import Origin, Response, Row
from trueup.data.templates import infer_format
from trueup.errors import NonFiniteError
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import load_policy_checkpoint, new_policy
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.train.branch_trainer import OFFENDERS
from trueup.train.policy_trainer import PolicyTrainer
from trueup.train.prepare import prepare_replies
from trueup.train.step import Step

ROWS = reply_rows(16, seed=4)


def make(folder, model: PolicyModel | None = None, *, rows=ROWS, evaluation=None, budget=200, **changes):
    """A trainer of a policy, which is float64 throughout unless another is given."""
    return PolicyTrainer(
        model if model is not None else tiny_policy("gpt2"),
        arguments(folder, **changes),
        terms=(NegativeLogLikelihood(),),
        train_dataset=rows,
        eval_dataset=evaluation,
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=budget,
    )


def cut_into(trainer: PolicyTrainer, count: int) -> None:
    """Make every step have so many micro-batches."""

    def plan(rows):
        return Step.count(rows), [tuple(range(start, len(rows), count)) for start in range(count)]

    trainer._plan = plan


# The loss


@pytest.mark.parametrize("parts", [1, 2, 8])
@pytest.mark.parametrize("sharing", ["trees", "separate"])
def test_the_loss_is_the_mean_over_all_reply_tokens(sharing, parts, tmp_path):
    """By the plain model's logits; gradients, too. What prompts say is not learned."""
    model = tiny_policy("gpt2")
    model.settle(sharing)
    trainer = make(tmp_path, model)
    cut_into(trainer, parts)
    loss, gradients = step_once(trainer, ROWS)

    plain = tiny_policy("gpt2", sharing="separate")
    by_hand = -plain_logprobs(plain, ROWS).mean()
    by_hand.backward()
    expected = {name: p.grad for name, p in plain.named_parameters()}
    assert loss == pytest.approx(float(by_hand.detach()), abs=1e-10)
    assert largest_difference(gradients, expected) < 1e-10
    tokens = sum(sum(row.branch_lengths) for row in ROWS)
    assert len(plain_logprobs(plain, ROWS)) == tokens


def test_three_steps_are_the_same_however_they_are_cut(tmp_path):
    results = []
    for parts in (1, 2, 8):
        trainer = make(tmp_path)
        cut_into(trainer, parts)
        trainer.train()
        logs = [line for line in trainer.state.log_history if "loss" in line]
        results.append((weights(trainer.model), [line["loss"] for line in logs]))
    start = weights(tiny_policy("gpt2"))
    assert largest_difference(results[0][0], start) > 1e-2
    for found, losses in results[1:]:
        assert largest_difference(found, results[0][0]) < 1e-8
        assert losses == pytest.approx(results[0][1], abs=1e-10)


def test_a_part_without_rows_adds_nothing(tmp_path):
    """As on a device that only keeps the others company."""
    trainer = make(tmp_path)
    trainer._plan = lambda rows: (Step.count(rows), [tuple(range(len(rows))), ()])
    found = step_once(trainer, ROWS)
    cut_into(trainer, 1)
    expected = step_once(trainer, ROWS)
    assert found[0] == pytest.approx(expected[0], abs=1e-12)
    assert largest_difference(found[1], expected[1]) < 1e-12


def test_what_is_logged(tmp_path):
    """Without padding; a prompt of several replies is computed once and counted with each."""
    trainer = make(tmp_path, per_device_train_batch_size=16, max_steps=1)
    assert len(trainer._plan(ROWS)[1]) > 1
    trainer.train()
    line = trainer.state.log_history[0]
    assert line["padding_share"] == 0.0
    assert line["loss"] == pytest.approx(line["loss/sft"], abs=1e-6)
    assert line["token_logprob"] == pytest.approx(-line["loss"], abs=1e-6)
    assert line["num_tokens"] == sum(len(one) for row in ROWS for one in row.sequences())
    assert line["tokens_per_second"] > 0


def test_evaluation_is_the_mean_over_all_its_tokens(tmp_path):
    """Over steps of different sizes, without training."""
    held_out = reply_rows(11, seed=9)
    trainer = make(tmp_path, evaluation=held_out)
    before = weights(trainer.model)
    found = trainer.evaluate()
    assert largest_difference(weights(trainer.model), before) == 0.0
    with torch.no_grad():
        plain = -plain_logprobs(tiny_policy("gpt2", sharing="separate"), held_out).mean()
    assert found["eval_loss"] == pytest.approx(float(plain), abs=1e-10)
    assert found["eval_token_logprob"] == pytest.approx(-float(plain), abs=1e-10)
    assert found["eval_padding_share"] == 0.0


def test_it_learns_what_it_is_shown(tmp_path):
    trainer = make(tmp_path, max_steps=30, learning_rate=2e-2, rows=ROWS[:4])
    first = trainer.evaluate(ROWS[:4])["eval_loss"]
    trainer.train()
    assert trainer.evaluate(ROWS[:4])["eval_loss"] < 0.2 * first


def test_a_nan_names_its_row(tmp_path):
    texts = [" Pears" * (number + 1) for number in range(8)]
    rows = [
        Row(prompt=f"Name {i}:", responses=(Response(text=text),), id=str(i), origin=Origin("made.jsonl", i + 1))
        for i, text in enumerate(texts)
    ]
    dataset = prepare_replies(rows, tokenizer=TOKENIZER, form=FORM).dataset
    model = tiny_policy("gpt2", vocab_size=len(TOKENIZER))
    trainer = make(tmp_path, model, rows=dataset, budget=10**6)
    forward = model.forward

    def poisoned(layout):
        out = forward(layout)
        poison = torch.bincount(out.branch) == dataset[4].branch_lengths[0]
        return replace(out, logprob=torch.where(poison[out.branch], float("nan"), out.logprob))

    model.forward = poisoned
    with pytest.raises(NonFiniteError, match="1 offending rows"):
        trainer.train()
    (line,) = (tmp_path / OFFENDERS).read_text().splitlines()
    assert json.loads(line)["prompt"] == "Name 4:"


# What is kept and what is dropped


def prepared(*texts, **options):
    rows = [
        Row(prompt=prompt, responses=tuple(map(reply, own)), id=prompt[:9], origin=Origin("made.jsonl", number))
        for number, (prompt, *own) in enumerate(texts, start=1)
    ]
    form = replace(FORM, max_length=12)
    return prepare_replies(rows, tokenizer=TOKENIZER, form=form, **options)


def reply(text: str) -> Response:
    return Response(text=text)


LONG = "boiling water for seven minutes. " * 5


def test_long_rows_are_dropped_and_named():
    found = prepared(("Name:", " Plums", " Pears"), ("Name:", " Plums", LONG), (LONG, " No"))
    assert [found.dataset[i].index for i in range(len(found.dataset))] == [0]
    assert [(one.reason, one.origin.row) for one in found.dropped] == [("too long", 2), ("too long", 3)]
    assert found.dropped[0].detail.endswith("tokens, more than 12")
    assert found.truncated == 0
    row = found.dataset[0]
    assert TOKENIZER.decode(row.tokens[: row.prompt_length]) == "Name:"
    assert [TOKENIZER.decode(one) for one in row.sequences()] == ["Name: Plums</s>", "Name: Pears</s>"]
    assert row.pairs.shape == (0, 2)


def test_long_rows_can_be_cut():
    found = prepared(("Name:", " Plums"), ("Name:", LONG), (LONG, " No"), too_long="truncate")
    assert (len(found.dataset), found.dropped, found.truncated) == (3, (), 2)
    whole, reply_cut, prompt_cut = (found.dataset[i] for i in range(3))
    assert max(reply_cut.size, prompt_cut.size) == 12
    assert TOKENIZER.decode(whole.sequences()[0]) == "Name: Plums</s>"
    assert reply_cut.prompt_length == 1
    assert TOKENIZER.decode(reply_cut.tokens).startswith(TOKENIZER.decode(reply_cut.tokens[:1]) + "boiling")
    assert TOKENIZER.decode(prompt_cut.tokens).endswith("minutes.  No</s>")


# Checkpoints


def lora_policy(folder) -> PolicyModel:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(pad="<pad>")
    base = save_base(folder / "base", tokenizer)
    lora = LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear", init_lora_weights=False)
    return new_policy(base, tokenizer=tokenizer, lora=lora)


@pytest.mark.parametrize("lora", [False, True])
def test_a_killed_run_goes_on_to_the_same_weights(lora, tmp_path):
    """Bit for bit, an adapter's dropout and the order of the second epoch included."""

    def trainer(folder, **changes):
        model = lora_policy(tmp_path) if lora else None
        return make(folder, model, rows=ROWS[:12], max_steps=5, save_strategy="steps", save_steps=2, **changes)

    whole = trainer(tmp_path / "whole")
    whole.train()
    killed = trainer(tmp_path / "run")
    killed.add_callback(Killed(3))
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-2"]
    resumed = trainer(tmp_path / "run")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    expected, found = weights(whole.model), weights(resumed.model)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert largest_difference(expected, weights(killed.model)) > 0.0


def test_a_checkpoint_is_an_ordinary_causal_model(tmp_path):
    trainer = make(tmp_path, save_strategy="steps", save_steps=3)
    trainer.train()
    place = tmp_path / "checkpoint-3"
    plain = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float64).eval()
    ids = torch.randint(8, VOCABULARY, (1, 9), generator=torch.Generator().manual_seed(0))
    trainer.model.settle("separate")
    with torch.no_grad():
        expected = trainer.model.core.eval()(ids).logits
        assert torch.allclose(plain(ids).logits, expected, atol=1e-9)


def test_a_checkpoint_says_how_text_became_tokens(tmp_path):
    tokenizer = make_tokenizer(pad="<pad>")
    base = save_base(tmp_path / "base", tokenizer)
    model = new_policy(base, tokenizer=tokenizer)
    trainer = make(tmp_path / "run", model, rows=reply_rows(8), max_steps=1, save_strategy="steps", save_steps=1)
    trainer.form = infer_format((), tokenizer, max_length=77, kind="chat")
    trainer.tokenizer, trainer.provenance = tokenizer, {"seed": 3}
    trainer.train()
    loaded = load_policy_checkpoint(tmp_path / "run" / "checkpoint-1")
    assert loaded.form == trainer.form
    assert loaded.provenance["seed"] == 3
    assert loaded.tokenizer.chat_template == tokenizer.chat_template
