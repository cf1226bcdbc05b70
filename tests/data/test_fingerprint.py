import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.data.fingerprint import (
    as_record,
    content_draw,
    content_hash,
    fingerprint,
    normalized_prompt,
    prompt_record,
)
from trueup.data.rows import Message, Origin, Response, Row

from .samples import pair_row, row_lists, scored_row


def test_worked_record():
    row = Row(
        prompt=(Message("user", "hi"),),
        responses=(Response(text="a", label=True, features={"n": 1}), Response(text="", score=0.0, source="w")),
        id="x",
        origin=Origin("f", 3),
        margin=0.0,
    )
    assert as_record(row) == {
        "id": "x",
        "prompt": [{"role": "user", "content": "hi"}],
        "responses": [{"text": "a", "label": True, "features": {"n": 1.0}}, {"text": "", "score": 0.0, "source": "w"}],
        "margin": 0.0,
    }
    assert prompt_record("text") == "text"


def test_fingerprint_is_the_hash_of_sorted_json_lines():
    line = '{"id":"r1","prompt":"é","responses":[{"label":true,"text":"a"},{"label":false,"text":"b"}]}\n'
    assert fingerprint([pair_row("é", "a", "b")]) == hashlib.sha256(line.encode()).hexdigest()


@given(row_lists())
@settings(deadline=None)
def test_fingerprint_sees_content_and_order_but_not_origin(rows):
    known = fingerprint(rows)
    assert fingerprint([replace(row, origin=Origin("elsewhere", 99)) for row in rows]) == known
    assert fingerprint([*rows, rows[0]]) != known
    assert fingerprint([replace(rows[0], id=rows[0].id + "'"), *rows[1:]]) != known
    if len(rows) > 1:
        assert fingerprint(rows[::-1]) != known


def test_numpy_values_and_lone_surrogates_have_fingerprints():
    row = scored_row(np.float32(0.5), 1.0)
    assert fingerprint([row]) == fingerprint([scored_row(0.5, 1.0)])
    assert len(fingerprint([pair_row("\ud800", "a", "b")])) == 64


def test_content_hash_tells_lists_apart():
    expected = hashlib.sha256((1).to_bytes(8, "big") + b"a" + (2).to_bytes(8, "big") + b"12").digest()[:8]
    assert content_hash("a", 12) == int.from_bytes(expected, "big")
    assert len({content_hash("ab"), content_hash("a", "b"), content_hash("", "ab"), content_hash("ab", "")}) == 4


def test_content_draws_are_uniform():
    draws = [content_draw("seed", number) for number in range(4000)]
    assert all(0.0 <= draw < 1.0 for draw in draws)
    counts = Counter(int(draw * 10) for draw in draws)
    chi_squared = sum((counts[bin] - 400) ** 2 / 400 for bin in range(10))
    assert chi_squared < 27.9  # the 0.1% point for 9 degrees of freedom


@given(st.text(), st.text())
@settings(deadline=None)
def test_normalized_prompts_ignore_case_and_white_space(left, right):
    assert normalized_prompt(f"{left}  {right}\n") == normalized_prompt(f" {left}\t{right}")
    assert normalized_prompt("A b") == normalized_prompt("a  B")
    assert normalized_prompt((Message("user", "A"),)) == normalized_prompt((Message("user", " a"),))
