import pytest

from endpoints.doubles import local_server
from trueup.errors import RecipeError
from trueup.rewards.http import HttpReward
from trueup.rewards.judge import JudgeReward
from trueup.rewards.load import load_reward
from trueup.rewards.servers import open_server


def test_a_reward_server_by_address():
    reward = load_reward("http://h:5000/get_reward?protocol=vllm&batch_size=3&model=m")
    assert isinstance(reward, HttpReward)
    assert (reward.settings.protocol, reward.settings.batch_size, reward.settings.model) == ("vllm", 3, "m")
    assert reward.client.endpoint.url == "http://h:5000/get_reward"
    assert reward.name == "h:5000"
    plain = load_reward("mine=https://h/x", progress=True)
    assert (plain.name, plain.settings.protocol, plain.progress) == ("mine", "plain", True)


def test_a_judge_by_address(tmp_path):
    (tmp_path / "t.j2").write_text("{{ response }}")
    judge = load_reward(f"fair=judge:http://h:8000?model=m&temperature=0.5&repeats=2&template_file={tmp_path}/t.j2")
    assert isinstance(judge, JudgeReward)
    assert (judge.name, judge.settings.temperature, judge.settings.repeats) == ("fair", 0.5, 2)
    assert judge.client.endpoint.url == "http://h:8000/v1/chat/completions"
    assert load_reward("judge:http://h:8000?model=m").name == "m"


def test_a_judge_by_a_file(tmp_path):
    """The template lies beside the file, and numbers may be lists."""
    (tmp_path / "t.j2").write_text("{{ prompt }} {{ response }}")
    asked = []

    def answer(path, payload):
        asked.append(payload["messages"][0]["content"])
        return 200, {"choices": [{"message": {"content": '{"grade": -1}'}}]}

    with local_server(answer) as address:
        path = tmp_path / "judge.yaml"
        path.write_text(
            f"kind: judge\nurl: {address}\nmodel: m\ntemplate_file: t.j2\nkey: grade\nscale: [-2, 2]\n"
            f"cache_folder: {tmp_path}\n"
        )
        assert load_reward(str(path)).score(["p"], [["r"]]).reward.tolist() == [-1]
    assert asked == ["p r"]
    assert load_reward(f"label={path}").name == "label"


def test_a_reward_server_by_a_json_file(tmp_path):
    (tmp_path / "rm.json").write_text('{"kind": "http", "url": "http://h?version=2", "name": "rm", "extra": {"a": 1}}')
    reward = open_server(str(tmp_path / "rm.json"))
    assert isinstance(reward, HttpReward)
    assert (reward.name, reward.settings.url, reward.settings.extra) == ("rm", "http://h?version=2", {"a": 1})


@pytest.mark.parametrize("place", ["package.module:function", "folder", "org/model", "judge:function", "x.yaml.d"])
def test_names_of_something_else(place):
    assert open_server(place) is None


def test_a_folder_may_be_named_like_a_file(tmp_path):
    (tmp_path / "run.json").mkdir()
    assert open_server(str(tmp_path / "run.json")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url: http://h", "field `kind` is missing; write `kind: http` or `kind: judge`"),
        ("kind: robot\nurl: http://h", "field `kind`: unknown 'robot'"),
        ("kind: [http]\nurl: http://h", "field `kind`: unknown"),
        ("kind: judge\nmodel: m", "field `url` is missing"),
        ("kind: judge\nurl: http://h\ntemprature: 1", "unknown field `temprature`; did you mean `temperature`"),
        ("kind: http\nurl: http://h\nprotocol: grpc", "field `protocol`: .*got 'grpc'"),
        ("kind: http\nurl: http://h\nbatch_size: 0", "batch_size must be at least 1"),
        ("kind: judge\nurl: http://h\nscale: [1]", "field `scale"),
        ("kind: judge\nurl: http://h\ntemplate_file: ~nobody-at-all/t", "names no known user"),
        ("kind: judge\nurl: http://h\n3: 4", "unknown field `3`"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(RecipeError, match=f"s.yaml: .*{message}|{message}"):
        open_server(str(tmp_path / "s.yaml"))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("http://h?protokol=vllm", r"http://h: unknown field `protokol`; did you mean `protocol`\?"),
        ("judge:http://h?model=a&model=b", "`model` is given twice"),
        ("http://", "is no address"),
        ("judge:https://h?template=none", "template: never shows the response"),
        ("judge:http://h?api_key=x", "did you mean `api_key_env`"),
    ],
)
def test_addresses_that_cannot_be_used(place, message):
    with pytest.raises(RecipeError, match=message):
        open_server(place)
