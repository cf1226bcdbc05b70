import logging
import os
import sqlite3
import subprocess
import sys
import threading

import pytest

from trueup.endpoints.cache import FILE, AnswerCache, answer_key
from trueup.errors import OutputError


def fill(folder, count):
    with AnswerCache(folder) as cache:
        for number in range(count):
            cache.put(f"key{number}", {"number": number, "text": "é\u2028" * 300})


def test_answers_stay(tmp_path):
    fill(tmp_path / "deep" / "down", 3)
    with AnswerCache(tmp_path / "deep" / "down") as cache:
        cache.put("key1", None)
        found = cache.find(["key2", "key1", "absent", "key2"])
        assert found == {"key2": {"number": 2, "text": "é\u2028" * 300}, "key1": None}
        assert cache.find([]) == {}


def test_more_keys_than_one_query_takes(tmp_path):
    fill(tmp_path, 1203)
    with AnswerCache(tmp_path) as cache:
        assert len(cache.find([f"key{number}" for number in range(5000)])) == 1203


def test_the_key_tells_requests_apart():
    keys = {answer_key(url, body) for url in ("http://a", "http://a/b") for body in ('{"x":1}', '{"x":2}')}
    assert len(keys) == 4
    assert answer_key("http://a", "{}") == answer_key("http://a", "{}")


def test_threads_share_one(tmp_path):
    with AnswerCache(tmp_path) as cache:

        def work(name):
            for number in range(50):
                cache.put(f"{name}-{number}", number)
                assert cache.find([f"{name}-{number}"]) == {f"{name}-{number}": number}

        threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(cache.find([f"{name}-{number}" for name in range(6) for number in range(50)])) == 300


def test_processes_share_one(tmp_path):
    code = """
import sys
from pathlib import Path
from trueup.endpoints.cache import AnswerCache
for number in range(40):
    with AnswerCache(Path(sys.argv[1])) as cache:
        cache.put(f"{sys.argv[2]}-{number}", number)
"""
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(name)]) for name in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    with AnswerCache(tmp_path) as cache:
        assert len(cache.find([f"{name}-{number}" for name in range(4) for number in range(40)])) == 160


@pytest.mark.parametrize("damage", ["text", "header", "pages", "no table"])
def test_a_damaged_file_is_moved_aside(tmp_path, caplog, damage):
    fill(tmp_path, 200)
    path = tmp_path / FILE
    whole = path.read_bytes()
    assert len(whole) > 100_000
    if damage == "text":
        path.write_text("this is no database at all, only words " * 200)
    elif damage == "header":
        path.write_bytes(b"\0" * 64 + whole[64:])
    elif damage == "pages":
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    else:  # the first page keeps its header only
        path.write_bytes(whole[:100] + b"\xff" * 3996 + whole[4096:])
    with caplog.at_level(logging.WARNING), AnswerCache(tmp_path) as cache:
        assert cache.find([f"key{number}" for number in range(200)]) == {}
        cache.put("new", 1)
    assert "moved to damaged-" in caplog.text
    assert len([name for name in os.listdir(tmp_path) if name.startswith("damaged-") and name.endswith(FILE)]) == 1
    with AnswerCache(tmp_path) as cache:
        assert cache.find(["new"]) == {"new": 1}


def test_damage_while_it_is_open(tmp_path, caplog):
    fill(tmp_path, 200)
    with AnswerCache(tmp_path) as cache:
        path = tmp_path / FILE
        size = path.stat().st_size
        with path.open("r+b") as handle:
            handle.seek(4096)
            handle.write(b"\xff" * (size - 4096))
        assert cache.find([f"key{number}" for number in range(200)]) == {}
        cache.put("new", 1)
        assert cache.find(["new"]) == {"new": 1}
    assert "damaged" in caplog.text


def test_a_damaged_answer_is_no_answer(tmp_path, caplog):
    fill(tmp_path, 2)
    file = sqlite3.connect(tmp_path / FILE)
    file.execute("UPDATE answers SET answer = '{\"number\": ' WHERE key = 'key0'")
    file.commit()
    file.close()
    with AnswerCache(tmp_path) as cache:
        assert list(cache.find(["key0", "key1"])) == ["key1"]
    assert "damaged" in caplog.text


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written"), AnswerCache(tmp_path / "file"):
        pass
    (tmp_path / "folder" / FILE).mkdir(parents=True)
    with pytest.raises(OutputError, match=r"unable to open.*cache_folder"), AnswerCache(tmp_path / "folder"):
        pass
