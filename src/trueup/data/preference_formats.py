"""Records that say which answer is preferred: pairs, lists of right and wrong answers, labelled answers."""

from trueup.data.fields import Fields
from trueup.data.rowfile import Problem
from trueup.data.rows import Message, Prompt, Response, Row
from trueup.data.transcripts import Answered, attach_answer, parse_transcript, split_dialogue

ROW_FIELDS = frozenset({"id", "prompt_id", "subset", "domain", "source", "margin"})
PAIR_FIELDS = ROW_FIELDS | {
    f"{side}{part}" for side in ("chosen", "rejected") for part in ("", "_features", "_model", "_source", "_score")
}
PAIR_FIELDS |= {"score_chosen", "score_rejected"}
RM_BENCH_STYLES = ("concise", "detailed", "markdown")

_PROMPTS_DIFFER = "prompts differ"
_NO_REPLY = "no final reply"


def preference(record: Fields) -> Row | Problem:
    """TRL's explicit prompt: `prompt`, `chosen`, `rejected`, each a string or chat messages."""
    prompt = record.prompt("prompt")
    sides: list[Answered] = []
    for side in ("chosen", "rejected"):
        answered = attach_answer(prompt, _answer(record, side))
        if answered is None:
            return Problem(_NO_REPLY, record.origin, f"`{side}` does not end in a reply to the prompt")
        sides.append(answered)
    return _pair(record, sides[0], sides[1])


def implicit(record: Fields) -> Row | Problem:
    """TRL's implicit prompt: `chosen` and `rejected` that both begin with the prompt."""
    chosen, rejected = _answer(record, "chosen"), _answer(record, "rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _split_at_common_words(record, chosen, rejected)
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise record.wrong("rejected", expected="the same type as `chosen`")
    return _dialogues(record, chosen, rejected)


def transcript(record: Fields) -> Row | Problem:
    """HH's two transcripts of `Human:` and `Assistant:` that share all turns but the last."""
    turns = {side: parse_transcript(record.text(side)) for side in ("chosen", "rejected")}
    for side, dialogue in turns.items():
        if not dialogue:
            return Problem("not a transcript", record.origin, f"`{side}` does not start with `Human:`")
    return _dialogues(record, turns["chosen"], turns["rejected"])


def rm_bench(record: Fields) -> Row:
    """RM-Bench's 3x3 shape: a right and a wrong answer, each concise, detailed and in Markdown.

    The row has six responses, the right ones first; feature `style` is the index into `RM_BENCH_STYLES`.
    """
    responses = []
    for side in ("chosen", "rejected"):
        texts = record.texts(side)
        if len(texts) != len(RM_BENCH_STYLES):
            expected = f"3 strings, in the order {', '.join(RM_BENCH_STYLES)}"
            raise record.error(f"found {len(texts)} strings", side, expected=expected)
        responses += [
            Response(text=text, label=side == "chosen", features={"style": float(style)})
            for style, text in enumerate(texts)
        ]
    return as_row(record, record.prompt("prompt"), responses)


def answer_lists(record: Fields) -> Row:
    """RewardBench 2's shape: a list of right answers and a list of wrong ones."""
    responses = [
        Response(text=text, label=side == "chosen") for side in ("chosen", "rejected") for text in record.texts(side)
    ]
    return as_row(record, record.prompt("prompt"), responses)


def unpaired(record: Fields) -> Row | Problem:
    """TRL's unpaired data: one answer with a label; records with equal prompts become one row later."""
    answered = attach_answer(record.prompt("prompt"), _answer(record, "completion"))
    if answered is None:
        return Problem(_NO_REPLY, record.origin, "`completion` does not end in a reply to the prompt")
    response = Response(
        text=answered.answer,
        label=record.flag("label"),
        score=record.optional_number("score"),
        source=record.optional_name("model", "source"),
        features=record.numbers("features"),
    )
    return as_row(record, answered.prompt, [response])


def as_row(record: Fields, prompt: Prompt, responses: list[Response]) -> Row:
    """A row with the columns that all formats share; a row-level `source` stands in for a missing subset."""
    return Row(
        prompt=prompt,
        responses=tuple(responses),
        id=record.optional_name("id", "prompt_id") or "",
        origin=record.origin,
        subset=record.optional_name("subset", "domain", "source"),
        margin=record.optional_number("margin"),
    )


def _answer(record: Fields, name: str) -> str | tuple[Message, ...]:
    value = record.values.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return record.messages(name)
    raise record.wrong(name, expected='a string or a list of {"role", "content"}')


def _dialogues(record: Fields, chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> Row | Problem:
    sides = [split_dialogue(chosen), split_dialogue(rejected)]
    for name, side in zip(("chosen", "rejected"), sides, strict=True):
        if side is None:
            return Problem(_NO_REPLY, record.origin, f"`{name}` has no reply at its end, or no prompt before it")
    kept = [side for side in sides if side is not None]
    return _pair(record, kept[0], kept[1])


def _pair(record: Fields, chosen: Answered, rejected: Answered) -> Row | Problem:
    if chosen.prompt != rejected.prompt:
        return Problem(_PROMPTS_DIFFER, record.origin, _first_difference(chosen.prompt, rejected.prompt))
    responses = [
        Response(
            text=side.answer,
            label=name == "chosen",
            score=record.optional_number(f"{name}_score", f"score_{name}"),
            source=record.optional_name(f"{name}_model", f"{name}_source"),
            features=record.numbers(f"{name}_features"),
        )
        for name, side in (("chosen", chosen), ("rejected", rejected))
    ]
    return as_row(record, chosen.prompt, responses)


def _first_difference(chosen: Prompt, rejected: Prompt) -> str:
    if isinstance(chosen, str) or isinstance(rejected, str):
        return "one side states its prompt as text, the other as messages"
    differing = (turn for turn, (one, other) in enumerate(zip(chosen, rejected, strict=False), 1) if one != other)
    turn = next(differing, min(len(chosen), len(rejected)) + 1)
    return f"the dialogues differ at turn {turn}, before the last reply"


def _split_at_common_words(record: Fields, chosen: str, rejected: str) -> Row | Problem:
    """Cut after the longest common beginning that ends where a word ends in both texts."""
    if chosen == rejected:
        return Problem("no prompt", record.origin, "`chosen` and `rejected` are the same text")
    shorter = min(len(chosen), len(rejected))
    end = next((at for at in range(shorter) if chosen[at] != rejected[at]), shorter)
    while end > 0 and any(len(text) > end and not text[end].isspace() for text in (chosen, rejected)):
        end -= 1
    return _pair(record, Answered(chosen[:end], chosen[end:]), Answered(rejected[:end], rejected[end:]))
