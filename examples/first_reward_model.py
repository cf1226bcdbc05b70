"""From generated preferences to a reward model and a verdict, in about a minute on a laptop.

python examples/first_reward_model.py [FOLDER]
"""

import sys
from pathlib import Path

from trueup import AuditReward, BatchSumToZero, DataRecipe, TrainReward, World, audit_reward, train_reward
from trueup.data.rows import prompt_text
from trueup.data.writing import write_rows
from trueup.lab.scale_models import Shape, write_scale_model


def main(folder: Path, *, prompts: int = 1000) -> str:
    """Train on one pair a prompt, audit on new answers and on new prompts by new writers."""
    splits = World(seed=0).four_shifts(prompts, held_out=100)
    for name, rows in splits.items():
        write_rows(rows[:prompts], folder / f"{name}.jsonl")

    # A tiny Llama of our own; with a pretrained model its name goes into `model` and from_scratch away.
    texts = [f"{prompt_text(row.prompt)}\n{r.text}" for row in splits["train"] for r in row.responses]
    write_scale_model(folder / "base", texts, shape=Shape(width=64, layers=2))

    run = train_reward(
        TrainReward(
            model=str(folder / "base"),
            from_scratch=True,
            output=folder / "run",
            data=DataRecipe(train=str(folder / "train.jsonl"), max_length=512),
            regularizer=BatchSumToZero(coefficient=1e-2),
            learning_rate=2e-3,
            batch_size=32,
        )
    )
    audit = audit_reward(
        AuditReward(
            models=[f"first={run.model}"],
            data={name: str(folder / f"{name}.jsonl") for name in ("in_domain", "mutual_disjoint")},
            output=folder / "audit",
            limit=100,
        )
    )
    return audit.summary()


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "first_reward_model")))
