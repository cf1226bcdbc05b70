from trueup.lab.world import World
from trueup.lab.world.functions import gold, gold_features


def test_gold_as_a_function_is_the_worlds_gold_in_text_and_in_chat():
    world = World()
    rows = world.rows(6, responses=2)
    asked = [row.prompt[-1].content for row in rows]
    replies = [row.responses[0].text for row in rows]
    chats = [[{"role": "user", "content": text}] for text in asked]
    turns = [[{"role": "assistant", "content": text}] for text in replies]
    expected = [row.responses[0].score for row in rows]
    assert gold(asked, replies) == gold(chats, turns) == expected
    assert gold_features(asked, replies) == [row.responses[0].features for row in rows]
