"""The gold monitor with all it needs, in one call: for our own runs and for any trainer built on transformers'."""

from collections.abc import Sequence
from pathlib import Path

from transformers import Trainer

from trueup.data.rows import Prompt
from trueup.measure.stopping import StopRule
from trueup.measure.watch_metrics import watch_metrics
from trueup.rewards.base import Reward
from trueup.train.watching import GoldMonitor, SampleFunction, WatchSettings

__all__ = ["watch_gold"]


def watch_gold(
    trainer: Trainer,
    sample: SampleFunction,
    prompts: Sequence[Prompt],
    *,
    proxy: Reward,
    gold: Reward | None = None,
    folder: str | Path | None = None,
    settings: WatchSettings | None = None,
    rules: Sequence[StopRule] = (),
) -> GoldMonitor:
    """Watch a trainer's run and log `watch/...` through it.

    Args:
        trainer: Any trainer built on transformers', TRL's included.
        sample: Draws from its policy, such as `ModelSampler(...).sample`.
        prompts: Held-out prompts; never train on them.
        proxy: What is optimised.
        gold: What judges; None watches without.
        folder: Where `watch.jsonl` goes; the trainer's output folder when None.
        settings: How often, how many.
        rules: Reasons to stop, such as `KLBudget(10)` and `GoldPeaked()`.
    """
    place = Path(folder if folder is not None else trainer.args.output_dir)
    monitor = GoldMonitor(
        sample, prompts, proxy=proxy, gold=gold, folder=place, settings=settings, rules=rules, metrics=watch_metrics
    )
    return monitor.attach(trainer)
