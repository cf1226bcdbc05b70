"""Entities that people make: tools, instruments, vehicles, garments and containers. One line is one entity."""

from trueup.lab.world.schema import Attribute, Table

TOOLS = Table(
    singular="tool",
    plural="tools",
    attributes=(
        Attribute("use", "is used for {v}", "are used for {v}"),
        Attribute("material", "is made of {v}", "are made of {v}"),
        Attribute("room", "belongs in the {v}", "belong in the {v}"),
        Attribute("size", "is {v}", "are {v}"),
    ),
    lines="""
    hammer building iron workshop small
    saw cutting steel workshop large
    axe cutting iron shed large
    knife cutting steel kitchen small
    chisel carving steel workshop small
    drill building steel workshop large
    wrench fixing steel garage small
    spanner fixing iron garage small
    anvil shaping iron workshop huge
    file shaping steel workshop small
    shovel digging iron shed large
    spade digging steel garden large
    hoe digging iron garden large
    rake cleaning wood garden large
    broom cleaning straw kitchen large
    mop cleaning cotton kitchen large
    sponge cleaning rubber kitchen small
    ladle cooking steel kitchen small
    whisk cooking steel kitchen small
    spatula cooking plastic kitchen small
    grater cutting steel kitchen small
    needle sewing steel studio tiny
    thimble sewing silver studio tiny
    loom weaving wood studio huge
    pen writing plastic office tiny
    pencil writing wood office tiny
    ruler measuring wood office small
    compass measuring brass office tiny
    scale measuring iron kitchen large
    paintbrush painting wood studio small
    easel painting wood studio large
    ladder climbing wood garage huge
    rope climbing cotton garage large
    """,
)

INSTRUMENTS = Table(
    singular="instrument",
    plural="instruments",
    attributes=(
        Attribute("group", "is {a_v} instrument"),
        Attribute("playing", "is played by {v}", "are played by {v}"),
        Attribute("material", "is made of {v}", "are made of {v}"),
        Attribute("sound", "sounds {v}", "sound {v}"),
        Attribute("size", "is {v}", "are {v}"),
    ),
    lines="""
    violin string bowing wood bright small
    viola string bowing wood warm small
    cello string bowing wood deep large
    fiddle string bowing wood bright small
    guitar string plucking wood warm large
    harp string plucking wood gentle huge
    lute string plucking wood gentle small
    banjo string plucking skin bright large
    mandolin string plucking wood bright small
    zither string plucking wood gentle large
    flute wind blowing silver bright small
    piccolo wind blowing silver sharp tiny
    clarinet wind blowing wood warm small
    oboe wind blowing wood sharp small
    bassoon wind blowing wood deep large
    recorder wind blowing wood gentle small
    ocarina wind blowing ceramic gentle tiny
    trumpet wind blowing brass loud small
    trombone wind blowing brass loud large
    tuba wind blowing brass deep huge
    whistle wind blowing brass sharp tiny
    piano keyboard pressing wood warm huge
    organ keyboard pressing brass loud huge
    accordion keyboard pressing wood loud large
    drum percussion striking skin loud large
    gong percussion striking brass deep large
    xylophone percussion striking wood bright large
    cymbal percussion striking brass loud small
    triangle percussion striking steel sharp tiny
    rattle percussion shaking wood gentle tiny
    tambourine percussion shaking skin bright small
    """,
)

VEHICLES = Table(
    singular="vehicle",
    plural="vehicles",
    attributes=(
        Attribute("route", "travels by {v}", "travel by {v}"),
        Attribute("power", "is moved by {v}", "are moved by {v}"),
        Attribute("load", "carries {v}", "carry {v}"),
        Attribute("size", "is {v}", "are {v}"),
    ),
    lines="""
    car road petrol families large
    bus road petrol people huge
    taxi road petrol people large
    truck road petrol goods huge
    tractor road petrol crops large
    ambulance road petrol patients large
    van road petrol parcels large
    motorcycle road petrol riders small
    bicycle road pedals riders small
    tricycle road pedals children small
    scooter road batteries riders small
    skateboard road feet riders tiny
    wagon road ponies goods large
    carriage road ponies people large
    cart road ponies crops large
    train rail steam people huge
    tram rail batteries people huge
    locomotive rail steam ore huge
    ship water petrol goods huge
    ferry water petrol people huge
    yacht water wind families large
    sailboat water wind families small
    canoe water paddles riders small
    kayak water paddles riders tiny
    raft water paddles goods small
    submarine water batteries divers huge
    airplane air petrol people huge
    helicopter air petrol patients large
    glider air wind pilots large
    balloon air heat families huge
    drone air batteries parcels tiny
    rocket air petrol pilots huge
    sled snow gravity children small
    sleigh snow ponies families large
    """,
)

GARMENTS = Table(
    singular="garment",
    plural="garments",
    attributes=(
        Attribute("part", "is worn on the {v}", "are worn on the {v}"),
        Attribute("material", "is made of {v}", "are made of {v}"),
        Attribute("season", "is best in {v}", "are best in {v}"),
        Attribute("purpose", "is good for {v}", "are good for {v}"),
    ),
    lines="""
    hat head felt autumn rain
    cap head cotton summer sport
    helmet head plastic spring sport
    hood head wool winter warmth
    turban head cotton summer shade
    bonnet head linen spring shade
    scarf neck wool winter warmth
    tie neck silk spring parties
    collar neck linen spring work
    glove hands leather winter warmth
    mitten hands wool winter warmth
    boot feet leather winter work
    shoe feet leather autumn work
    sandal feet leather summer walking
    slipper feet felt winter sleep
    sock feet wool winter warmth
    sneaker feet cotton spring sport
    coat body wool winter warmth
    jacket body leather autumn rain
    shirt body cotton summer work
    sweater body wool autumn warmth
    vest body cotton spring work
    dress body silk summer parties
    gown body silk autumn parties
    robe body cotton winter sleep
    apron body linen spring cooking
    kimono body silk spring parties
    belt waist leather autumn work
    sash waist silk summer parties
    skirt legs linen summer walking
    kilt legs wool autumn parties
    """,
)

CONTAINERS = Table(
    singular="container",
    plural="containers",
    attributes=(
        Attribute("contents", "holds {v}", "hold {v}"),
        Attribute("material", "is made of {v}", "are made of {v}"),
        Attribute("room", "stands in the {v}", "stand in the {v}"),
        Attribute("size", "is {v}", "are {v}"),
    ),
    lines="""
    jug water ceramic kitchen small
    kettle water steel kitchen small
    bucket water plastic garage large
    cup tea ceramic kitchen tiny
    teapot tea ceramic kitchen small
    flask soup steel kitchen small
    bowl soup wood kitchen small
    barrel wine wood cellar huge
    bottle wine glass cellar small
    goblet wine glass hall small
    basket fruit straw pantry large
    crate fruit wood cellar large
    sack grain cotton barn large
    silo grain steel barn huge
    trough hay wood barn large
    vase flowers glass hall small
    chest clothes wood bedroom huge
    suitcase clothes leather bedroom large
    wardrobe clothes wood bedroom huge
    wallet money leather office tiny
    purse money leather bedroom tiny
    vault money steel office large
    envelope letters paper office tiny
    folder letters paper office small
    toolbox nails steel garage large
    tray plates plastic pantry large
    cupboard plates wood pantry huge
    """,
)
