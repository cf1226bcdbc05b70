"""What a verifier prefers."""

import numpy as np

from trueup.lab.arithmetic.preferences import verified_pairs

PROMPTS = ["1+1=", "2+2=", "3+3=", "4+4="]
TEXTS = [["a", "b", "c", "d"], ["e", "f", "g", "h"], ["i", "j", "k", "l"], ["m", "n", "o", "p"]]
RIGHT = np.array([[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], bool)


def test_right_workings_are_preferred_to_wrong_ones_of_the_same_problem_each_once():
    rows = verified_pairs(PROMPTS, TEXTS, RIGHT, pairs=4, seed=0)
    found = {(row.prompt, row.responses[0].text, row.responses[1].text) for row in rows}
    assert [row.prompt for row in rows] == ["1+1=", "1+1=", "4+4="]
    assert {one for _, one, _ in found} == {"a", "c", "n"}
    assert {other for prompt, _, other in found if prompt == "1+1="} == {"b", "d"}
    assert all([one.label for one in row.responses] == [True, False] for row in rows)
    assert len({row.id for row in rows}) == len(rows)


def test_a_problem_gives_no_more_than_is_asked_and_chance_decides_who_meets_whom():
    assert [row.prompt for row in verified_pairs(PROMPTS, TEXTS, RIGHT, pairs=1, seed=0)] == ["1+1=", "4+4="]
    firsts = [verified_pairs(PROMPTS, TEXTS, RIGHT, pairs=1, seed=seed)[0] for seed in range(30)]
    assert len({tuple(one.text for one in row.responses) for row in firsts}) == 4
