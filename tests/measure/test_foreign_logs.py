import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from trueup.errors import DataError, RecipeError
from trueup.measure.foreign_logs import follow, follow_points, log_point, read_log
from trueup.measure.log_dialects import DIALECTS, dialect_of
from trueup.measure.stopping import KLBudget


def lines(path: Path, records: list[object], *, end: str = "\n") -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + end)
    return path


def trl_state(path: Path) -> Path:
    """As TRL 1.16 leaves it: KL by the token, an evaluation line, and a summary without rewards."""
    history = [
        {"step": k, "reward": 0.1 * k, "kl": 0.02 * k, "completions/mean_length": 50.0, "entropy": 2 - 0.1 * k,
         "completions/clipped_ratio": 0.25, "frac_reward_zero_std": 0.5, "loss": 0.0}
        for k in (1, 2, 3)
    ]  # fmt: skip
    history += [{"step": 2, "eval_loss": 1.0}, {"step": 3, "train_runtime": 9.0}]
    path.write_text(json.dumps({"global_step": 3, "log_history": history}))
    return path


def test_trl_s_kl_by_the_token_becomes_that_of_responses(tmp_path: Path) -> None:
    log = read_log(trl_state(tmp_path / "trainer_state.json"))
    assert log.dialect == "trl"
    assert log.series("kl") == ([1, 2, 3], pytest.approx([1.0, 2.0, 3.0]))
    assert log.series("ended") == ([1, 2, 3], [0.75] * 3)
    assert log.series("entropy")[1] == pytest.approx([1.9, 1.8, 1.7])
    assert log.series("equal_groups")[1] == [0.5] * 3
    assert "times the mean length" in log.notes[0]
    watched = log.watched()
    assert watched.steps.tolist() == [1, 2, 3]
    assert watched.distance == pytest.approx(np.sqrt([1, 2, 3]))
    assert watched.gold is None
    assert KLBudget(2.5)(watched) is not None


def test_the_state_of_the_last_checkpoint_is_found_in_a_folder(tmp_path: Path) -> None:
    for k in (2, 10, 9):
        (tmp_path / f"checkpoint-{k}").mkdir()
        lines(tmp_path / f"checkpoint-{k}" / "other.jsonl", [])
    trl_state(tmp_path / "checkpoint-9" / "trainer_state.json")
    trl_state(tmp_path / "checkpoint-10" / "trainer_state.json")
    (tmp_path / "checkpoint-9" / "trainer_state.json").write_text("{}")
    assert len(read_log(tmp_path).points) == 3
    with pytest.raises(DataError, match="no log in this folder"):
        read_log(tmp_path / "checkpoint-2")


def test_verl_s_nested_records(tmp_path: Path) -> None:
    data = [
        {"critic/score/mean": 0.1 * k, "actor/kl_loss": 0.01 * k, "actor/ppo_kl": 9.0, "response_length/mean": 200.0,
         "response_length/clip_ratio": 0.1, "actor/entropy": 1.0}
        for k in (1, 2)
    ]  # fmt: skip
    log = read_log(lines(tmp_path / "verl.jsonl", [{"step": k + 1, "data": one} for k, one in enumerate(data)]))
    assert log.dialect == "verl"
    assert log.series("kl")[1] == pytest.approx([2.0, 4.0])
    assert log.series("ended")[1] == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize(
    ("record", "dialect", "kl", "proxy"),
    [
        ({"global_step": 4, "train/kl": 0.1, "train/reward": 2.0, "train/response_length": 30.0}, "openrlhf", 3.0, 2.0),
        ({"episode": 6, "objective/kl": 5.5, "objective/scores": 1.5,
          "policy/approxkl_avg": 1.2}, "trl-ppo", 5.5, 1.5),
        ({"step": 1, "actor/reward_kl_penalty": 0.2, "actor/kl_loss": 9.0, "critic/score/mean": 1.0,
          "response_length/mean": 10.0}, "verl", 2.0, 1.0),
        ({"step": 1, "watch/kl": 3.0, "watch/proxy": 2.0, "reward": 9.0, "kl": 9.0}, "trueup", 3.0, 2.0),
    ],
)  # fmt: skip
def test_each_framework_s_names(
    tmp_path: Path, record: dict[str, float], dialect: str, kl: float, proxy: float
) -> None:
    log = read_log(lines(tmp_path / "log.jsonl", [record]))
    assert log.dialect == dialect
    assert log.points[0].values["kl"] == pytest.approx(kl)
    assert log.points[0].values["proxy"] == proxy


def test_kl_by_the_token_without_lengths_is_not_invented(tmp_path: Path) -> None:
    records = [{"step": 1, "reward": 1.0, "kl": 0.1, "frac_reward_zero_std": 0.0}]
    log = read_log(lines(tmp_path / "log.jsonl", records))
    assert "kl" not in log.points[0].values
    assert "is not known" in log.notes[0]
    assert log.watched().kl is None


def test_our_own_training_log_has_kl_of_responses(tmp_path: Path) -> None:
    records = [{"step": 1, "reward": 1.0, "kl": 4.0, "completions/mean_length": 50.0}]
    log = read_log(lines(tmp_path / "metrics.jsonl", records), dialect="trueup-training")
    assert log.points[0].values["kl"] == 4.0


def test_steps_that_lack_gold_are_gaps(tmp_path: Path) -> None:
    records = [{"step": k, "watch/proxy": 1.0, **({"watch/gold": 2.0} if k % 2 else {})} for k in range(4)]
    watched = read_log(lines(tmp_path / "log.jsonl", records)).watched()
    assert watched.gold[:, 0, 0].tolist() == pytest.approx([np.nan, 2, np.nan, 2], nan_ok=True)


def test_what_is_logged_twice_after_a_restart_counts_once(tmp_path: Path) -> None:
    records = [{"step": k, "reward": float(i), "frac_reward_zero_std": 0} for i, k in enumerate((1, 2, 3, 2, 3))]
    log = read_log(lines(tmp_path / "log.jsonl", records))
    assert log.series("proxy") == ([1, 2, 3], [0.0, 3.0, 4.0])


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = lines(tmp_path / "log.jsonl", [{"step": 1, "objective/kl": 1.0}])
    with path.open("a") as handle:
        handle.write('{"step": 2, "obj')
    assert [point.step for point in read_log(path).points] == [1]
    lines(path, [{"step": 1, "objective/kl": 1.0}, {"step": 2, "objective/kl": 2.0}], end="")
    assert [point.step for point in read_log(path).points] == [1, 2]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ('{"step": 1}\nnot json\n{}\n', "log.jsonl:2: not JSON"),
        ("[1]\n", "log.jsonl:1: a list; expected one record of metrics a line"),
        ('{"step": 1, "objective/scores": NaN}\n', "no reward and no KL"),
        ('{"objective/scores": 1.0}\n', "no reward and no KL"),
        ("", "cannot tell whose log this is from nothing"),
        ('{"step": 1, "loss": 1.0}\n', "cannot tell whose log this is from loss, step"),
    ],
)
def test_logs_that_cannot_be_used(tmp_path: Path, text: str, fragment: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises((DataError, RecipeError)) as found:
        read_log(tmp_path / "log.jsonl")
    assert fragment in str(found.value)


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_log(tmp_path / "nothing.jsonl")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(DataError, match="no log_history"):
        read_log(tmp_path / "x.json")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_log(tmp_path / "b.jsonl")
    with pytest.raises(RecipeError, match="dialect must be auto or one of trueup"):
        dialect_of((), "klingon")


def test_a_step_that_is_no_number_makes_no_point() -> None:
    assert log_point({"step": True, "objective/kl": 1.0}, DIALECTS["trl-ppo"]) is None
    assert log_point({"step": None, "objective/kl": 1.0}, DIALECTS["trl-ppo"]) is None


def test_a_growing_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    done = threading.Event()

    def write() -> None:
        with path.open("w", buffering=1) as handle:
            for k in range(5):
                text = json.dumps({"step": k, "objective/kl": float(k), "note": "ü"}, ensure_ascii=False)
                handle.write(text[:9])
                handle.flush()
                handle.write(text[9:] + "\n")
                handle.flush()
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = [point.step for point in follow_points(path, dialect="trl-ppo", poll=0.002, ended=done.is_set)]
    thread.join()
    assert seen == [0, 1, 2, 3, 4]


def test_partial_lines_and_characters_wait_for_their_rest(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    text = '{"a": "ü"}\n{"a": 2}\n'.encode()
    looks = iter(range(1, len(text) + 1))
    path.write_bytes(b"")

    def grow() -> bool:
        size = next(looks, None)
        if size is None:
            return True
        with path.open("ab") as handle:
            handle.write(text[size - 1 : size])
        return False

    assert list(follow(path, poll=0, ended=grow)) == [{"a": "ü"}, {"a": 2}]


def test_a_file_that_is_replaced_or_cut_is_read_from_its_start(tmp_path: Path) -> None:
    path = lines(tmp_path / "log.jsonl", [{"a": 1}, {"a": 2}])
    steps = iter(
        [
            lambda: path.write_text('{"a": 3}\n'),
            lambda: (lines(tmp_path / "new", [{"a": 4}, {"a": 5}, {"a": 6}]), os.replace(tmp_path / "new", path)),
            lambda: path.unlink(),
            lambda: lines(path, [{"a": 7}]),
        ]
    )

    def change() -> bool:
        step = next(steps, None)
        if step is not None:
            step()
        return step is None

    assert [record["a"] for record in follow(path, poll=0, ended=change)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_damaged_line_is_named_while_following(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\nbroken\n')
    records = follow(path, poll=0, ended=lambda: True)
    assert next(records) == {"a": 1}
    with pytest.raises(DataError, match=r"log.jsonl:2: not JSON"):
        next(records)
