"""Entities of people's lives: workers, places and games. One line is one entity."""

from trueup.lab.world.schema import Attribute, Table

WORKERS = Table(
    singular="worker",
    plural="workers",
    pronoun="this worker",
    attributes=(
        Attribute("workplace", "works in the {v}", "work in the {v}"),
        Attribute("help", "helps with {v}", "help with {v}"),
        Attribute("need", "needs {v}", "need {v}"),
        Attribute("hours", "starts in the {v}", "start in the {v}"),
    ),
    lines="""
    doctor clinic health care night
    nurse clinic health patience night
    dentist clinic teeth care afternoon
    chemist clinic medicine numbers morning
    teacher classroom learning patience morning
    professor classroom learning knowledge afternoon
    chef kitchen meals speed evening
    baker kitchen meals care night
    butcher shop meals strength morning
    grocer shop shopping numbers morning
    tailor shop clothes care afternoon
    florist shop flowers taste morning
    barber shop hair care afternoon
    farmer field crops strength morning
    shepherd field wool patience night
    gardener field flowers patience morning
    miner mine fuel strength night
    blacksmith workshop machines strength morning
    carpenter workshop homes care morning
    plumber workshop homes knowledge afternoon
    mechanic garage machines knowledge afternoon
    lawyer office law words afternoon
    clerk office letters numbers morning
    banker office money numbers morning
    writer office books words evening
    actor theatre fun words evening
    singer theatre music practice evening
    dancer theatre fun practice evening
    sailor harbour travel strength night
    fisherman harbour meals patience night
    judge court law knowledge afternoon
    guard court safety strength night
    """,
)

PLACES = Table(
    singular="place",
    plural="places",
    attributes=(
        Attribute("purpose", "is for {v}", "are for {v}"),
        Attribute("setting", "stands in the {v}", "stand in the {v}"),
        Attribute("mood", "is {v}", "are {v}"),
        Attribute("size", "is {v}", "are {v}"),
    ),
    lines="""
    library reading town quiet large
    school learning village noisy large
    college learning city busy huge
    museum learning city quiet huge
    bakery eating village busy small
    cafe eating town busy small
    tavern drinking village noisy small
    restaurant eating city busy large
    market shopping town noisy large
    bookshop shopping town quiet small
    mall shopping city noisy huge
    hospital healing city busy huge
    pharmacy healing town quiet small
    spa resting hills quiet small
    inn sleeping village quiet small
    hotel sleeping city busy huge
    hostel sleeping town noisy large
    cabin sleeping hills quiet small
    church praying village quiet large
    temple praying hills quiet large
    mosque praying city quiet huge
    chapel praying village quiet tiny
    stadium sports city noisy huge
    pool swimming town noisy large
    gym sports town busy large
    airport travelling city busy huge
    port travelling city noisy huge
    lighthouse guiding hills lonely large
    castle living hills lonely huge
    palace living city quiet huge
    cottage living village quiet small
    cinema watching town busy large
    zoo watching city noisy huge
    tower watching hills lonely large
    """,
)

GAMES = Table(
    singular="game",
    plural="games",
    attributes=(
        Attribute("gear", "uses {v}", "use {v}"),
        Attribute("ground", "is played on the {v}", "are played on the {v}"),
        Attribute("need", "needs {v}", "need {v}"),
        Attribute("side", "is for {v}", "are for {v}"),
    ),
    lines="""
    ~football balls grass speed teams
    ~rugby balls grass strength teams
    ~cricket bats grass aim teams
    ~baseball bats grass aim teams
    ~golf clubs grass aim loners
    ~hockey sticks ice speed teams
    ~curling stones ice aim teams
    ~tennis rackets court speed pairs
    ~badminton rackets court speed pairs
    ~squash rackets court speed pairs
    ~basketball balls court speed teams
    ~volleyball balls sand speed teams
    ~bowling balls floor aim friends
    ~boxing fists mat strength pairs
    ~judo throws mat strength pairs
    ~wrestling holds floor strength pairs
    ~chess pieces table thinking pairs
    ~checkers pieces table thinking pairs
    ~dominoes tiles table thinking friends
    ~mahjong tiles table memory friends
    ~poker cards table luck friends
    ~bridge cards table memory teams
    ~solitaire cards table luck loners
    ~bingo numbers table luck friends
    ~darts arrows wall aim friends
    ~archery arrows grass aim loners
    """,
)
