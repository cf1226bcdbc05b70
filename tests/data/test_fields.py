import math

import pytest

from trueup.data.fields import Fields, as_number
from trueup.data.rows import Message, Origin
from trueup.errors import DataError


def fields(**values) -> Fields:
    return Fields(Origin("data.jsonl", 7), values)


def test_errors_name_place_field_what_was_found_and_what_was_expected():
    with pytest.raises(DataError) as caught:
        fields(prompt=3).text("prompt")
    assert str(caught.value) == "data.jsonl:7, field `prompt`: found number 3; expected a string"
    with pytest.raises(DataError, match="the field is missing"):
        fields().text("prompt")
    with pytest.raises(DataError, match="the field is null"):
        fields(prompt=None).text("prompt")


def test_errors_inside_lists_name_the_entry():
    with pytest.raises(DataError, match=r"field `responses\[1\].text`: found list \[\]; expected a string"):
        [one.text("text") for one in fields(responses=[{"text": "a"}, {"text": []}]).objects("responses")]
    with pytest.raises(DataError, match=r"field `responses\[0\]`: found string 'x'; expected an object"):
        list(fields(responses=["x"]).objects("responses"))
    with pytest.raises(DataError, match=r"field `chosen\[2\]`"):
        fields(chosen=["a", "b", None]).texts("chosen")
    with pytest.raises(DataError, match=r"field `prompt\[0\].content`: the field is missing"):
        fields(prompt=[{"role": "user"}]).messages("prompt")


def test_long_and_deep_values_are_shortened():
    deep = []
    for _ in range(5000):
        deep = [deep]
    for value in ("x" * 10_000, deep, {"a": deep}, 10**6000):
        with pytest.raises(DataError) as caught:
            fields(label=value).flag("label")
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), (0.5, 0.5), (-3, -3.0)])
def test_numbers(value, number):
    assert as_number(value) == number
    assert fields(score=value).number("score") == number


@pytest.mark.parametrize("value", [True, "1", None, math.nan, math.inf, 10**400, [1]])
def test_what_is_no_number(value):
    assert as_number(value) is None
    with pytest.raises(DataError, match="finite number"):
        fields(score=value).number("score")


def test_flags():
    assert [fields(label=value).flag("label") for value in (True, False, 1, 0, 1.0)] == [True, False, True, False, True]
    for value in (2, "true", None):
        with pytest.raises(DataError, match="true or false"):
            fields(label=value).flag("label")


def test_names():
    assert fields(id=12).optional_name("id") == "12"
    assert fields(id=None, prompt_id="x").optional_name("id", "prompt_id") == "x"
    assert fields().optional_name("id") is None
    assert fields(id=16**5000).optional_name("id").startswith("0x1000")
    for value in (True, 1.5, ["x"]):
        with pytest.raises(DataError, match="a string or a whole number"):
            fields(id=value).optional_name("id")


def test_prompts():
    assert fields(prompt="").prompt("prompt") == ""
    turns = [{"role": "user", "content": "hi", "extra": 1}]
    assert fields(prompt=turns).prompt("prompt") == (Message("user", "hi"),)
    for value in ([], 3, {"role": "user", "content": "hi"}):
        with pytest.raises(DataError):
            fields(prompt=value).prompt("prompt")


def test_named_numbers_as_objects_and_as_parquet_gives_them():
    assert fields(features={"a": 1, "b": None}).numbers("features") == {"a": 1.0}
    assert fields(features=[("a", 1), ("b", 2.5)]).numbers("features") == {"a": 1.0, "b": 2.5}
    assert fields().numbers("features") == {}
    for value in ("x", [1], [("a", "b")], {"a": "b"}):
        with pytest.raises(DataError):
            fields(features=value).numbers("features")
