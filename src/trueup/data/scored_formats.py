"""Records with several answers to one prompt, each with a score, a rank or a label."""

import re
from collections.abc import Mapping

from trueup.data.fields import Fields, as_number
from trueup.data.preference_formats import as_row
from trueup.data.rowfile import Problem
from trueup.data.rows import Prompt, Response, Row
from trueup.data.transcripts import Answered, attach_answer

RESPONSE_PART = re.compile(r"response_\d+_(text|model|source)")
_RESPONSE_TEXT = re.compile(r"response_(\d+)_text")
_PROMPT_FIELDS = ("prompt", "instruction", "prompt_messages")
_RESERVED = frozenset({"text", "response", "label", "score", "model", "source", "features", "scores"})


def responses(record: Fields) -> Row:
    """The library's own schema, and what resembles it: `prompt`, `responses: [{text, score, model, ...}]`.

    A response's further numbers, and those in its `features` or `scores`, become its features.
    """
    return as_row(record, _prompt(record), [_response(answer) for answer in record.objects("responses")])


def ultrafeedback(record: Fields) -> Row:
    """UltraFeedback's shape: `instruction` and `completions: [{response, fine-grained_score, model}]`.

    `fine-grained_score`, the mean over aspects, is preferred where both are given, because some of the
    original data's `overall_score` values are ten times too large; the other one is kept as a feature.
    """
    answers = []
    for answer in record.objects("completions"):
        scores = {name: answer.optional_number(name) for name in ("fine-grained_score", "overall_score", "score")}
        given = {name: score for name, score in scores.items() if score is not None}
        answers.append(
            Response(
                text=answer.text(answer.first_of("response", "text") or "response"),
                score=next(iter(given.values()), None),
                source=answer.optional_name("model", "source"),
                features=dict(list(given.items())[1:]),
            )
        )
    return as_row(record, _prompt(record), answers)


def rm_robustness(record: Fields) -> Row:
    """RM-Robustness' shape: `instruction`, `response_1_text`, `response_2_text`, ..., `all_scores`."""
    numbers = sorted(int(match[1]) for name in record.values if (match := _RESPONSE_TEXT.fullmatch(name)))
    scores = record.items("all_scores")
    if len(scores) != len(numbers):
        expected = f"{len(numbers)}, one for each `response_N_text`"
        raise record.error(f"found {len(scores)} scores", "all_scores", expected=expected)
    answers = []
    for number, score in zip(numbers, scores, strict=True):
        value = as_number(score)
        if value is None:
            raise record.wrong("all_scores", expected="a list of finite numbers")
        source = record.optional_name(f"response_{number}_model", f"response_{number}_source")
        answers.append(Response(text=record.text(f"response_{number}_text"), score=value, source=source))
    return as_row(record, _prompt(record), answers)


def nemo(record: Fields) -> Row | Problem:
    """NeMo's shape: `context` and `completions: [{rank, completion}]`; the score is minus the rank."""
    context = record.prompt("context")
    answered: list[Answered] = []
    ranks: list[float] = []
    for answer in record.objects("completions"):
        ranks.append(answer.number("rank"))
        value = answer.values.get("completion")
        reply = value if isinstance(value, str) else answer.messages("completion")
        found = attach_answer(context, reply)
        if found is None:
            return Problem("no final reply", record.origin, f"`{answer.path}completion` does not end in a reply")
        answered.append(found)
    if any(one.prompt != answered[0].prompt for one in answered):
        return Problem("prompts differ", record.origin, "the completions differ before their last turn")
    replies = [Response(text=one.answer, score=0.0 - rank) for one, rank in zip(answered, ranks, strict=True)]
    return as_row(record, answered[0].prompt, replies)


def is_response_list(values: Mapping[str, object]) -> bool:
    """Whether a record has `responses` and a prompt to go with them."""
    return values.get("responses") is not None and any(values.get(name) is not None for name in _PROMPT_FIELDS)


def _prompt(record: Fields) -> Prompt:
    return record.prompt(record.first_of(*_PROMPT_FIELDS) or "prompt")


def _response(answer: Fields) -> Response:
    named = answer.numbers("scores") | answer.numbers("features")
    loose = {
        name: number
        for name, value in answer.values.items()
        if name not in _RESERVED and (number := as_number(value)) is not None
    }
    return Response(
        text=answer.text(answer.first_of("text", "response") or "text"),
        label=answer.flag("label") if answer.has("label") else None,
        score=answer.optional_number("score"),
        source=answer.optional_name("source", "model"),
        features=loose | named,
    )
