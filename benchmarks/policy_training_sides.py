"""Both sides of the policy benchmark: what they train, their clocks, and one set of samples given to both."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import small_models
import training

RLOO_KL, GRPO_KL = 0.05, 0.04
NEW_TOKENS = 64
SEED = 0
PARTS = ("generate", "score", "own log-probs", "reference", "train")


def prepare(folder: Path, *, size: str, prompts: int, tokens: int) -> dict[str, float]:
    """A random policy, a random reward model of its shape, and prompts of made-up words.

    Args:
        folder: Where they go.
        size: Name of the models' size.
        prompts: How many prompts.
        tokens: Their mean length; lengths are spread evenly over 0.6 to 1.4 times this.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    draw = np.random.default_rng(SEED)
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
    words = ["".join(draw.choice(syllables, draw.integers(2, 5))) for _ in range(20_000)]
    small_models.reward_model(folder / "reward", size, [" ".join(words)])
    tokenizer = AutoTokenizer.from_pretrained(folder / "reward")
    if len(tokenizer) != small_models.SIZES[size]["vocab_size"]:
        raise SystemExit(f"the tokenizer has {len(tokenizer)} tokens, so the policy would draw some that it lacks")
    made = [_prompt(tokenizer, draw.permutation(words), int(draw.uniform(0.6, 1.4) * tokens)) for _ in range(prompts)]
    (folder / "prompts.json").write_text(json.dumps(made))
    torch.manual_seed(SEED + 1)
    policy = LlamaForCausalLM(AutoConfig.from_pretrained(folder / "reward"))
    policy.save_pretrained(folder / "policy")
    tokenizer.save_pretrained(folder / "policy")
    lengths = [len(ids) for ids in tokenizer(made)["input_ids"]]
    return {"parameters": policy.num_parameters(), "prompt_tokens": float(np.mean(lengths)), "longest": max(lengths)}


def _prompt(tokenizer: Any, words: Any, tokens: int) -> str:
    """Words until there are so many tokens."""
    chosen = [" " + word for word in words[:tokens]]
    upto = np.cumsum([len(ids) for ids in tokenizer(chosen)["input_ids"]])
    return "".join(chosen[: int(np.searchsorted(upto, tokens)) + 1]).strip() + "?"


class Clock:
    """Seconds and processor seconds of whole optimiser steps and of their parts, and what the trainers log."""

    def __init__(self) -> None:
        from transformers import TrainerCallback

        clock = self
        self.steps: list[dict[str, list[float]]] = []
        self.logs: list[dict[str, float]] = []
        self._parts: dict[str, np.ndarray] = {}
        self._since: np.ndarray | None = None

        class Callback(TrainerCallback):
            def on_step_begin(self, args, state, control, **_):
                if clock._since is None:
                    clock._since = _now()

            def on_step_end(self, args, state, control, **_):
                now = _now()
                whole = {"step": now - clock._since} | clock._parts
                clock.steps.append({name: spent.tolist() for name, spent in whole.items()})
                clock._parts, clock._since = {}, now

            def on_log(self, args, state, control, logs=None, **_):
                if "completions/mean_length" in (logs or {}):
                    kept = ("loss", "reward", "completions/mean_length")
                    clock.logs.append({name: float(logs[name]) for name in kept if name in logs})

        self.callback = Callback()

    def time(self, owner: object, method: str, part: str | Callable[..., str | None]) -> None:
        """From now on, the time in a method counts as a part of the step; the part may depend on the call."""
        original = getattr(owner, method)

        def timed(*args: Any, **named: Any) -> Any:
            name = part if isinstance(part, str) else part(*args, **named)
            start = _now()
            result = original(*args, **named)
            if name is not None:
                self._parts[name] = self._parts.get(name, np.zeros(2)) + _now() - start
            return result

        setattr(owner, method, timed)


def _now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def prompts_in_order(folder: Path, request: dict[str, Any]) -> list[str]:
    """The prompts as our trainer comes to them, so that both sides' steps have the same ones."""
    from trueup.train.prompt_order import Rhythm, prompts_of

    made = json.loads((folder / "prompts.json").read_text())
    rhythm = Rhythm(prompts=request["prompts"], samples=request["samples"])
    numbers = [prompts_of(step, total=len(made), rhythm=rhythm, seed=SEED) for step in range(request["steps"])]
    return [made[i] for step in numbers for i in step]


def arguments(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    changes = {"learning_rate": 1e-6, "max_steps": request["steps"], "seed": SEED, "logging_steps": 1}
    return training.arguments(request, folder) | changes


def trueup_trainer(folder: Path, request: dict[str, Any], *, policy: str = "policy", clock: Clock | None = None) -> Any:
    """OnlineTrainer with the reward model, the start as reference, and RLOO or GRPO."""
    from transformers import TrainingArguments

    from trueup.data.templates import TextFormat
    from trueup.models.checkpoints import Checkpoint, load_reward_model
    from trueup.models.picking import Sampling
    from trueup.models.policy_checkpoints import new_policy
    from trueup.models.tokenizers import load_tokenizer
    from trueup.objectives import GRPO, RLOO, ForwardKLk3
    from trueup.rewards.model import ModelReward
    from trueup.train.online_trainer import OnlineTrainer
    from trueup.train.prompt_order import Rhythm
    from trueup.train.references import ModelReference

    # As TRL does it: the prompt and the response one after the other, no special tokens, none at the end.
    form = TextFormat(kind="plain", special_tokens=False, append_eos=False)
    tokenizer = load_tokenizer(folder / "policy")
    judge = load_reward_model(folder / "reward")
    rloo = request["method"] == "rloo"
    budget = request.get("token_budget", 16_384)
    return OnlineTrainer(
        new_policy(folder / policy, tokenizer=tokenizer),
        TrainingArguments(remove_unused_columns=False, **arguments(request, folder)),
        prompts=json.loads((folder / "prompts.json").read_text()),
        reward=ModelReward(
            checkpoint=Checkpoint(judge.model, judge.tokenizer, form), name="judge", token_budget=budget
        ),
        terms=[RLOO()] if rloo else [GRPO(), ForwardKLk3(coefficient=GRPO_KL)],
        rhythm=Rhythm(prompts=request["prompts"], samples=request["samples"]),
        sampling=Sampling(max_new_tokens=request["new_tokens"]),
        tokenizer=tokenizer,
        form=form,
        token_budget=budget,
        reference=ModelReference(new_policy(folder / "policy", tokenizer=tokenizer), token_budget=budget),
        kl_coefficient=RLOO_KL if rloo else 0.0,
        callbacks=[clock.callback] if clock else [],
    )


def train_trueup(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    from trueup.train.branch_trainer import BranchTrainer

    clock = Clock()
    trainer = trueup_trainer(folder, request, clock=clock)
    collector = trainer.collector
    clock.time(collector, "_draw", "generate")
    clock.time(collector, "_score", "score")
    clock.time(collector, "_own_logprobs", "own log-probs")
    clock.time(collector.reference, "logprobs", "reference")
    # The base class's step is forward and backward alone; the online trainer draws first.
    clock.time(BranchTrainer, "training_step", "train")
    before = harness.peak_memory()
    trainer.train()
    return {"steps": clock.steps, "logs": clock.logs, "loaded_mib": before}


def trl_trainer(folder: Path, request: dict[str, Any], *, policy: str = "policy", clock: Clock | None = None) -> Any:
    """TRL's trainer of the same method with the same settings."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    rloo = request["method"] == "rloo"
    build, settings = (RLOOTrainer, RLOOConfig) if rloo else (GRPOTrainer, GRPOConfig)
    total = request["prompts"] * request["samples"]
    each = request.get("per_pass") or total
    own = {} if rloo else {"loss_type": "grpo"}
    args = settings(
        per_device_train_batch_size=each,
        gradient_accumulation_steps=total // each,
        num_generations=request["samples"],
        max_completion_length=request["new_tokens"],
        beta=RLOO_KL if rloo else GRPO_KL,
        gradient_checkpointing=request.get("checkpointing", False),
        shuffle_dataset=False,
        **own,
        **arguments(request, folder),
    )
    model = AutoModelForCausalLM.from_pretrained(folder / policy)
    model.config._name_or_path = str(folder / "policy")  # where TRL loads the reference from
    return build(
        model,
        AutoModelForSequenceClassification.from_pretrained(folder / "reward", num_labels=1),
        args,
        train_dataset=Dataset.from_dict({"prompt": prompts_in_order(folder, request)}),
        processing_class=AutoTokenizer.from_pretrained(folder / "policy"),
        callbacks=[clock.callback] if clock else None,
    )


def train_trl(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    import torch

    clock = Clock()
    trainer = trl_trainer(folder, request, clock=clock)

    def of_pass(model: Any, *_: Any, **__: Any) -> str | None:
        """What a pass for log-probabilities is for; the one with gradients is part of the training."""
        if torch.is_grad_enabled():
            return None
        return "reference" if model is trainer.ref_model else "own log-probs"

    clock.time(trainer, "_generate", "generate")
    clock.time(trainer, "_calculate_rewards", "score")
    clock.time(trainer, "_get_per_token_logps_and_entropies", of_pass)
    clock.time(trainer, "compute_loss", "train")
    clock.time(trainer.accelerator, "backward", "train")
    before = harness.peak_memory()
    trainer.train()
    return {"steps": clock.steps, "logs": clock.logs, "loaded_mib": before}
