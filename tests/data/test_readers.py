import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trueup.data.readers import read_entries, read_records
from trueup.errors import DataError

from .samples import write_jsonl

ROWS = [{"prompt": "p", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "c", "rejected": "d"}]


def values(source, **options) -> list[dict]:
    return [record for _, record in read_records(source, **options)]


@pytest.fixture
def dataset():
    return datasets.Dataset.from_list(ROWS)


def test_single_file_skips_blank_lines_and_names_places(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\n{"a": 1}\n\n{"a": 2}\n')
    assert [(str(origin), record) for origin, record in read_records(str(path))] == [
        (f"{path}:2", {"a": 1}),
        (f"{path}:4", {"a": 2}),
    ]
    assert [record for _, record in read_entries(path)].count(None) == 2


@pytest.mark.parametrize("content", [b"\n \n\t\n", b"[]", b"\xef\xbb\xbf\n"])
def test_no_record_at_all(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="zero usable rows"):
        values(path)


def test_empty_parquet(tmp_path):
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="zero usable rows"):
        values(tmp_path / "empty.parquet")


@pytest.mark.parametrize(
    "source", ["nothing.jsonl", "/no/such/file", "no/such.parquet", "a/b/c", "nul\0byte", "x" * 5000, "~nobody/x/y"]
)
def test_missing_sources(source):
    with pytest.raises(DataError):
        values(source)


def test_a_file_has_no_splits(tmp_path):
    with pytest.raises(DataError, match="leave the split out"):
        values(write_jsonl(tmp_path / "rows.jsonl", *ROWS), split="train")


def test_special_files_are_refused():
    with pytest.raises(DataError, match="not a regular file"):
        values("/dev/null")


def test_folder_of_shards(tmp_path):
    write_jsonl(tmp_path / "train-00000-of-00002.jsonl", ROWS[0])
    write_jsonl(tmp_path / "train-00001-of-00002.jsonl.gz", ROWS[1])
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / ".hidden.jsonl").write_text("not data")
    assert values(tmp_path) == ROWS
    assert values(tmp_path, split="train") == ROWS


def test_folder_with_several_splits(tmp_path):
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train.jsonl", ROWS[0])
    pq.write_table(pa.Table.from_pylist(ROWS[1:]), tmp_path / "data" / "test-00000-of-00001.parquet")
    assert values(tmp_path, split="test") == ROWS[1:]
    with pytest.raises(DataError, match="several splits: test, train"):
        values(tmp_path)
    with pytest.raises(DataError, match="no split `valid`; expected one of: test, train"):
        values(tmp_path, split="valid")


def test_splits_named_by_folders(tmp_path):
    for split, row in zip(("test", "train"), ROWS, strict=True):
        (tmp_path / split).mkdir()
        write_jsonl(tmp_path / split / "0001.jsonl", row)
    assert values(tmp_path, split="train") == ROWS[1:]


def test_folder_without_data(tmp_path):
    with pytest.raises(DataError, match="no data files"):
        values(tmp_path)


def test_saved_dataset(tmp_path, dataset):
    dataset.save_to_disk(str(tmp_path / "saved"))
    assert values(tmp_path / "saved") == ROWS
    assert [origin.row for origin, _ in read_records(tmp_path / "saved")] == [1, 2]
    with pytest.raises(DataError, match="no split `test`"):
        values(tmp_path / "saved", split="test")


def test_saved_dataset_dict(tmp_path, dataset):
    both = datasets.DatasetDict({"train": dataset, "test": dataset.select([1])})
    both.save_to_disk(str(tmp_path / "saved"))
    assert values(tmp_path / "saved", split="test") == ROWS[1:]
    with pytest.raises(DataError, match="several splits: test, train"):
        values(tmp_path / "saved")


@pytest.mark.parametrize("damage", ["state.json", "data-00000-of-00001.arrow"])
def test_damaged_saved_dataset(tmp_path, dataset, damage):
    dataset.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / damage).write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be loaded"):
        values(tmp_path / "saved")


def test_hub_id_is_loaded_without_remote_code(monkeypatch, dataset):
    calls = []

    def load_dataset(*positional, **named):
        calls.append((positional, named))
        return datasets.DatasetDict({"train": dataset, "test": dataset.select([0])})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert values("owner/name", split="train") == ROWS
    assert values("owner/name:small", split="test") == ROWS[:1]
    assert calls == [(("owner/name", None), {}), (("owner/name", "small"), {})]
    assert str(next(read_records("owner/name", split="train"))[0]) == "owner/name:1"
    with pytest.raises(DataError, match="several splits"):
        values("owner/name")


def test_hub_failure_is_one_message(monkeypatch):
    def load_dataset(*_):
        raise ConnectionError("no route to host\nlong tail")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"owner/name: .*no route to host\); check the path") as caught:
        values("owner/name")
    assert "long tail" not in str(caught.value)
