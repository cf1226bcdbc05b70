"""Records that show what to say: a prompt with one reply, an instruction, a dialogue, or text alone.

Each gives one response without a label. Where two columns could be the reply (or the task), the record is refused
rather than one of them chosen silently.
"""

from collections.abc import Set

from trueup.data.fields import Fields
from trueup.data.preference_formats import ROW_FIELDS, as_row
from trueup.data.rowfile import Problem
from trueup.data.rows import Message, Prompt, Response, Row
from trueup.data.transcripts import Answered, attach_answer

REPLIES = frozenset({"response", "output", "answer"})
TASKS = frozenset({"instruction", "question"})
INPUTS = frozenset({"input", "context"})
DEMONSTRATION_FIELDS = ROW_FIELDS | {"score", "model"}

_OTHER_TEXTS = REPLIES | TASKS | INPUTS | {"prompt", "completion", "completions", "responses"}
_SPEAKERS = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}


def detect_demonstration(has: Set[str]) -> str | None:
    """Name of the demonstration format that has these columns, or None."""
    if has & {"chosen", "rejected"}:
        return None
    if {"prompt", "completion"} <= has:
        return "prompt-completion"
    if "messages" in has or "conversations" in has:
        return "conversation" if "messages" in has else "sharegpt"
    if {"instruction", "output"} <= has:
        return "alpaca"
    if has & REPLIES and ("prompt" in has or has & TASKS):
        return "prompt-response" if "prompt" in has else "alpaca"
    return "text" if "text" in has and not has & _OTHER_TEXTS else None


def prompt_completion(record: Fields) -> Row | Problem:
    """TRL's prompt and completion, each a string or chat messages."""
    return _reply_to(record, record.prompt("prompt"), "completion")


def prompt_response(record: Fields) -> Row | Problem:
    """A `prompt` and one of `response`, `output` and `answer`, each a string or chat messages."""
    return _reply_to(record, stated_prompt(record), _only(record, "response", "output", "answer"))


def alpaca(record: Fields) -> Row | Problem:
    """Alpaca's `instruction`, `input` and `output`; also Dolly's `context` and `response`, and question and answer."""
    return _reply_to(record, instruction_prompt(record), _only(record, "output", "response", "answer"))


def stated_prompt(record: Fields) -> Prompt:
    """The `prompt`, which must not have an `instruction` beside it."""
    return record.prompt(_only(record, "prompt", "instruction"))


def instruction_prompt(record: Fields) -> str:
    """An `instruction` or `question`, and after a blank line its `input` or `context`, if there is one."""
    task = record.text(_only(record, "instruction", "question"))
    if not any(map(record.has, INPUTS)):
        return task
    given = record.text(_only(record, "input", "context"))
    return f"{task}\n\n{given}" if given.strip() else task


def conversation(record: Fields) -> Row | Problem:
    """Chat `messages` whose last turn is the assistant's; it is the response, the turns before it are the prompt."""
    return _dialogue(record, "messages", record.messages("messages"))


def sharegpt(record: Fields) -> Row | Problem:
    """ShareGPT's `conversations: [{from, value}]`, read as `conversation` reads messages."""
    return _dialogue(record, "conversations", sharegpt_turns(record))


def sharegpt_turns(record: Fields) -> tuple[Message, ...]:
    """Turns as chat messages: `human` is the user, `gpt` the assistant; roles without such a meaning stay."""
    turns = []
    for turn in record.objects("conversations"):
        speaker = turn.text(turn.first_of("from", "role") or "from")
        turns.append(Message(_role(speaker), turn.text(turn.first_of("value", "content") or "value")))
    return tuple(turns)


def text(record: Fields) -> Row:
    """Text for language modelling: a response to an empty prompt."""
    return as_row(record, "", [_response(record, record.text("text"))])


def without_reply(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns before the assistant's last one, or all where it is not the assistant who has the last word."""
    return turns[:-1] if turns and _role(turns[-1].role) == "assistant" else turns


def _dialogue(record: Fields, name: str, turns: tuple[Message, ...]) -> Row | Problem:
    prompt = without_reply(turns)
    if prompt == turns:
        return Problem("no final reply", record.origin, f"`{name}` ends in a turn of role {turns[-1].role[:40]!r}")
    if not prompt:
        return Problem("no prompt", record.origin, f"`{name}` holds a reply alone")
    return _row(record, Answered(prompt, turns[-1].content))


def _reply_to(record: Fields, prompt: Prompt, name: str) -> Row | Problem:
    answered = attach_answer(prompt, record.prompt(name))
    if answered is None:
        return Problem("no final reply", record.origin, f"`{name}` does not end in a reply to the prompt")
    return _row(record, answered)


def _row(record: Fields, answered: Answered) -> Row:
    if isinstance(record.values.get("label"), bool):
        raise record.wrong(
            "label",
            expected="no label, because demonstrations are learned from whatever it says",
            cure="drop the column, or name the columns `prompt`, `completion` and `label` for labelled answers",
        )
    return as_row(record, answered.prompt, [_response(record, answered.answer)])


def _response(record: Fields, answer: str) -> Response:
    return Response(text=answer, score=record.optional_number("score"), source=record.optional_name("model"))


def _only(record: Fields, *names: str) -> str:
    """The one of these columns that is there; the first where none is, so that it is found missing."""
    present = [name for name in names if record.has(name)]
    if len(present) > 1:
        listed = " and ".join(f"`{name}`" for name in present)
        cure = "drop or rename the others"
        raise record.error(f"found {listed}", present[0], expected="one of them alone", cure=cure)
    return present[0] if present else names[0]


def _role(speaker: str) -> str:
    return _SPEAKERS.get(speaker.lower(), speaker)
