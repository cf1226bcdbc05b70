"""Small rows and files that several tests use."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

from hypothesis import strategies as st

from trueup.data.rows import Message, Origin, Prompt, Response, Row

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
MESSAGES = st.lists(st.builds(Message, TEXT, TEXT), min_size=1, max_size=3).map(tuple)
RESPONSE = st.builds(
    Response,
    text=TEXT,
    label=st.none() | st.booleans(),
    score=st.none() | NUMBER,
    source=st.none() | TEXT,
    features=st.dictionaries(TEXT, NUMBER, max_size=3),
)


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    ids = draw(st.lists(TEXT.filter(bool), min_size=1, max_size=4, unique=True))
    return [
        Row(
            prompt=draw(TEXT | MESSAGES),
            responses=tuple(draw(st.lists(RESPONSE, min_size=1, max_size=4))),
            id=id,
            origin=Origin("made", number),
            subset=draw(st.none() | TEXT),
            margin=draw(st.none() | NUMBER),
        )
        for number, id in enumerate(ids, start=1)
    ]


def pair_row(prompt: Prompt, chosen: str, rejected: str, *, number: int = 1) -> Row:
    responses = Response(text=chosen, label=True), Response(text=rejected, label=False)
    return Row(prompt=prompt, responses=responses, id=f"r{number}", origin=Origin("made", number))


def scored_row(*scores: float | None, texts: Iterable[str] = (), number: int = 1, prompt: Prompt | None = None) -> Row:
    texts = list(texts) or [f"text {index}" for index in range(len(scores))]
    responses = tuple(
        Response(text=text, score=score, source=f"writer {index}")
        for index, (text, score) in enumerate(zip(texts, scores, strict=True))
    )
    prompt = f"prompt {number}" if prompt is None else prompt
    return Row(prompt=prompt, responses=responses, id=f"r{number}", origin=Origin("made", number))


def write_jsonl(path: Path, *records: object) -> Path:
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
