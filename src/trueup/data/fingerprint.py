"""Stable content hashes: of rows for caches and provenance, of single texts for seeded choices."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from trueup.data.rows import Prompt, Row, prompt_text


def fingerprint(rows: Iterable[Row]) -> str:
    """SHA-256 over the rows' content in their order, in hexadecimal; where they were read does not count."""
    digest = hashlib.sha256()
    for row in rows:
        line = json.dumps(as_record(row), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def as_record(row: Row) -> dict[str, Any]:
    """A row as plain JSON values in this library's own schema, without origin and absent fields."""
    record: dict[str, Any] = {"id": row.id, "prompt": prompt_record(row.prompt), "responses": []}
    for response in row.responses:
        fields = {
            "text": response.text,
            "label": None if response.label is None else bool(response.label),
            "score": None if response.score is None else float(response.score),
            "source": response.source,
            "features": {name: float(number) for name, number in response.features.items()} or None,
        }
        record["responses"].append({name: value for name, value in fields.items() if value is not None})
    record.update(subset=row.subset, margin=row.margin)
    return {name: value for name, value in record.items() if value is not None}


def prompt_record(prompt: Prompt) -> str | list[dict[str, str]]:
    """A prompt as plain JSON values."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def content_hash(*parts: str | int) -> int:
    """First 64 bits of the SHA-256 of the parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        content = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return int.from_bytes(digest.digest()[:8], "big")


def content_draw(*parts: str | int) -> float:
    """A number in [0, 1) that depends on the parts alone: a seeded draw without a generator's order."""
    return (content_hash(*parts) >> 11) * 2.0**-53


def normalized_prompt(prompt: Prompt) -> str:
    """Text by which prompts are compared: lower case, white space collapsed."""
    return " ".join(prompt_text(prompt).lower().split())
