"""What a run on several devices needs to know of our model, and how its processes end together."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from transformers import TrainingArguments

from trueup.errors import RecipeError, TrueupError
from trueup.models.branch_model import BranchModel

Found = TypeVar("Found")


def prepare_for_devices(model: BranchModel, args: TrainingArguments) -> None:
    """Settings that transformers and accelerate only read off a `PreTrainedModel`, or choose wrongly for ours."""
    # What FSDP shards as one unit: a decoder layer.
    present = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = sorted(present & set(model.core._no_split_modules or ()))  # type: ignore[assignment]
    if args.ddp_find_unused_parameters is None:
        args.ddp_find_unused_parameters = not model.causal  # an encoder may have layers that its head does not use
    if args.n_gpu > 1:
        args._n_gpu = 1  # DataParallel would take a layout apart; several GPUs need a launcher


@contextmanager
def failing_together() -> Iterator[None]:
    """Let a failure of one process end the run in all of them, or the others would wait for it for ever.

    Every process of a run must come through here, as often as the others.

    Raises:
        TrueupError: Another process failed; its own error where it was this one.
    """
    failure: TrueupError | None = None
    try:
        yield
    except TrueupError as error:
        failure = error
    found = [str(failure) if failure is not None else None]
    others = [words for words in (gather_object(found) if _in_company() else found) if words is not None]
    if failure is not None:
        raise failure
    if others:
        raise TrueupError(f"another process stopped: {others[0]}")


@dataclass(frozen=True)
class First:
    """The first of a run's processes, for what only one may do.

    Args:
        here: Whether it is this one.
    """

    here: bool

    def does(self, work: Callable[[], object]) -> None:
        """Have the first process do something that the others wait for; its failure ends all of them.

        Raises:
            TrueupError: The first process failed.
        """
        with failing_together():
            if self.here:
                work()

    def finds(self, work: Callable[[], Found]) -> Found:
        """What the first process finds, told to all of them; errors are those of `does`."""
        found: list[Any] = [None]
        with failing_together():
            if self.here:
                found[0] = work()
        return cast(Found, broadcast_object_list(found)[0] if _in_company() else found[0])


def join_processes(*, batch_size: int) -> First:
    """Meet the other processes of a launcher, who may then wait for the first for a day, not the usual minutes.

    Raises:
        RecipeError: The processes cannot share a step evenly.
    """
    if share_of(batch_size) == batch_size:
        return First(here=True)
    return First(here=PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1)).is_main_process)


def share_of(batch_size: int) -> int:
    """Rows of a step for each of a launcher's processes.

    Raises:
        RecipeError: They cannot share it evenly.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if batch_size % world:
        raise RecipeError(f"batch_size {batch_size} cannot be shared evenly by {world} devices")
    return batch_size // world


def _in_company() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
