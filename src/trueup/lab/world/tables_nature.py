"""Entities of nature: animals, foods, plants and minerals. One line is one entity; columns follow the attributes.

A name after `~` takes no article ("rice"). Every value is one word that means one attribute within its kind.
"""

from trueup.lab.world.schema import Attribute, Table

ANIMALS = Table(
    singular="animal",
    plural="animals",
    attributes=(
        Attribute("group", "is {a_v}"),
        Attribute("colour", "is {v}", "are {v}"),
        Attribute("size", "is {v}", "are {v}"),
        Attribute("home", "lives in the {v}", "live in the {v}"),
        Attribute("diet", "eats {v}", "eat {v}"),
    ),
    lines="""
    fox mammal red small forest meat
    wolf mammal grey large forest meat
    deer mammal brown large forest leaves
    squirrel mammal red small forest seeds
    bear mammal brown huge forest fruit
    owl bird brown small forest meat
    badger mammal grey small forest bugs
    woodpecker bird black small forest bugs
    beetle insect black tiny forest leaves
    moose mammal brown huge forest leaves
    lion mammal yellow large grassland meat
    zebra mammal white large grassland grass
    giraffe mammal yellow huge grassland leaves
    elephant mammal grey huge grassland grass
    ostrich bird black large grassland seeds
    cheetah mammal yellow large grassland meat
    locust insect green tiny grassland grass
    tiger mammal orange large jungle meat
    monkey mammal brown small jungle fruit
    parrot bird green small jungle seeds
    gorilla mammal black huge jungle leaves
    toucan bird black small jungle fruit
    butterfly insect blue tiny jungle pollen
    camel mammal brown huge desert grass
    lizard reptile yellow small desert bugs
    scorpion insect black tiny desert bugs
    cobra reptile brown large desert meat
    vulture bird black large desert meat
    whale mammal blue huge sea shrimp
    dolphin mammal grey large sea shrimp
    shark fish grey huge sea meat
    turtle reptile green large sea weeds
    seahorse fish orange tiny sea shrimp
    tuna fish blue large sea shrimp
    gull bird white small sea shrimp
    salmon fish pink large river bugs
    trout fish brown small river bugs
    otter mammal brown small river shrimp
    crocodile reptile green huge river meat
    heron bird grey large river shrimp
    goat mammal white large mountains grass
    eagle bird brown large mountains meat
    yak mammal black huge mountains grass
    penguin bird black small snow shrimp
    reindeer mammal grey large snow weeds
    cow mammal brown large barn grass
    horse mammal brown huge barn grass
    sheep mammal white large barn grass
    pig mammal pink large barn fruit
    hen bird white small barn seeds
    rabbit mammal white small garden leaves
    snail insect brown tiny garden leaves
    robin bird red tiny garden bugs
    bee insect yellow tiny garden pollen
    """,
)

FOODS = Table(
    singular="food",
    plural="foods",
    attributes=(
        Attribute("group", "is {a_v}"),
        Attribute("colour", "is {v}", "are {v}"),
        Attribute("taste", "tastes {v}", "taste {v}"),
        Attribute("origin", "comes from the {v}", "come from the {v}"),
        Attribute("meal", "is good for {v}", "are good for {v}"),
    ),
    lines="""
    apple fruit red sweet orchard lunch
    pear fruit green sweet orchard lunch
    plum fruit purple sweet orchard breakfast
    cherry fruit red sweet orchard parties
    lemon fruit yellow sour orchard tea
    fig fruit purple sweet orchard breakfast
    peach fruit pink sweet orchard lunch
    banana fruit yellow sweet jungle breakfast
    mango fruit orange sweet jungle lunch
    coconut fruit brown mild jungle parties
    grape fruit purple sweet vineyard lunch
    raisin fruit brown sweet vineyard breakfast
    strawberry fruit red sweet garden parties
    raspberry fruit pink sour garden breakfast
    melon fruit green sweet field parties
    carrot vegetable orange sweet garden lunch
    potato vegetable brown mild field dinner
    tomato vegetable red sour garden lunch
    onion vegetable white spicy field dinner
    cabbage vegetable green bitter garden dinner
    ~spinach vegetable green bitter garden dinner
    leek vegetable green mild garden dinner
    radish vegetable red spicy garden lunch
    pumpkin vegetable orange sweet field dinner
    olive vegetable green salty orchard parties
    mushroom vegetable brown rich forest dinner
    ~rice staple white mild field dinner
    ~bread staple brown mild mill breakfast
    ~porridge staple white mild mill breakfast
    noodle staple yellow mild mill dinner
    pancake staple yellow sweet mill breakfast
    ~milk drink white mild barn breakfast
    ~coffee drink black bitter jungle breakfast
    ~cider drink yellow sour orchard parties
    egg protein white rich barn breakfast
    ~cheese protein yellow salty barn lunch
    ~bacon protein pink salty barn breakfast
    lentil protein brown mild field dinner
    oyster protein grey salty sea parties
    ~honey topping yellow sweet hive breakfast
    ~butter topping yellow rich barn breakfast
    ~pepper spice black spicy jungle dinner
    ~ginger spice yellow spicy field tea
    ~garlic spice white spicy garden dinner
    almond nut brown mild orchard tea
    walnut nut brown bitter forest tea
    """,
)

PLANTS = Table(
    singular="plant",
    plural="plants",
    attributes=(
        Attribute("group", "is {a_v}"),
        Attribute("colour", "is {v}", "are {v}"),
        Attribute("size", "is {v}", "are {v}"),
        Attribute("home", "grows in the {v}", "grow in the {v}"),
        Attribute("use", "is used for {v}", "are used for {v}"),
    ),
    lines="""
    oak tree brown huge forest timber
    pine tree green huge forest timber
    birch tree white huge forest paper
    maple tree red huge forest syrup
    willow tree green large swamp weaving
    cedar tree brown huge mountains timber
    palm tree green huge tropics shade
    teak tree brown huge jungle timber
    rose flower red small garden scent
    tulip flower yellow small garden beauty
    lily flower white small pond beauty
    daisy flower white tiny meadow beauty
    poppy flower red small meadow beauty
    violet flower purple tiny forest scent
    sunflower flower yellow large meadow oil
    orchid flower pink small jungle beauty
    lotus flower pink large pond beauty
    ~jasmine flower white small garden tea
    ~lavender flower purple small meadow scent
    daffodil flower yellow small garden beauty
    ~mint herb green small garden tea
    ~basil herb green small garden cooking
    ~thyme herb green tiny mountains cooking
    ~sage herb grey small meadow medicine
    ~parsley herb green small garden cooking
    nettle herb green small forest medicine
    ~ivy vine green large forest shade
    hop vine green large garden beer
    cactus bush green large desert shade
    aloe bush green small desert medicine
    ~heather bush purple small mountains tea
    ~holly bush green large forest beauty
    ~bamboo reed green huge jungle paper
    ~papyrus reed green large swamp paper
    cattail reed brown small pond weaving
    """,
)

MINERALS = Table(
    singular="mineral",
    plural="minerals",
    attributes=(
        Attribute("colour", "is {v}", "are {v}"),
        Attribute("hardness", "is {v}", "are {v}"),
        Attribute("origin", "is found in the {v}", "are found in the {v}"),
        Attribute("use", "is used for {v}", "are used for {v}"),
    ),
    lines="""
    ~granite grey hard mountains building
    ~marble white hard mountains statues
    ~slate grey brittle mountains roofs
    ~limestone white soft caves building
    ~coal black brittle mines heating
    ~copper orange soft mines wires
    ~tin grey soft mines cans
    ~zinc blue brittle mines paint
    ~nickel white hard mines coins
    ~ruby red hard caves jewels
    ~emerald green hard caves jewels
    ~sapphire blue hard rivers jewels
    ~topaz yellow hard rivers jewels
    ~amber yellow brittle sand jewels
    ~jade green hard rivers statues
    ~diamond white hard mines blades
    ~quartz white hard deserts clocks
    ~flint grey hard sand fires
    ~chalk white soft sand writing
    ~clay red soft rivers pots
    ~gypsum white soft deserts walls
    ~pumice grey brittle volcanoes cleaning
    ~basalt black hard volcanoes building
    ~sulphur yellow brittle volcanoes fires
    """,
)
