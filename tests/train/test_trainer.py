"""Options of the trainer do what they say, and what it cannot do it refuses."""

import json
import math
import shutil
from dataclasses import replace
from itertools import chain

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from tiny_models import make_tokenizer, save_base
from tiny_training import (
    TOKENIZER,
    arguments,
    largest_difference,
    make_trainer,
    random_rows,
    step_once,
    text_row,
    tiny_reward_model,
    weights,
)
from trueup.errors import NonFiniteError, RecipeError
from trueup.models.checkpoints import new_reward_model
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.recipes.data import DataRecipe
from trueup.recipes.train_reward import TrainReward, train_reward
from trueup.train.prepare import prepare
from trueup.train.reward_trainer import OFFENDERS

COUPLED = [BradleyTerry(), BatchSumToZero(coefficient=0.1)]


def epoch_order(trainer, epoch=0):
    loader = trainer.get_train_dataloader()
    loader.set_epoch(epoch)
    return [[row.index for row in batch["rows"]] for batch in loader]


def test_an_epoch_is_a_shuffled_partition(tmp_path):
    trainer = make_trainer(tmp_path, rows=random_rows(30))
    first, again, second = epoch_order(trainer), epoch_order(trainer), epoch_order(trainer, epoch=1)
    assert [len(step) for step in first] == [8, 8, 8, 6]
    assert sorted(list(chain(*first))) == list(range(30))
    assert first == again
    assert first != second
    assert list(chain(*first)) != list(range(30))


def test_group_by_length_groups_by_length(tmp_path):
    rows = random_rows(200, longest=60)
    trainer = make_trainer(tmp_path, rows=rows, train_sampling_strategy="group_by_length")
    spread = {}
    for name, steps in (
        ("grouped", epoch_order(trainer)),
        ("random", epoch_order(make_trainer(tmp_path, rows=rows))),
    ):
        assert sorted(chain(*steps)) == list(range(200))
        sizes = [[rows[i].size for i in step] for step in steps]
        spread[name] = sum(max(step) - min(step) for step in sizes)
    assert spread["grouped"] < 0.5 * spread["random"]
    assert epoch_order(trainer) == epoch_order(trainer)
    assert epoch_order(trainer, epoch=1) != epoch_order(trainer)
    trainer.train()
    assert trainer.state.global_step == 3


def test_grouped_order_survives_resumption(tmp_path):
    """Stopped within the second epoch, whose order is not the first's."""
    options = {"rows": random_rows(20), "train_sampling_strategy": "group_by_length", "max_steps": 5}
    whole = make_trainer(tmp_path, save_strategy="steps", save_steps=4, **options)
    whole.train()
    resumed = make_trainer(tmp_path, save_strategy="no", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert largest_difference(weights(resumed.model), weights(whole.model)) == 0.0


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "phi3", "gpt2", "gpt_neox", "bert"])
def test_dropout_is_off(family, tmp_path):
    """Whatever a configuration asks for, and however the family stores it."""
    tokenizer = make_tokenizer(pad="<pad>")
    names = {
        "gpt2": ("attn_pdrop", "embd_pdrop", "resid_pdrop"),
        "gpt_neox": ("attention_dropout", "hidden_dropout"),
        "bert": ("attention_probs_dropout_prob", "hidden_dropout_prob"),
        "phi3": ("attention_dropout", "resid_pdrop", "embd_pdrop"),
    }.get(family, ("attention_dropout",))
    base = save_base(tmp_path, tokenizer, family, **dict.fromkeys(names, 0.5))
    model = new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(0))
    layout = model.layout(random_rows(3))
    model.train()
    first, second = model(layout).reward, model(layout).reward
    assert torch.equal(first, second)
    assert torch.allclose(first, model.eval()(layout).reward, atol=1e-6)


def test_an_adapter_s_dropout_draws_the_same_in_both_passes(tmp_path):
    tokenizer = make_tokenizer(pad="<pad>")
    lora = LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear", init_lora_weights=False)
    base = save_base(tmp_path, tokenizer)
    model = new_reward_model(base, tokenizer=tokenizer, generator=torch.Generator().manual_seed(0), lora=lora)
    rewards = []
    trainer = make_trainer(tmp_path / "run", model, terms=COUPLED, budget=150)
    model.register_forward_hook(lambda *args: rewards.append(args[-1].reward.detach()))
    step_once(trainer, random_rows(8))
    half = len(rewards) // 2
    assert half > 1
    assert all(torch.equal(one, two) for one, two in zip(rewards[:half], rewards[half:], strict=True))


def test_bfloat16_on_a_cpu(tmp_path):
    logs = []
    for bf16 in (False, True):
        trainer = make_trainer(
            tmp_path, tiny_reward_model(dtype=torch.float32), terms=COUPLED, bf16=bf16, learning_rate=1e-3
        )
        trainer.train()
        assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
        logs.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert all(math.isfinite(loss) for loss in logs[1])
    assert logs[1] == pytest.approx(logs[0], abs=0.05)
    assert logs[1] != logs[0]


def test_gradients_are_clipped_over_the_whole_step(tmp_path):
    """With plain SGD a step moves the weights by the learning rate times the clipped norm, however it is cut."""
    for budget in (10**6, 150):
        model = tiny_reward_model()
        before = weights(model)
        trainer = make_trainer(
            tmp_path, model, budget=budget, max_grad_norm=0.25, max_steps=1, optim="sgd", learning_rate=0.1
        )
        trainer.train()
        assert trainer.state.log_history[0]["grad_norm"] > 0.25
        moved = sum(float((now - before[name]).square().sum()) for name, now in weights(model).items()) ** 0.5
        assert moved == pytest.approx(0.1 * 0.25, rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of the compiler itself
def test_torch_compile_changes_no_loss(tmp_path):
    """`aot_eager` traces and differentiates as the default backend does, without minutes of C++."""
    losses = []
    for compiled in (False, True):
        options = {"torch_compile": True, "torch_compile_backend": "aot_eager"} if compiled else {}
        model = tiny_reward_model(dtype=torch.float32, num_hidden_layers=1)
        trainer = make_trainer(tmp_path, model, rows=random_rows(8), budget=10**6, max_steps=1, **options)
        trainer.train()
        assert isinstance(trainer.model_wrapped, torch._dynamo.OptimizedModule) is compiled
        losses.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.parametrize("patience", [1, None])
def test_the_finished_model_is_the_best_checkpoint(patience, tmp_path, monkeypatch):
    """With patience; without it, the last one."""
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    data, held_out = tmp_path / "train.jsonl", tmp_path / "eval.jsonl"
    for path, flip in ((data, False), (held_out, True)):
        pairs = [{"prompt": f"{i}: ", "chosen": "plum " * (i + 2), "rejected": "pear " * (i + 1)} for i in range(16)]
        turned = [pair | {"chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in pairs]
        path.write_text("".join(json.dumps(pair) + "\n" for pair in (turned if flip else pairs)))
    recipe = TrainReward(
        model=str(save_base(tmp_path / "base", make_tokenizer())),
        output=tmp_path / "run",
        data=DataRecipe(train=str(data), eval=str(held_out)),
        batch_size=8,
        max_steps=6,
        eval_steps=1,
        save_steps=1,
        keep_checkpoints=6,
        learning_rate=1e-2,
        warmup=0.0,
        patience=patience,
    )
    done = train_reward(recipe)
    logs = [json.loads(line) for line in (recipe.output / "metrics.jsonl").read_text().splitlines()]
    losses = {}
    for line in logs:
        if "eval_loss" in line:
            losses.setdefault(line["step"], line["eval_loss"])
    best = min(losses, key=losses.get)
    last = max(losses)
    assert best == 1  # what is learned is the opposite of what is watched
    assert last == (2 if patience else 6)
    wanted = best if patience else last
    kept = load_file(recipe.output / f"checkpoint-{wanted}" / "model.safetensors")
    other = load_file(recipe.output / f"checkpoint-{last if patience else best}" / "model.safetensors")
    finished = load_file(done.model / "model.safetensors")
    assert largest_difference(finished, kept) == 0.0
    assert largest_difference(finished, other) > 1e-4
    assert done.metrics["eval_loss"] == pytest.approx(losses[wanted], abs=1e-6)


def test_a_nan_names_its_rows_whatever_the_loss(tmp_path):
    """With a coupled loss every part of the step is NaN; one row is to blame."""
    rows = [text_row(f"Question {i}?", " Yes" * (i + 1), " No") for i in range(8)]
    form = make_trainer(tmp_path).form
    dataset = prepare(rows, tokenizer=TOKENIZER, form=form).dataset
    for terms in ([BradleyTerry()], COUPLED):
        model = tiny_reward_model(vocab_size=len(TOKENIZER))
        trainer = make_trainer(tmp_path, model, rows=dataset, terms=terms, budget=40)
        forward = model.forward

        def poisoned(layout, forward=forward, **options):
            result = forward(layout, **options)
            long = torch.bincount(layout.tree[layout.real]).amax() == dataset[7].size
            return replace(result, reward=result.reward * float("nan")) if long else result

        model.forward = poisoned
        with pytest.raises(NonFiniteError, match="1 offending rows"):
            trainer.train()
        (line,) = (tmp_path / OFFENDERS).read_text().splitlines()
        assert json.loads(line)["prompt"] == "Question 7?"


def test_what_would_train_something_else_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="token_budget"):
        make_trainer(tmp_path, gradient_accumulation_steps=2)
    with pytest.raises(RecipeError, match="balanced"):
        make_trainer(tmp_path, train_sampling_strategy="batch_rebalance")


def test_several_gpus_without_a_launcher_are_not_split(tmp_path):
    from trueup.train.devices import prepare_for_devices

    args = arguments(tmp_path)
    assert args.device.type == "cpu"
    args._n_gpu = 4
    prepare_for_devices(tiny_reward_model(), args)
    assert args.n_gpu == 1


def test_evaluation_leaves_the_mode_as_it_was(tmp_path):
    trainer = make_trainer(tmp_path, evaluation=random_rows(3))
    for training in (True, False):
        trainer.model.train(training)
        trainer.evaluate()
        assert trainer.model.training is training
