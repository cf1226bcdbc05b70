import json
from pathlib import Path

import pytest

from trueup.data.rows import Message
from trueup.errors import DataError
from trueup.recipes.offline_inputs import asked, held_out, trained_on
from trueup.recipes.offline_policies import Made
from trueup.recipes.offline_settings import OfflineInputs


def write(path: Path, records) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    pair = {"chosen": " yes", "rejected": " no"}
    return {
        "prompts": write(tmp_path / "prompts.jsonl", [{"prompt": f"Q{i}"} for i in range(4)]),
        "pairs": write(tmp_path / "pairs.jsonl", [{"prompt": f"Q{i % 4}", **pair, "id": str(i)} for i in range(8)]),
        "rows": write(tmp_path / "rows.jsonl", [{"prompt": f"  Q{i}\n", **pair} for i in (3, 9, 2)]),
        "asked": write(tmp_path / "asked.jsonl", [{"prompt": "Q0"}, {"prompt": "Q9"}, {"prompt": "Q1"}]),
    }


def policy(source: str, **data) -> Made:
    return Made(name="mine", place="runs/mine", recipe={"data": {"train": source, **data}})


def inputs(files, **changes) -> OfflineInputs:
    return OfflineInputs(**{"runs": ["x"], "prompts": files["prompts"], "pairs": files["pairs"]} | changes)


def test_prompts_are_the_same_whatever_is_around_them() -> None:
    assert asked(" Q3\n ") == asked("Q3") == asked((Message("user", "Q3"),))
    assert asked((Message("user", "Q3"), Message("assistant", "A"), Message("user", "Q3"))) != asked("Q3")


def test_what_was_trained_on_is_read_from_rows_or_prompts(files) -> None:
    assert trained_on(policy(files["rows"], format="auto", train_split=None)) == ({"Q3", "Q9", "Q2"}, "")
    assert trained_on(policy(files["rows"], format="preference", limit=1))[0] == {"Q3"}
    assert trained_on(policy(files["asked"], limit=2))[0] == {"Q0", "Q9"}
    earlier = Made(name="mine", place="x", recipe={"data": {"train": files["asked"]}}, earlier=(Path(files["rows"]),))
    assert trained_on(earlier)[0] == {"Q0", "Q1", "Q2", "Q3", "Q9"}


def test_what_cannot_be_looked_up_is_said(files, tmp_path) -> None:
    seen, note = trained_on(policy(str(tmp_path / "gone.jsonl"), format="auto"))
    assert not seen
    assert "gone.jsonl) cannot be read here, so whether prompts are held out was not checked" in note
    assert "is not known" in trained_on(Made(name="mine", place="x"))[1]
    assert held_out(inputs(files), [policy(str(tmp_path / "gone.jsonl"))]).notes == (note,)


def test_prompts_that_were_trained_on_are_refused_dropped_or_kept(files) -> None:
    trained = policy(files["asked"])
    with pytest.raises(DataError, match="2 of 4 prompts are among those that mine was trained on") as caught:
        held_out(inputs(files), [trained])
    assert caught.value.row == 1
    assert "--seen drop" in str(caught.value)
    dropped = held_out(inputs(files, seen="drop"), [trained])
    assert dropped.prompts == ("Q2", "Q3")
    assert [row.prompt for row in dropped.rows] == ["Q2", "Q2", "Q3", "Q3"]
    assert "left out" in dropped.notes[0]
    kept = held_out(inputs(files, seen="keep"), [trained])
    assert len(kept.prompts) == 4
    assert len(kept.rows) == 8
    assert kept.notes == (
        "2 of 4 prompts are among those that mine was trained on: they are measured all the same",
        "4 of 8 rows of pairs are among those that mine was trained on: they are measured all the same",
    )


def test_all_of_them_cannot_be_dropped(files) -> None:
    everything = policy(files["prompts"])
    with pytest.raises(DataError, match="4 of 4 prompts") as caught:
        held_out(inputs(files, seen="drop"), [everything])
    assert "--seen" not in str(caught.value)


def test_the_reference_may_have_seen_them_and_that_is_noted(files) -> None:
    other = Made(name="start", place="y", recipe={"data": {"train": files["asked"]}})
    notes = held_out(inputs(files), [], reference=other).notes
    assert notes[0] == "2 of 4 prompts are among those that start was trained on: they are measured all the same"


def test_rows_of_one_prompt_stand_together(files) -> None:
    rows = held_out(inputs(files, prompts=None), []).rows
    assert [row.prompt for row in rows] == ["Q0", "Q0", "Q1", "Q1", "Q2", "Q2", "Q3", "Q3"]
    assert [row.id for row in rows] == ["0", "4", "1", "5", "2", "6", "3", "7"]
