"""Tiny language models whose tokens are single characters."""

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trueup.data.rows import Row
from trueup.files import PARTIAL, move_into_place, write_text
from trueup.lab.fitting import Fit, fit_policy, quietly
from trueup.lab.scale_models import BOS, EOS, PAD, Shape, write_model
from trueup.models.policy_checkpoints import save_policy

logger = logging.getLogger(__name__)

UNKNOWN = "<|unknown|>"


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """One token for each character of the alphabet, in its order, one for any other, and pad, BOS and EOS."""
    names = (PAD, BOS, EOS, UNKNOWN, *dict.fromkeys(alphabet))
    vocabulary = {name: number for number, name in enumerate(names)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN
    )


def write_character_model(folder: Path, alphabet: str, *, shape: Shape) -> None:
    """Write a tokenizer and a Llama configuration, from which models are drawn with `from_scratch`.

    Args:
        folder: Where to.
        alphabet: Characters that have tokens.
        shape: Size of the model; the alphabet takes the place of its vocabulary.
    """
    write_model(folder, character_tokenizer(alphabet), shape=shape)


def build_character_policy(
    key: str,
    rows: Callable[[], Sequence[Row]],
    *,
    folder: Path,
    alphabet: str,
    shape: Shape,
    fit: Fit,
    seed: int,
    provenance: dict[str, Any],
    quality: Callable[[Path], dict[str, Any]],
) -> Path:
    """Fine-tune a blank model of characters on demonstrations, or find the one that has the key.

    Args:
        key: Name of everything that it depends on.
        rows: Gives the demonstrations, where they are needed.
        folder: Where policies are kept.
        alphabet: The characters.
        shape: Size of the model.
        fit: How it is trained.
        seed: Seed of weights and order.
        provenance: Plain values for the side file.
        quality: Measures the policy of a folder; plain values, kept in `quality.json`.
    """
    target = folder / key
    if all((target / name).is_file() for name in ("quality.json", "model.safetensors", "tokenizer.json")):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{PARTIAL}-", ignore_cleanup_errors=True) as temporary:
        done, base = Path(temporary) / "done", Path(temporary) / "base"
        write_character_model(base, alphabet, shape=shape)
        made = fit_policy(rows(), base, fit=fit, seed=seed, from_scratch=True)
        with quietly():
            save_policy(done, made.model, tokenizer=made.tokenizer, form=made.form, provenance=provenance)
        found = quality(done)
        write_text(done / "quality.json", json.dumps(found, indent=2) + "\n")
        move_into_place(done, target)
    logger.info("policy %s: %s", key, found)
    return target
