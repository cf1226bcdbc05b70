from pathlib import Path

from trueup.measure.stopping import KLBudget
from trueup.recipes.watching import watch_gold
from trueup.rewards.function import FunctionReward
from trueup.train.watching import WatchSettings


class Kept:
    """What a trainer is to the monitor before it runs."""

    class args:
        output_dir = "runs/x"

    def __init__(self) -> None:
        self.callbacks: list[object] = []

    def add_callback(self, callback: object) -> None:
        self.callbacks.append(callback)


def test_the_monitor_joins_the_trainer_and_writes_beside_it(tmp_path: Path) -> None:
    trainer, rule, proxy = Kept(), KLBudget(3.0), FunctionReward(lambda prompts, completions: [], name="p")
    made = watch_gold(
        trainer, lambda p, c, *, seed: [], ["q"], proxy=proxy, rules=(rule,), settings=WatchSettings(every=7)
    )
    assert trainer.callbacks == [made]
    assert (made.folder, made.rules, made.gold, made.settings.every) == (Path("runs/x"), (rule,), None, 7)
    assert watch_gold(Kept(), lambda p, c, *, seed: [], ["q"], proxy=proxy, folder=tmp_path).folder == tmp_path
