"""Tokenizers by name, without the models."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trueup.errors import CheckpointError, first_line


def load_tokenizer(name: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a tokenizer.

    Raises:
        CheckpointError: There is none at that place.
    """
    refuse_missing_folder(str(name))
    try:
        return AutoTokenizer.from_pretrained(str(name), trust_remote_code=trust_remote_code)
    except Exception as error:  # the library trips over damaged files in many ways, bare `Exception` among them
        raise CheckpointError(
            f"{name}: no tokenizer could be loaded, its files are missing or damaged ({first_line(error)})"
        ) from error


def refuse_missing_folder(name: str) -> None:
    """Say plainly that a folder is not there, instead of what a hub thinks of such a name."""
    if not Path(name).exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise CheckpointError(f"{name}: there is no such folder; name a model's folder or a hub id")
