"""The closed lists by which `noun_rules` reads English: function words, common verbs, adjectives.

Written for what people say about pictures. A word that stands in no list is a noun, so the lists
hold what ends a noun phrase or what cannot be its head; nouns only where their ending misleads.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ---- What opens a noun phrase.
SINGULAR_DETERMINERS = _words("a an this each every another one")  # "that" is told apart by place
PLURAL_DETERMINERS = _words("these those several many few both all various numerous")
QUANTIFIERS = _words("several many few various numerous")  # "his many dogs", "a few dogs"
DETERMINERS = (
    SINGULAR_DETERMINERS
    | PLURAL_DETERMINERS
    | _words("the that some any no either neither such much what enough")
) - {"one"}
BEFORE_DETERMINERS = _words("all both half such what quite")  # "all the dogs", "half a pizza"
POSSESSIVES = _words("my your his her its our their whose")
NUMERALS = _words(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million dozen"
)

# ---- What ends one.
PREPOSITIONS = _words(
    "of in on at to from with without by for about above below over under underneath beneath "
    "beside besides between among amongst behind before after against along alongside around "
    "across through throughout toward towards into onto upon off out up down inside outside "
    "within near past via during until till since like unlike as than per except despite amid "
    "amidst atop aboard opposite versus vs"
)
CONJUNCTIONS = _words("and or & nor")
PRONOUNS = _words(
    "i me you he him she it we us they them mine yours hers ours theirs myself yourself himself "
    "herself itself ourselves themselves something anything nothing everything others none there "
    "i'm you're we're they're i've you've we've they've i'd you'd he'd she'd we'd they'd"
)
CLAUSE_WORDS = _words(
    "who whom which where when why how while because although though if unless whether but yet so "
    "that's who's what's there's here's it's he's she's"
)
ADVERBS = _words(
    "very quite too also just only then now not never always often together away apart alone "
    "almost nearly still again here even ever else already rather really pretty upside outdoors "
    "indoors downward upward forward backward forwards backwards sideways back-to-back close-by "
    "nearby please maybe perhaps further somewhat somewhere everywhere overhead ahead aside "
    "instead"
)
NO_ADVERBS = _words(  # end in -ly
    "ugly friendly curly silly lovely elderly early lonely hilly wrinkly wooly woolly bubbly "
    "family butterfly dragonfly firefly fly jelly belly lily bully assembly doily holly dolly "
    "lolly italy july trolly ally alley gully rally supply fully-grown"
)

# ---- Verbs. Auxiliaries are never nouns; the others may be after a determiner ("a stand").
AUXILIARIES = _words(
    "be is are was were am been being isn't aren't wasn't weren't has have had hasn't haven't do "
    "does did doesn't don't didn't could will would shall should may might must cannot can't "
    "won't gets got"
)
# Verbs wherever a noun stands before them.
STRONG_VERBS = _words(
    "sit hold wear carry eat lie lay lean bring become seem appear contain include feature depict "
    "consist belong begin try want need get give take make put keep let go come say see know "
    "think happen allow enjoy explore follow ask tell receive create remain read write hang kneel "
    "gather grow graze chew sniff sleep prepare serve perform celebrate attend bend stare gaze "
    "glance peek peer crouch squat perch huddle lounge relax bathe wander roam enter leave arrive "
    "chase grab reach raise lower pour stir bake yell shout sing speak listen hear feel attempt "
    "learn teach discuss meet greet join sell pay find show detect locate identify surround fill "
    "connect attach adjust inhale protrude adorn extend overlook resemble fit tackle compete "
    "spread cuddle use"
)
# A prompt may begin with one: "find the red car".
IMPERATIVES = _words("find show detect locate identify count look search give tell see get")
# Verbs only where the neighbours say so: "a dog walks on", but "a tv stand", "two dog walks".
WEAK_VERBS = _words(
    "stand walk run play look watch work rest drink cook talk surf ski skate snowboard paddle row "
    "sail dance wave swing slide roll race move turn pass point rise fall drop land skateboard "
    "slice chop brush comb float drift wade splash trot gallop bark fight wrestle guard tow "
    "parade march cruise pile line rush step bike jog hike camp fish hunt shop cheer clap ride "
    "drive fly swim jump climb dive throw toss bounce pitch pose smile wait stretch cover catch "
    "hit kick hug kiss laugh push pull lift touch feed pet lick travel approach share buy blow "
    "dig hide display exit load unload wash open close park sport dry cross face stay search "
    "count study fry stop visit return"
)
PARTICIPLES = _words(  # those that end in no -ed: "a broken vase", "a cake cut in half"
    "worn torn broken frozen sunken fallen hidden woven made seen shown taken held caught hung "
    "built drawn driven eaten thrown kept lit cut spread bent bound sewn blown grown flown strewn "
    "given sat stood sitten lain laid ate ran rode drove flew swam wore went came took gave got "
    "said wrote ridden written chosen forgotten bitten beaten stolen melted swung stuck spun sold"
)
COMPOUND_PARTICIPLES = _words(  # may stand inside a name: "a tree lined street"
    "covered lined topped filled shaped colored coloured sized framed haired eyed walled handled "
    "sleeved roofed paved tiled patterned themed flavored fired wheeled legged based made"
)
ING_NOUNS = _words(
    "building ceiling clothing painting railing evening morning frosting topping awning crossing "
    "opening landing wedding earring herring duckling sibling dumpling pudding icing stuffing "
    "lighting bedding furnishing flooring siding molding moulding stocking legging covering "
    "carving drawing dressing plumbing housing awnings offspring darling gosling seedling sapling "
    "marking lettering something anything nothing everything wing ring king string lightning "
    "dwelling starling viking fledgling hatchling sterling"
)
ING_NAMES = _words(  # begin compound nouns also without a determiner: "on dining tables"
    "dining living swimming parking cutting washing baking sleeping frying rocking running "
    "walking shopping skating bowling boxing hiking steering fishing sewing serving mixing "
    "watering folding drinking cooking wedding training racing sailing rowing ironing changing "
    "dressing waiting bathing riding measuring rolling chewing"
)
ED_NOUNS = _words("bed shed sled moped flatbed seabed riverbed bunkbed daybed hotbed biped")

# ---- What is no head, and what belongs to a head.
COLOURS = _words(
    "red orange yellow green blue purple pink brown black white gray grey beige tan cyan magenta "
    "turquoise teal maroon crimson scarlet violet indigo golden blond blonde colored coloured "
    "multicolored multicoloured colorful colourful dark bright pale blueish reddish yellowish "
    "greenish brownish pinkish greyish grayish"
)
SHADES = _words(  # are part of a colour when one follows: "navy blue", "light green"
    "light navy sky lime baby royal forest olive mint ruby neon hot rose blood ice emerald sea "
    "army lemon midnight electric fire cherry brick cream chocolate pastel"
)
ALSO_NOUNS = _words(  # adjectives that are the thing itself where no noun follows
    "orange light violet tan blond blonde plaid square round oval plush antique vintage ceramic "
    "azure ivory tangerine ebony coral jade khaki mustard charcoal bronze copper silver lilac "
    "lavender amber aqua mauve chocolate"
)
_SHORT_ADJECTIVES = _words(  # those with -er and -est
    "big small large tall short long wide narrow thick thin fat high low deep old young new fresh "
    "clean dirty wet dry hot cold warm cool hard soft fast slow quick loud quiet happy sad angry "
    "heavy tiny huge shiny fluffy furry hairy cloudy sunny snowy rocky sandy grassy muddy dusty "
    "rusty busy empty full nice fine cute pretty rough smooth sharp flat steep strong weak rich "
    "poor near far close dark bright pale light plain clear safe calm wild tame rare raw ripe "
    "tight loose straight round broad bare dim dull foggy misty rainy windy stormy messy tidy "
    "neat curly wavy spotty stripy skinny chubby bushy leafy hilly icy juicy spicy salty tasty "
    "creamy crispy lonely lovely friendly ugly silly funny early late great grand simple little "
    "sturdy wooly"
)
_ADJECTIVES = _words(
    "good better best bad worse worst more most less least other same different own various main "
    "several certain particular single double triple whole half first second third last next "
    "previous entire open closed alive asleep awake afraid alone ready able unable due aware male "
    "female human elderly adult wooden woolen woollen metallic golden earthen brazen electric "
    "electronic automatic domestic exotic romantic fantastic gigantic athletic artistic public "
    "historic rustic organic generic basic classic modern ancient medieval traditional commercial "
    "residential industrial professional casual formal natural artificial tropical royal oval "
    "vertical horizontal diagonal circular rectangular triangular spherical angular square upper "
    "lower inner outer northern southern eastern western leftmost rightmost topmost bottommost "
    "uppermost overhead outdoor indoor upright stainless massive decorative attractive active "
    "expensive native festive adjacent distant transparent translucent silent giant elegant "
    "vacant pregnant brilliant barefoot barren bald blind bold brave brief crowded naked sacred "
    "cheap chilly correct damp fake false true fancy filthy foreign fragile frail free gentle "
    "gloomy hollow idle intact intense kind lazy left-hand right-hand mature mild multiple mixed "
    "obese opaque proud pure quaint rapid rear scenic secure severe shallow solid stale stiff "
    "stray sweet swift tame tender timid tough unusual usual vast vivid wicked wise japanese "
    "chinese american british french german italian asian african european mexican thai indian "
    "korean russian spanish fluorescent ornate snug neon lush medium strange shabby interesting "
    "amazing stunning charming adjoining matching outstanding"
)
_NO_ABLE = _words("table cable vegetable stable fable gable timetable turntable constable syllable")
_NO_FUL = _words("handful mouthful spoonful armful bowlful cupful roomful")
_NO_ISH = _words(
    "fish dish radish polish rubbish jellyfish goldfish starfish catfish swordfish crayfish blush "
    "shellfish parish varnish relish"
)

PLACES = _words(  # where something is, not a thing: "on the left side", "in front of"
    "front back top bottom left right side sides middle center centre rear background foreground "
    "distance edge end corner midst vicinity direction left-hand right-hand profile"
)
PLACE_WORDS = PLACES | _words("far very upper lower near opposite other same own immediate extreme")
SOMEBODY = _words("someone somebody everyone everybody anyone anybody")
MOVES = _words("runs walks jumps swims flies plays smiles barks rests falls rises dances waits")
PERSONS = _words(
    "man woman boy girl guy lady kid child baby person player gentleman skier surfer rider driver "
    "someone somebody dude fellow batter catcher pitcher umpire dad mom father mother"
)
PICTURES = _words("photo photograph picture image view shot scene snapshot closeup close-up")
COLLECTIVES = _words(  # named with their members: "a pair of shoes"
    "pair group couple bunch set row pile stack lot lots number herd flock crowd team variety "
    "dozen dozens kind type sort piece slice bit array assortment collection series cluster "
    "bundle line bouquet loaf rest stacks rows piles groups pairs pieces slices bunches kinds "
    "types hundreds"
)
CONTAINERS = _words(  # named without what is in them: "a cup of coffee"
    "cup mug glass bowl plate bottle can box bag basket jar bucket tray pot pan tub carton pack "
    "package vase dish platter tank tube pitcher jug barrel crate sack cups mugs glasses bowls "
    "plates bottles cans boxes bags baskets jars buckets trays pots pans"
)
IRREGULAR_PLURALS = _words("people men women children mice geese feet teeth policemen firemen oxen")
NO_PLURALS = _words(  # end in -s
    "bus gas lens canvas glasses sunglasses scissors tennis sports clothes christmas news species "
    "series arms goods pants jeans shorts mattress atlas texas cactus cosmos chaos bias iris "
    "goggles athletics electronics ladies mens womens kids yes his its this alias pancreas "
    "overalls headphones binoculars pajamas stairs barracks gallows chess"
)


def _compared(adjective: str) -> tuple[str, str, str]:
    """An adjective with its comparative and superlative."""
    stem = adjective
    if stem.endswith("y"):
        stem = f"{stem[:-1]}i"
    elif stem.endswith("e"):
        stem = stem[:-1]
    elif len(stem) < 5 and stem[-1] in "bdgmnt" and stem[-2] in "aeiou" and stem[-3] not in "aeou":
        stem += stem[-1]  # bigger, hottest
    return adjective, f"{stem}er", f"{stem}est"


ADJECTIVES = (
    COLOURS
    | ALSO_NOUNS
    | _ADJECTIVES
    | {form for adjective in _SHORT_ADJECTIVES for form in _compared(adjective)}
)


def is_adjective(word: str) -> bool:
    """Whether a word (in lower case) is an adjective by list or by its ending."""
    if word in ADJECTIVES:
        return True
    if len(word) < 6:
        return False
    if word.endswith(("able", "ible")):
        return word not in _NO_ABLE
    if word.endswith("ful"):
        return word not in _NO_FUL
    if word.endswith("ish"):
        return word not in _NO_ISH and not word.endswith("fish")
    return word.endswith(("less", "ous", "most", "-like", "-free", "-sized", "-old", "esque"))


def third_person(verb: str) -> str:
    """The form with -s: stands, watches, flies, goes."""
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return f"{verb}es"
    if verb.endswith("y") and verb[-2] not in "aeou":
        return f"{verb[:-1]}ies"
    return f"{verb}s"


STRONG_WITH_S = frozenset(map(third_person, STRONG_VERBS))
WEAK_WITH_S = frozenset(map(third_person, WEAK_VERBS))
