"""Watching gold while a policy is optimised: a callback for every trainer built on transformers', TRL's included.

Every so many steps the policy answers the same held-out prompts, which it is never trained on. What it says is scored
by proxy and gold and written to `watch.jsonl`; rules look at the history and may stop the run; the best checkpoint by
gold is saved and kept.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trueup.data.rows import Prompt, prompt_text
from trueup.data.watched import Table, Watched, WatchedPoint, append_point, history, read_points, write_points
from trueup.errors import NonFiniteError, RecipeError
from trueup.files import write_text
from trueup.policies.base import Sample
from trueup.rewards.base import Reward
from trueup.train.devices import failing_together

logger = logging.getLogger(__name__)

Rule = Callable[[Watched], str | None]
"""From the history to a reason to stop now, or None; see `trueup.measure.stopping`."""

Logprob = Callable[[Sequence[Prompt], Sequence[Sequence[Sample]]], Sequence[Sequence[float]]]
"""Log-probability of each response, in nats, summed over its tokens."""


class SampleFunction(Protocol):
    """Draws responses of the policy as it is now, such as `ModelSampler.sample` or `ModelPolicy.sample`."""

    def __call__(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> Sequence[Sequence[Sample]]:
        """`count` responses to each prompt."""
        ...


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """How a run is watched.

    Args:
        every: Optimiser steps between two looks; the start and the end are always looked at.
        samples: Responses to each prompt.
        seed: Seed of the responses, the same each time: what changes is then the policy.
        keep_best: Save a checkpoint whenever gold is at its best so far, and keep it.
    """

    every: int = 50
    samples: int = 4
    seed: int = 0
    keep_best: bool = True

    def __post_init__(self) -> None:
        if self.every < 1 or self.samples < 1:
            raise RecipeError(f"every and samples must be at least 1, got {self.every} and {self.samples}")


class GoldMonitor(TrainerCallback):
    """Watches a run, stops it where a rule says so, and remembers its best checkpoint by gold.

    Files in `folder`: `watch.jsonl` (one line a look), `best.json` (step, gold, checkpoint) and `stopped.json` (step,
    rule, reason). A resumed run goes on from what its checkpoint knew.

    KL needs the log-probability of each response under the initial policy: from samples that say it (`ModelSampler`),
    or from `reference`. That under the policy is the samples' own, or comes from `logprob`. Without them KL is unknown.

    Args:
        sample: Draws from the policy.
        prompts: Held-out prompts; never train on them.
        proxy: What is optimised.
        folder: The run's folder.
        gold: What judges; None watches without.
        settings: How often, how many.
        rules: Reasons to stop.
        metrics: From a history to the numbers to log of its last point, such as `watch_metrics`.
        logprob: Log-probabilities under the policy.
        reference: Log-probabilities under the initial policy.
    """

    def __init__(
        self,
        sample: SampleFunction,
        prompts: Sequence[Prompt],
        *,
        proxy: Reward,
        folder: str | Path,
        gold: Reward | None = None,
        settings: WatchSettings | None = None,
        rules: Sequence[Rule] = (),
        metrics: Callable[[Watched], Mapping[str, float]] | None = None,
        logprob: Logprob | None = None,
        reference: Logprob | None = None,
    ) -> None:
        if not prompts:
            raise RecipeError("there is no prompt to watch; name some that are held out")
        self.sample, self.prompts = sample, tuple(prompts)
        self.proxy, self.gold = proxy, gold
        self.folder, self.settings = Path(folder), settings or WatchSettings()
        self.rules, self.metrics = tuple(rules), metrics
        self.logprob, self.reference = logprob, reference
        self.points: list[WatchedPoint] = []
        self._looked = -1
        self._log: Callable[[dict[str, float]], None] | None = None

    def attach(self, trainer: Trainer) -> "GoldMonitor":
        """Join a trainer, and log through it: progress bar, `metrics.jsonl` and trackers then show `watch/...`."""
        trainer.add_callback(self)
        # the base method: TRL's own empties the means that it has gathered since its last line
        self._log = lambda values: Trainer.log(trainer, values)
        return self

    @property
    def watched(self) -> Watched:
        """The history so far."""
        return history(self.points)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take up what a resumed run's checkpoint knew, and look at the policy before its first step."""
        path = self.folder / "watch.jsonl"
        self.points = [point for point in _read(path) if point.step <= state.global_step] if state.global_step else []
        if state.is_world_process_zero:
            write_points(path, self.points)
            (self.folder / "stopped.json").unlink(missing_ok=True)
            if not self.points:
                (self.folder / "best.json").unlink(missing_ok=True)
        self._looked = self.points[-1].step if self.points else -1
        # A look that failed ended the run before its step could be looked at.
        missed = state.global_step % self.settings.every == 0 and self._looked < state.global_step
        if not self.points or missed:
            self._look(args, state, control)
        elif self._looked == state.global_step:
            self._stop(state, control, _from_first_process({"reason": self._reason()})["reason"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look every so many steps."""
        if state.global_step % self.settings.every == 0:
            self._look(args, state, control)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at the policy that is left."""
        if self._looked < state.global_step:
            self._look(args, state, control, at_end=True)

    def _look(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, at_end: bool = False
    ) -> None:
        with failing_together():
            samples = self.sample(self.prompts, self.settings.samples, seed=self.settings.seed)
            kl = self._kl(samples)
            self._looked = state.global_step
            if state.is_world_process_zero:
                self.points.append(self._point(state.global_step, samples, kl))
        decided: dict[str, Any] = {}
        if state.is_world_process_zero:
            append_point(self.folder / "watch.jsonl", self.points[-1])
            decided = {"best": self._is_best(), "reason": self._reason()}
        decided = _from_first_process(decided)
        if decided["best"]:
            self._keep(args, state, control, at_end=at_end)
        if self._log is not None:
            values = dict(self.metrics(self.watched)) if self.metrics and state.is_world_process_zero else {}
            # a line logged counts as the step's own, which may still be due
            due = control.should_log
            self._log(values)
            control.should_log = due
        if not at_end:
            self._stop(state, control, decided["reason"])

    def _point(self, step: int, samples: Sequence[Sequence[Sample]], kl: Table | None) -> WatchedPoint:
        texts = tuple(tuple(one.text for one in group) for group in samples)
        return WatchedPoint(
            step=step,
            prompts=tuple(prompt_text(prompt) for prompt in self.prompts),
            responses=texts,
            proxy=self._score(self.proxy, texts, step=step),
            gold=None if self.gold is None else self._score(self.gold, texts, step=step),
            kl=kl,
            tokens=tuple(tuple(float(one.tokens) for one in group) for group in samples),
            ended=tuple(tuple(float(one.finished) for one in group) for group in samples),
        )

    def _score(self, reward: Reward, texts: Sequence[Sequence[str]], *, step: int) -> Table:
        scores = [tuple(map(float, group)) for group in reward.score(self.prompts, texts).grouped()]
        bad = [k for k, group in enumerate(scores) if not np.all(np.isfinite(group))]
        if bad:
            prompt = prompt_text(self.prompts[bad[0]])[:80]
            raise NonFiniteError(f"{reward.name} is not finite at step {step}, on the watched prompt {prompt!r}")
        return tuple(scores)

    def _kl(self, samples: Sequence[Sequence[Sample]]) -> Table | None:
        own = [[one.logprob for one in group] for group in samples]
        start: Any = [[getattr(one, "start_logprob", None) for one in group] for group in samples]
        if self.logprob is not None:
            own = [list(group) for group in self.logprob(self.prompts, samples)]
        if self.reference is not None:
            start = self.reference(self.prompts, samples)
        if any(value is None for table in (own, start) for group in table for value in group):
            if self._looked < 0:
                logger.warning("the watched KL is unknown: give `reference`, or samples with start_logprob")
            return None
        return tuple(
            tuple(float(a) - float(b) for a, b in zip(now, then, strict=True))  # type: ignore[arg-type]
            for now, then in zip(own, start, strict=True)
        )

    def _means(self) -> np.ndarray:
        return np.array([np.nan if point.gold is None else np.mean(point.gold) for point in self.points])

    def _is_best(self) -> bool:
        means = self._means()
        return self.settings.keep_best and self.gold is not None and bool(np.nanargmax(means) == len(means) - 1)

    def _reason(self) -> tuple[str, str] | None:
        """The first rule that wants to stop after the last point, and why."""
        found = ((type(rule).__name__, rule(self.watched)) for rule in self.rules)
        return next(((name, reason) for name, reason in found if reason is not None), None)

    def _keep(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, at_end: bool) -> None:
        """Have this step saved; rotation spares what the trainer's state calls its best checkpoint."""
        place = None
        if state.global_step > 0 and not at_end:
            control.should_save = True
            place = f"checkpoint-{state.global_step}"
            if args.metric_for_best_model is None:
                state.best_model_checkpoint = str(Path(args.output_dir or ".") / place)
        if state.is_world_process_zero:
            values = {"step": state.global_step, "gold": float(self._means()[-1]), "checkpoint": place}
            write_text(self.folder / "best.json", json.dumps(values) + "\n")

    def _stop(self, state: TrainerState, control: TrainerControl, found: tuple[str, str] | None) -> None:
        """End the run where a rule wants it to, and write down why."""
        if found is None:
            return
        control.should_training_stop = True
        if state.is_world_process_zero:
            rule, reason = found
            logger.warning("stopped at step %d: %s", state.global_step, reason)
            values = {"step": state.global_step, "rule": rule, "reason": reason}
            write_text(self.folder / "stopped.json", json.dumps(values, ensure_ascii=False) + "\n")


def _read(path: Path) -> tuple[WatchedPoint, ...]:
    return read_points(path) if path.is_file() else ()


def _from_first_process(values: dict[str, Any]) -> dict[str, Any]:
    """What the first of several processes decided, so that all of them stop at the same step."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    shared = [values]
    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]
