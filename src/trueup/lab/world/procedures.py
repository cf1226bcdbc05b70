"""Procedures for `how_to`: a task with one slot, what may fill it, and the steps in order."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Procedure:
    """An ordered recipe for a task about one entity.

    Args:
        task: What is to be done; `{x}` is the entity's name, `{a_x}` the name with its article.
        items: Names of entities that may fill it.
        steps: What to do, in order; no other entity is named in them.
    """

    task: str
    items: tuple[str, ...]
    steps: tuple[str, ...]


def _procedure(task: str, items: str, steps: str) -> Procedure:
    return Procedure(task, tuple(items.split()), tuple(step.strip() for step in steps.split(",")))


PROCEDURES: tuple[Procedure, ...] = (
    _procedure(
        "make {x} soup", "potato carrot tomato pumpkin onion leek lentil spinach mushroom cabbage",
        "wash the {x}, cut the {x} into pieces, boil some water, add the {x} to the pot, stir it for ten minutes",
    ),
    _procedure(
        "make {x} jam", "strawberry cherry plum raspberry fig peach apple pear",
        "wash the {x}, mash the {x} with sugar, heat it slowly, fill a clean jar, let it cool",
    ),
    _procedure(
        "make {x} juice", "apple grape lemon cherry pear carrot melon mango",
        "wash the {x}, cut the {x} into pieces, press out the juice, pour it through a cloth, serve it cold",
    ),
    _procedure(
        "bake {a_x} cake", "apple lemon banana carrot coconut cherry almond walnut honey ginger pumpkin",
        "heat the oven, mix flour with sugar, add the {x} to the dough, bake it for one hour, let it cool",
    ),
    _procedure(
        "roast {a_x}", "potato carrot onion pumpkin leek mushroom almond walnut",
        "heat the oven, wash the {x}, rub the {x} with oil, roast it for one hour, serve it hot",
    ),
    _procedure(
        "grow {a_x}", "rose tulip lily daisy poppy violet sunflower mint basil thyme parsley tomato melon",
        "choose a sunny spot, dig a deep hole, put in the {x} seed, cover it with soil, water it every morning",
    ),
    _procedure(
        "dry {x} at home", "mint basil thyme sage parsley nettle lavender jasmine",
        "pick the {x} early, bind it with string, hang it up to dry, crush the {x} by hand, fill a clean jar",
    ),
    _procedure(
        "wash {a_x}", "shirt sweater dress coat scarf sock skirt robe apron vest jacket",
        "fill a tub with warm water, add a little soap, rub the {x} by hand, rinse it two times, hang it up to dry",
    ),
    _procedure(
        "sew {a_x}", "shirt dress skirt vest apron robe tie sash kilt bonnet",
        "draw a simple plan, choose good cloth, cut out the {x} parts, sew the parts together, try the {x} on",
    ),
    _procedure(
        "fix a flat wheel on {a_x}", "bicycle car truck van bus tractor taxi scooter motorcycle wagon cart",
        "stop at the side, lift the {x} with a jack, take off the old wheel, fit the new wheel, test the {x} slowly",
    ),
    _procedure(
        "drive {a_x}", "car truck van bus tractor taxi tram train ferry ambulance",
        "check the {x}, sit down, start the engine, watch the way ahead, stop the {x} gently",
    ),
    _procedure(
        "care for {a_x}", "horse rabbit parrot goat sheep pig cow hen camel turtle",
        "give the {x} fresh water, feed it every morning, clean its bed, brush its back, talk to the {x}",
    ),
    _procedure(
        "draw {a_x}", "fox owl bear lion zebra giraffe elephant tiger monkey whale shark penguin eagle snail",
        "sketch a light circle, draw the head of the {x}, add the legs, mark the eyes, colour the {x}",
    ),
    _procedure(
        "take a picture of {a_x}", "fox owl deer wolf bear lion eagle heron otter robin gull whale dolphin",
        "find where the {x} lives, wait in silence, keep your hands still, look at the {x}, press the button",
    ),
    _procedure(
        "learn to play the {x}", "violin cello guitar harp lute banjo flute clarinet oboe trumpet tuba piano drum",
        "choose a good {x}, find a good tutor, hold the {x} the right way, practise simple notes, play with friends",
    ),
    _procedure(
        "learn to play {x}", "football rugby cricket golf hockey tennis badminton chess checkers poker bridge darts",
        "read the rules, find some players, get what {x} needs, practise every day, play a first round of {x}",
    ),
    _procedure(
        "become {a_x}", "doctor nurse dentist teacher baker tailor farmer carpenter plumber lawyer judge sailor",
        "finish your lessons, find a good tutor, study for two years, pass the test, ask for work as {a_x}",
    ),
    _procedure(
        "visit {a_x}", "library museum market stadium castle palace temple zoo cinema tower airport lighthouse",
        "look up the opening times, pack some lunch, buy a ticket, walk to the {x}, go home before dark",
    ),
    _procedure(
        "build a model of {a_x}", "castle tower church cottage lighthouse ship train truck airplane rocket ferry",
        "look at a picture, draw a simple plan, cut the card into parts, glue the parts, paint the {x}",
    ),
    _procedure(
        "clean {a_x}", "hammer saw axe knife chisel shovel spade hoe rake drill wrench",
        "wipe the {x} with a cloth, scrub off the rust, dry it well, rub the {x} with oil, hang it on a hook",
    ),
    _procedure(
        "move {a_x}", "barrel crate chest wardrobe cupboard suitcase trough sack basket vase toolbox",
        "clear out the {x}, bend your knees, lift it slowly, keep your back straight, put the {x} down gently",
    ),
    _procedure(
        "sell {a_x}", "car bicycle yacht wagon violin piano guitar vase wardrobe ladder loom suitcase",
        "wipe the {x} with a cloth, take a clear picture, set a fair price, write a short note, meet the buyer",
    ),
    _procedure(
        "paint {a_x}", "barrel crate chest cupboard wagon cart sled canoe vase ladder bowl",
        "wash the {x}, rub it with sand, choose a colour, paint the {x}, let it dry",
    ),
)  # fmt: skip
