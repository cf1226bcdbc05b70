"""What a run on several devices needs to know of our model."""

from transformers import TrainingArguments

from trueup.models.branch_model import BranchModel


def prepare_for_devices(model: BranchModel, args: TrainingArguments) -> None:
    """Settings that transformers and accelerate only read off a `PreTrainedModel`, or choose wrongly for ours."""
    # What FSDP shards as one unit: a decoder layer.
    present = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = sorted(present & set(model.core._no_split_modules or ()))  # type: ignore[assignment]
    if args.ddp_find_unused_parameters is None:
        args.ddp_find_unused_parameters = not model.causal  # an encoder may have layers that its head does not use
    if args.n_gpu > 1:
        args._n_gpu = 1  # DataParallel would take a layout apart; several GPUs need a launcher
