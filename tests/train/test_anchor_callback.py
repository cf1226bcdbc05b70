"""Anchors in trainers: three steps of TRL's RLOOTrainer against averages made by hand, and resuming bit for bit."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar, enable_progress_bar
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback

from tiny_models import make_tokenizer, save_base
from tiny_policies import VOCABULARY, reply_rows, tiny_policy
from tiny_training import FORM, TOKENIZER, arguments
from trueup.anchors import ElasticReset, ExponentialAverage, Frozen, ResetToInit, Soup
from trueup.anchors.weights import live_weights
from trueup.errors import CheckpointError, RecipeError
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.train.anchor_callback import AnchorCallback
from trueup.train.policy_trainer import PolicyTrainer
from weight_paths import close, copied, equal

PROMPTS = ["Name three fruits.", "How do I boil an egg?", "What is the capital of France?", "Name it."]


class Watch(TrainerCallback):
    """Keeps what weights are at each step's end; one before the anchor sees the policy before it jumps."""

    def __init__(self, module=None):
        self.module, self.seen, self.moments = module, [], []

    def on_step_end(self, args, state, control, model=None, optimizer=None, **_):
        watched = self.module or model
        self.seen.append(copied({name: p.detach() for name, p in watched.named_parameters()}))
        self.moments.append({id(p): id(own) for p, own in optimizer.state.items()})


def on_tokens(folder, *callbacks, model=None, steps=6, resume=None, **changes):
    """A plain transformers trainer on random tokens."""
    rows = [{"input_ids": ids, "labels": ids} for ids in torch.arange(8, 8 + 24 * 6).view(24, 6) % VOCABULARY]
    model = model or tiny_policy(dtype=torch.float32).core
    args = arguments(folder, max_steps=steps, **{"learning_rate": 1e-3} | changes)
    trainer = Trainer(model, args, train_dataset=rows, callbacks=list(callbacks))
    trainer.train(resume_from_checkpoint=resume and str(resume))
    return copied(live_weights(trainer.model))


def on_replies(folder, *callbacks, steps=6, resume=None, **changes):
    """A trainer of ours on random replies, whose checkpoints are moved into place."""
    trainer = PolicyTrainer(
        tiny_policy(dtype=torch.float32),
        arguments(folder, max_steps=steps, **{"learning_rate": 1e-3} | changes),
        terms=(NegativeLogLikelihood(),),
        train_dataset=reply_rows(16, seed=4),
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=200,
    )
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=resume and str(resume))
    return copied(live_weights(trainer.model))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Folder of a random policy."""
    return save_base(tmp_path_factory.mktemp("policy"), make_tokenizer(pad="<pad>", bos="<s>"), num_hidden_layers=1)


def length_reward(completions, **_):
    return [float(len(text) % 7) for text in completions]


def rloo(folder, model, callbacks, *, reference="ref_model", **changes):
    """Three steps of TRL's RLOOTrainer; `callbacks` makes its callbacks, of its reference model."""
    disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trl = pytest.importorskip("trl")
        settings = {
            "per_device_train_batch_size": 4,
            "num_generations": 2,
            "max_completion_length": 8,
            "max_steps": 3,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "beta": 0.05,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "logging_steps": 1,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
            "seed": 0,
        }
        trainer = trl.RLOOTrainer(
            model if not isinstance(model, Path) else str(model),
            reward_funcs=length_reward,
            args=trl.RLOOConfig(output_dir=str(folder), **settings | changes),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
            processing_class=make_tokenizer(pad="<pad>", bos="<s>"),
        )
        for callback in callbacks(trainer):
            trainer.add_callback(callback)
        trainer.train()
    enable_progress_bar()
    return trainer


def test_trl_elastic_reset_jumps_to_the_average(start, tmp_path):
    """Period 2, decay 0.6: the policy before the jump is W2, the jump goes to 0.36 W0 + 0.24 W1 + 0.4 W2."""
    before, after, jumped = Watch(), Watch(), []
    anchor = AnchorCallback(ElasticReset(decay=0.6, period=2), before_jump=jumped.append)
    trainer = rloo(tmp_path, start, lambda trainer: [before, anchor, after])
    w0 = dict(AutoModelForCausalLM.from_pretrained(start).named_parameters())
    w1, w2, w3 = before.seen
    assert not close(w2, w1, 1e-3)
    expected = {name: 0.36 * w0[name] + 0.24 * w1[name] + 0.4 * w2[name] for name in w2}
    assert equal(after.seen[0], w1)
    assert close(after.seen[1], expected, 1e-6)
    assert not close(after.seen[1], w2, 1e-3)
    assert equal(after.seen[2], w3)
    assert jumped == [2]
    assert close(anchor.state.copies["average"], {name: 0.6 * w0[name] + 0.4 * w3[name] for name in w3}, 1e-6)
    # The step after the jump was made with the moments from before it, and the reference never moved.
    assert after.moments[0] == after.moments[1] == after.moments[2]
    assert equal(dict(trainer.ref_model.named_parameters()), w0)


def test_trl_is_held_to_the_moving_average(start, tmp_path):
    before, reference = Watch(), []

    def callbacks(trainer):
        reference.append(Watch(trainer.ref_model))
        return [before, AnchorCallback(ExponentialAverage(decay=0.6), reference=trainer.ref_model), *reference]

    trainer = rloo(tmp_path, start, callbacks)
    expected = dict(AutoModelForCausalLM.from_pretrained(start).named_parameters())
    for policy, held_to in zip(before.seen, reference[0].seen, strict=True):
        expected = {name: 0.6 * expected[name] + 0.4 * policy[name] for name in policy}
        assert close(held_to, expected, 1e-6)
    assert equal(dict(trainer.model.named_parameters()), before.seen[-1])
    # TRL computes with it: both runs sample alike up to the second step, whose reference is nearer than the start.
    kl = [line["kl"] for line in trainer.state.log_history if "kl" in line]
    frozen = rloo(tmp_path / "frozen", start, lambda trainer: [AnchorCallback(Frozen())])
    frozen_kl = [line["kl"] for line in frozen.state.log_history if "kl" in line]
    assert kl[0] == frozen_kl[0]
    assert 0 < kl[1] < frozen_kl[1]


def test_trl_is_held_to_its_elastic_average(start, tmp_path):
    """`kl_reference="ema"`: the reference goes back to the start at a reset."""
    watch = []

    def callbacks(trainer):
        watch.append(Watch(trainer.ref_model))
        rule = ElasticReset(decay=0.6, period=2, kl_reference="ema")
        return [AnchorCallback(rule, reference=trainer.ref_model), *watch]

    rloo(tmp_path, start, callbacks)
    w0 = dict(AutoModelForCausalLM.from_pretrained(start).named_parameters())
    first, second, third = watch[0].seen
    assert equal(second, w0)
    assert not close(first, w0, 1e-3)
    assert not close(third, w0, 1e-3)


def test_trl_is_held_to_a_soup_from_the_first_step(start, tmp_path):
    """The policy starts at one member, so the first KL is not 0; the soup stays where it is."""
    other, tokenizer = AutoModelForCausalLM.from_pretrained(start), make_tokenizer(pad="<pad>", bos="<s>")
    w0 = dict(AutoModelForCausalLM.from_pretrained(start).named_parameters())
    for parameter in other.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    anchor = Soup(other=tmp_path / "other", alpha=0.75)
    callbacks = lambda trainer: [AnchorCallback(anchor, reference=trainer.ref_model)]  # noqa: E731
    trainer = rloo(tmp_path / "run", start, callbacks, max_steps=2)
    w2 = dict(other.named_parameters())
    expected = {name: 0.75 * w0[name] + 0.25 * w2[name] for name in w0}
    assert close(dict(trainer.ref_model.named_parameters()), expected, 1e-6)
    assert trainer.state.log_history[0]["kl"] > 1e-3


def test_trl_without_a_jump_is_trl(start, tmp_path):
    """An endless period leaves the run bit for bit what it is."""
    plain = rloo(tmp_path / "plain", start, lambda trainer: [])
    anchored = rloo(tmp_path / "anchored", start, lambda trainer: [AnchorCallback(ElasticReset(period=10**9))])
    assert equal(live_weights(anchored.model), live_weights(plain.model))


def test_trl_is_held_to_an_adapter_s_average(start, tmp_path):
    """TRL keeps the frozen copy of an adapter as "ref"."""
    torch.manual_seed(0)
    core = AutoModelForCausalLM.from_pretrained(start)
    model = get_peft_model(core, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    w0 = copied(live_weights(model))
    watch = Watch()
    anchor = AnchorCallback(ExponentialAverage(decay=0.6), reference="ref")
    trainer = rloo(tmp_path, model, lambda trainer: [watch, anchor], max_steps=1, disable_dropout=True)
    w1 = {name: watch.seen[0][name] for name in w0}
    assert not close(w1, w0, 1e-3)
    held_to = {n: p for n, p in trainer.model.named_parameters() if ".ref." in n}
    assert close(held_to, {n.replace(".default.", ".ref."): 0.6 * w0[n] + 0.4 * w1[n] for n in w0}, 1e-6)


@pytest.mark.parametrize("train", [on_tokens, on_replies])
def test_resuming_is_bit_equal(train, tmp_path):
    """From a checkpoint in the middle of a period, with the average on its way."""
    anchor = ElasticReset(decay=0.7, period=3, offset=2)
    saving = {"save_strategy": "steps", "save_steps": 2}
    callback = AnchorCallback(anchor)
    whole = train(tmp_path / "whole", callback, **saving)
    assert (tmp_path / "whole" / "checkpoint-4" / "anchor" / "state.safetensors").is_file()
    train(tmp_path / "part", AnchorCallback(anchor), steps=4, **saving)
    resumed = AnchorCallback(anchor)
    part = train(tmp_path / "part", resumed, resume=tmp_path / "part" / "checkpoint-4", **saving)
    assert equal(part, whole)
    assert equal(resumed.state.to_tensors(), callback.state.to_tensors())
    fresh = train(tmp_path / "other", Watch())
    assert not close(fresh, whole, 1e-4)


def test_resuming_from_another_folder(tmp_path):
    anchor, saving = ElasticReset(decay=0.7, period=3), {"save_strategy": "steps", "save_steps": 2}
    whole = on_tokens(tmp_path / "whole", AnchorCallback(anchor), **saving)
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    part = on_tokens(tmp_path / "new", AnchorCallback(anchor, checkpoint=checkpoint), resume=checkpoint)
    assert equal(part, whole)
    with pytest.raises(CheckpointError, match="lacks the anchor's state"):
        on_tokens(tmp_path / "newer", AnchorCallback(anchor), resume=checkpoint)


def test_the_reference_is_restored_too(tmp_path):
    anchor, saving = ExponentialAverage(decay=0.7), {"save_strategy": "steps", "save_steps": 2}
    ends = []
    for resume in (None, tmp_path / "run" / "checkpoint-4"):
        reference = tiny_policy(dtype=torch.float32)
        on_tokens(tmp_path / "run", AnchorCallback(anchor, reference=reference), resume=resume, **saving)
        ends.append(copied(live_weights(reference)))
    assert equal(*ends)


@pytest.mark.parametrize("reset", [False, True])
def test_the_optimizer_s_moments_stay_unless_told(tmp_path, reset):
    """Afterwards, as each step's moments begin again, they are other objects."""
    watch = Watch()
    on_tokens(
        tmp_path, AnchorCallback(ResetToInit(period=2), reset_optimizer=reset), watch, steps=3, optim="adamw_torch"
    )
    first, second, third = watch.moments
    assert len(first) > 5
    assert third.keys() == first.keys()
    assert second == ({} if reset else first)


def test_the_policy_before_a_jump_can_be_seen(tmp_path):
    model, seen = tiny_policy(dtype=torch.float32).core, {}
    start, watch = copied(live_weights(model)), Watch()

    def look(step):
        seen[step] = copied(live_weights(model))

    end = on_tokens(tmp_path, watch, AnchorCallback(ResetToInit(period=2), before_jump=look), model=model, steps=4)
    assert seen.keys() == {2, 4}
    assert equal(seen[2], watch.seen[1])
    assert equal(end, start)
    assert not equal(seen[2], start)


def test_a_reference_that_nobody_uses_is_refused(start, tmp_path):
    for rule in (ExponentialAverage(), ElasticReset(kl_reference="ema"), Soup(other=start)):
        model = AutoModelForCausalLM.from_pretrained(start)
        with pytest.raises(RecipeError, match=r"give reference=trainer\.ref_model"):
            on_tokens(tmp_path, AnchorCallback(rule), model=model)
    with pytest.raises(RecipeError, match="no adapter 'ref'"):
        on_tokens(tmp_path, AnchorCallback(ExponentialAverage(), reference="ref"))


def test_the_page_s_lines_run(start, tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "anchors.md").read_text(encoding="utf-8")
    lines = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(lines) == 2
    made = []
    for block in lines:

        def callbacks(trainer, block=block):
            names = {"trainer": trainer}
            exec(block, names)
            made.append(names["anchor"])
            return []

        rloo(tmp_path, start, callbacks)
    assert [type(callback.anchor) for callback in made] == [ElasticReset, ExponentialAverage]
    assert all(callback.state is not None for callback in made)
