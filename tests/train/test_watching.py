import contextlib
import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from tiny_models import make_tokenizer
from trueup.data.watched import Watched, read_points
from trueup.errors import NonFiniteError, RecipeError
from trueup.measure.stopping import GoldPeaked, KLBudget
from trueup.measure.watch_metrics import watch_metrics
from trueup.policies.base import Sample
from trueup.rewards.function import FunctionReward
from trueup.train.callbacks import MetricsFile
from trueup.train.model_sampling import ModelSampler, StartedSample, frozen_copy
from trueup.train.watching import GoldMonitor, WatchSettings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PROMPTS = tuple(f"prompt {k}" for k in range(12))


class Line(torch.nn.Module):
    """One weight that every step moves by one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": -self.weight.sum() + 0 * x.sum()}


class Reading:
    """A policy that says where the weight is; KL grows by 0.5 nats a unit of weight."""

    def __init__(self, model: Line) -> None:
        self.model, self.calls = model, []

    def __call__(self, prompts: object, count: int, *, seed: int) -> list[list[Sample]]:
        at = round(float(self.model.weight.detach()), 3)
        self.calls.append((at, seed))
        return [
            [
                StartedSample(text=f"{at} {k} {j}", tokens=3 + j, finished=j == 0, logprob=0.5 * at, start_logprob=0.0)
                for j in range(count)
            ]
            for k in range(len(prompts))
        ]


def height(prompts: list[str], completions: list[str]) -> list[float]:
    return [float(text.split()[0]) for text in completions]


def hill(prompts: list[str], completions: list[str]) -> list[float]:
    """Rises to 6 and falls; prompts and samples differ a little."""
    parts = [text.split() for text in completions]
    return [6 - abs(6 - float(at)) + 0.01 * int(k) + 0.02 * int(j) for at, k, j in parts]


def train(folder: Path, *, steps: int = 12, rules: tuple = (), resume: bool = False, gold=hill, **settings: object):
    model = Line()
    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=1.0,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        save_strategy="steps",
        save_steps=5,
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        per_device_train_batch_size=1,
        dataloader_pin_memory=False,
    )
    data = Dataset.from_list([{"x": [float(i)]} for i in range(64)]).with_format("torch")
    trainer = Trainer(model, args, train_dataset=data, callbacks=[MetricsFile(folder / "metrics.jsonl")])
    reading = Reading(model)
    monitor = GoldMonitor(
        reading,
        PROMPTS,
        proxy=FunctionReward(height, name="height"),
        gold=None if gold is None else FunctionReward(gold, name="hill"),
        folder=folder,
        settings=WatchSettings(**{"every": 2, "samples": 2, **settings}),
        rules=rules,
        metrics=watch_metrics,
    ).attach(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, monitor, reading


def test_what_a_watched_run_leaves(tmp_path: Path) -> None:
    _, monitor, reading = train(tmp_path)
    points = read_points(tmp_path / "watch.jsonl")
    assert [one.step for one in points] == [0, 2, 4, 6, 8, 10, 12]
    assert points == tuple(monitor.points)
    assert {seed for _, seed in reading.calls} == {0}
    watched = monitor.watched
    assert watched.mean_kl == pytest.approx([0, 1, 2, 3, 4, 5, 6])
    assert watched.by_prompt("proxy").mean(axis=1) == pytest.approx([0, 2, 4, 6, 8, 10, 12])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    seen = [line for line in lines if "watch/gold" in line]
    assert [line["step"] for line in seen] == [0, 2, 4, 6, 8, 10, 12]
    expected = 6 - abs(6 - np.array([0, 2, 4, 6, 8, 10, 12])) + 0.055 + 0.01
    assert [line["watch/gold"] for line in seen] == pytest.approx(expected)
    assert all(line["watch/gold_low"] < line["watch/gold"] < line["watch/gold_high"] for line in seen)
    assert seen[3]["watch/kl"] == pytest.approx(3)
    assert seen[3]["watch/length"] == pytest.approx(3.5)
    assert seen[3]["watch/ended"] == pytest.approx(0.5)
    assert {"watch/proxy", "watch/distinct_2", "watch/repetition"} <= set(seen[3])


def test_the_best_checkpoint_is_saved_and_kept_from_rotation(tmp_path: Path) -> None:
    train(tmp_path, steps=14, every=3)
    best = json.loads((tmp_path / "best.json").read_text())
    assert best == {"step": 6, "gold": pytest.approx(6.065), "checkpoint": "checkpoint-6"}
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert "checkpoint-6" in kept
    assert len(kept) == 2
    assert not (tmp_path / "stopped.json").exists()


def test_a_rule_stops_the_run_and_says_why(tmp_path: Path) -> None:
    trainer, _, _ = train(tmp_path, rules=(KLBudget(100), GoldPeaked(patience=1)), steps=40)
    assert trainer.state.global_step == 8
    found = json.loads((tmp_path / "stopped.json").read_text())
    assert (found["step"], found["rule"]) == (8, "GoldPeaked")
    assert "peaked near step 6" in found["reason"]


def test_without_gold_a_budget_still_stops_and_nothing_is_best(tmp_path: Path) -> None:
    trainer, monitor, _ = train(tmp_path, rules=(KLBudget(2.0),), gold=None)
    assert trainer.state.global_step == 4
    assert monitor.watched.gold is None
    assert not (tmp_path / "best.json").exists()


def test_a_resumed_run_has_the_history_of_one_that_never_stopped(tmp_path: Path) -> None:
    train(tmp_path / "whole", steps=12, keep_best=False)
    train(tmp_path / "cut", steps=7, keep_best=False)
    path = tmp_path / "cut" / "watch.jsonl"
    assert [one.step for one in read_points(path)] == [0, 2, 4, 6, 7]
    shutil.rmtree(tmp_path / "cut" / "checkpoint-7")  # as if it had been killed after step 7
    train(tmp_path / "cut", steps=12, keep_best=False, resume=True)
    assert read_points(path) == read_points(tmp_path / "whole" / "watch.jsonl")


def test_watching_changes_no_weight_and_no_random_number(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny_llama()
    sampler = ModelSampler(model=model, tokenizer=tokenizer(), max_new_tokens=5)
    model.train()
    model.model.layers[0].eval()
    before, state = {n: p.clone() for n, p in model.named_parameters()}, torch.random.get_rng_state()
    sampler.sample(["What is", "Name three fruits."], 2, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert not model.model.layers[0].training
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


def test_a_score_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?i)nan|finite") as found:
        train(tmp_path, gold=lambda prompts, completions: [float("nan")] * len(completions))
    assert isinstance(found.value, (NonFiniteError, ValueError))


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="every and samples"):
        WatchSettings(every=0)
    with pytest.raises(RecipeError, match="no prompt to watch"):
        GoldMonitor(lambda p, c, seed: [], (), proxy=FunctionReward(height, name="h"), folder=tmp_path)


def test_kl_from_separate_log_probabilities(tmp_path: Path) -> None:
    def plain(prompts: object, count: int, *, seed: int) -> list[list[Sample]]:
        return [[Sample(text="1 0 0", tokens=1, logprob=-3.0)] * count for _ in prompts]

    made = {"proxy": FunctionReward(height, name="h"), "folder": tmp_path}
    monitor = GoldMonitor(plain, PROMPTS, reference=lambda p, s: [[-5.0] * 2 for _ in p], **made)
    assert monitor._kl(plain(PROMPTS, 2, seed=0)) == ((2.0, 2.0),) * 12
    monitor = GoldMonitor(plain, PROMPTS, **made)
    assert monitor._kl(plain(PROMPTS, 2, seed=0)) is None
    both = GoldMonitor(
        plain,
        PROMPTS,
        logprob=lambda p, s: [[-1.0] * 2 for _ in p],
        reference=lambda p, s: [[-5.0] * 2 for _ in p],
        **made,
    )
    assert both._kl(plain(PROMPTS, 2, seed=0)) == ((4.0, 4.0),) * 12


def tokenizer():
    made = make_tokenizer(eos="</s>", pad="<pad>")
    made.padding_side = "left"
    return made


def tiny_llama():
    from transformers import AutoConfig, AutoModelForCausalLM

    from tiny_models import GROUPED

    words = tokenizer()
    settings = {**GROUPED, "vocab_size": len(words), "pad_token_id": words.pad_token_id}
    config = AutoConfig.for_model("llama", **settings, eos_token_id=words.eos_token_id, bos_token_id=None)
    return AutoModelForCausalLM.from_config(config)


def test_log_probabilities_of_drawn_responses_are_those_of_a_plain_pass() -> None:
    torch.manual_seed(0)
    model, words = tiny_llama(), tokenizer()
    start = frozen_copy(model)
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(model.parameters(), start.parameters(), strict=True))
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    sampler = ModelSampler(model=model, tokenizer=words, start=start, max_new_tokens=6, batch_size=3)
    prompts = ["What is the capital of France?", "Name", "How do I boil an egg?"]
    drawn = sampler.sample(prompts, 3, seed=1)
    assert drawn == sampler.sample(prompts, 3, seed=1)
    assert drawn != sampler.sample(prompts, 3, seed=2)
    with plain_bytes(words):
        drawn = sampler.sample(prompts, 3, seed=1)
    for prompt, group in zip(prompts, drawn, strict=True):
        asked = words(prompt)["input_ids"]
        for one in group:
            reply = [int(number) for number in one.text.split()]
            assert len(reply) == one.tokens
            assert one.finished == (reply[-1] == words.eos_token_id)
            for net, told in ((model, one.logprob), (start, one.start_logprob)):
                with torch.no_grad():
                    logits = net(torch.tensor([asked + reply])).logits[0].log_softmax(-1)
                places = torch.arange(len(asked) - 1, len(asked) + len(reply) - 1)
                assert told == pytest.approx(float(logits[places, reply].sum()), abs=1e-4)


@contextlib.contextmanager
def plain_bytes(words):
    """A tokenizer whose decoding shows the tokens themselves, as random bytes are no text."""
    words.decode = lambda ids, **_: " ".join(str(int(i)) for i in ids)
    yield
    del words.decode


def test_kl_of_the_start_is_zero() -> None:
    torch.manual_seed(0)
    model = tiny_llama()
    sampler = ModelSampler(model=model, tokenizer=tokenizer(), start=frozen_copy(model), max_new_tokens=6)
    for one in sampler.sample(["What is"], 4, seed=0)[0]:
        assert one.logprob == one.start_logprob
        assert 1 <= one.tokens <= 6


class Steps(TrainerCallback):
    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args, state, control, logs=None, **_) -> None:
        self.logs.append(dict(logs))


def test_three_steps_of_trl_s_rloo_are_watched(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trl = pytest.importorskip("trl")
        torch.manual_seed(0)
        model, words = tiny_llama(), tokenizer()
        args = trl.RLOOConfig(
            output_dir=str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=8,
            learning_rate=1e-2,
            beta=0.0,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
        )

        def vowels(completions: list[str], **_: object) -> list[float]:
            return [float(sum(letter in "aeiou" for letter in text)) for text in completions]

        train_data = Dataset.from_list([{"prompt": f"Name {k} fruits."} for k in range(12)])
        steps = Steps()
        trainer = trl.RLOOTrainer(
            model, reward_funcs=vowels, args=args, train_dataset=train_data, processing_class=words, callbacks=[steps]
        )
        sampler = ModelSampler(model=trainer.model, tokenizer=words, start=frozen_copy(model), max_new_tokens=8)
        score = FunctionReward(lambda prompts, completions: vowels(completions), name="vowels")
        length = FunctionReward(lambda prompts, completions: [-float(len(c)) for c in completions], name="short")
        monitor = GoldMonitor(
            sampler.sample,
            ["How do I boil", "What is the"],
            proxy=score,
            gold=length,
            folder=tmp_path,
            settings=WatchSettings(every=1, samples=3, keep_best=False),
            rules=(KLBudget(1e6),),
            metrics=watch_metrics,
        ).attach(trainer)
        trainer.train()
    watched: Watched = monitor.watched
    assert watched.steps.tolist() == [0, 1, 2, 3]
    assert watched.kl[0] == pytest.approx(0, abs=1e-5)
    assert np.abs(watched.kl[3]).max() > 1e-3
    seen = [line for line in steps.logs if "watch/gold" in line]
    assert len(seen) == 4
    assert all("reward" not in line for line in seen)
    assert sum("reward" in line for line in steps.logs) == 3
