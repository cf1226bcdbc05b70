"""What an ensemble costs: five members trained together.

    python benchmarks/ensembles.py [--quick] [--json FILE] [--only heads lora lora_bt]

Trained on HH pairs (16 a step, at most 1024 tokens) with Bradley-Terry and BSR, 5 million parameters, 5 layers.
`heads` trains five heads on one trunk, each on its own bootstrap of the rows, against one reward model; the claim is at
most 1.3 times its time. `lora` trains five adapters of the top two layers in one pass, against five trainings of one
such PEFT adapter, and `lora_bt` does so without BSR, whose batch statistics cost members an extra pass; the claim is
less than the time of those.
"""

import json
import sys
import tempfile
from pathlib import Path

import harness
from reward_training_sides import HH_STEP, prepare_case
from training import Clock, arguments

MEMBERS, LAYERS = 5, 2
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# What each case is held against, how many runs of that, and the largest ratio that the claim allows.
CASES = {"heads": ("one", 1, 1.3), "lora": ("one adapter", MEMBERS, 1.0), "lora_bt": ("one adapter", MEMBERS, 1.0)}


def worker(request: dict) -> dict:
    """One measurement, in a process of its own."""
    import torch
    from transformers import TrainingArguments

    from trueup.data.branches import join
    from trueup.data.templates import TextFormat
    from trueup.models.checkpoints import load_reward_model
    from trueup.objectives import BatchSumToZero, BradleyTerry

    torch.set_num_threads(request["threads"])
    folder = Path(request["folder"])
    rows = json.loads((folder / "rows.json").read_text())
    trees = [join(r["sequences"], pairs=[tuple(p) for p in r["pairs"]], index=i) for i, r in enumerate(rows)]
    loaded = load_reward_model(folder / "model")
    build, model = trainer_of(request["side"], loaded.model)
    clock = Clock()
    trainer = build(
        model,
        TrainingArguments(
            per_device_train_batch_size=request["step"], remove_unused_columns=False, **arguments(request, folder)
        ),
        terms=[BradleyTerry()] if request["case"] == "lora_bt" else [BradleyTerry(), BatchSumToZero()],
        train_dataset=trees,
        tokenizer=loaded.tokenizer,
        form=TextFormat(kind="chat", special_tokens=True, append_eos=True),
        token_budget=16_384,
        callbacks=[clock.callback],
    )
    trainer.train()
    return {"seconds": clock.seconds, "losses": clock.losses, "peak_mib": harness.peak_memory()}


def trainer_of(side: str, model):
    from functools import partial

    import torch
    from peft import LoraConfig

    from trueup.models import adapters
    from trueup.models.heads.ensemble import with_heads
    from trueup.models.lora_members import with_lora_members
    from trueup.models.reward import RewardModel
    from trueup.train.ensemble_step import Bootstrap
    from trueup.train.ensemble_trainer import EnsembleTrainer
    from trueup.train.lora_trainer import LoraEnsembleTrainer
    from trueup.train.reward_trainer import RewardTrainer

    generator, bootstrap = torch.Generator().manual_seed(0), Bootstrap(seed=0, members=MEMBERS)
    depth = model.config.num_hidden_layers
    if side == "one":
        return RewardTrainer, model
    if side == "heads":
        return partial(EnsembleTrainer, bootstrap=bootstrap), with_heads(model, MEMBERS, generator=generator)
    top = list(range(depth - LAYERS, depth))
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=LINEAR, layers_to_transform=top)
    one = RewardModel(adapters.with_lora(model.core, lora, fresh={"score.weight"}))
    if side == "one adapter":
        return RewardTrainer, one
    members = with_lora_members(one, MEMBERS, layers=LAYERS, generator=generator)
    return partial(LoraEnsembleTrainer, bootstrap=bootstrap), members


def run(case: str, options) -> dict:
    steps = 4 if options.quick else 8
    repeats = options.repeats or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = prepare_case("5m", folder, steps=steps)
        request = {"folder": name, "step": HH_STEP, "threads": options.threads, "case": case}

        def side(label):
            return lambda: harness.in_process(Path(__file__), request | {"side": label}, threads=options.threads)

        against, runs_of_it, limit = CASES[case]
        results = harness.alternate({against: side(against), case: side(case)}, repeats=repeats)
    # The first step pays for the first call of every kernel.
    seconds = {name: [harness.median(r["seconds"][1:]) for r in runs] for name, runs in results.items()}
    pairs = zip(seconds[against], seconds[case], strict=True)
    ratio = harness.median([ours / (runs_of_it * other) for other, ours in pairs])
    claim = f"{case}: at most {limit} times {runs_of_it} x {against}"
    return {
        "case": case,
        "ratio": ratio,
        "median_step_seconds": {name: harness.median(values) for name, values in seconds.items()},
        "peak_mib": {name: harness.median([r["peak_mib"] for r in runs]) for name, runs in results.items()},
        "repeats": seconds,
        "data": facts,
        "checks": [{"name": claim, "passed": ratio <= limit, "ratio": ratio}],
    }


def main() -> None:
    options = harness.arguments(__doc__)
    parts = [run(case, options) for case in options.only or list(CASES)]
    harness.finish(
        {
            "benchmark": "ensembles",
            "threads": options.threads,
            "ratio": parts[0]["ratio"],
            "cases": {part["case"]: part for part in parts},
            "checks": [check for part in parts for check in part["checks"]],
        },
        options.json,
    )


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--worker":
        print(json.dumps(worker(json.loads(sys.argv[2]))))
    else:
        main()
