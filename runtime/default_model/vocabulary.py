"""Word lists of the data generator; lists of open values are split by hash."""

PREFIXES = [
    "please ", "please, ", "can you ", "could you ", "can you please ", "could you please ",
    "would you ", "will you ", "hey, ", "hey ", "ok ", "okay, ", "hi, ", "hello, ", "hey can you ",
    "i want you to ", "i need you to ", "i'd like you to ", "would you mind, ", "kindly ",
    "now ", "ok now ", "alright, ", "um ", "so, ", "oh, ", "and ", "just ", "hey hob, ", "hob, ",
    "hob ", "ok hob ", "would you please ", "quick, ", "also ", "right, ", "well, ", "uh ",
    "next, ", "go ahead and ", "be so kind and ", "do me a favor and ", "quickly ", "yo ",
]
# Prefixes that also fit in front of a question.
NEUTRAL_PREFIXES = {
    "hey", "ok", "okay", "hi", "hello", "now", "ok now", "alright", "um", "so", "oh", "and",
    "hey hob", "hob", "ok hob", "quick", "also", "right", "well", "uh", "yo", "please",
}
SUFFIXES = [
    " please", ", please", " thanks", ", thanks", ", thank you", " thank you", " for me",
    " for me please", ", would you", ", will you", ", can you", " right away", ", hob", " if you can",
    ", if you don't mind", " pls",
]

ROOM_NAMES = [
    "kitchen", "living room", "bedroom", "bathroom", "office", "hallway", "garage", "garden",
    "dining room", "kids room", "guest room", "basement", "attic", "balcony", "terrace", "porch",
    "laundry room", "nursery", "study", "library", "workshop", "pantry", "studio", "gym",
    "playroom", "cellar", "lounge", "driveway", "staircase", "corridor", "patio", "conservatory",
]

COLORS = ["red", "green", "blue", "yellow", "orange", "purple", "pink", "white", "warm white",
          "cool white", "turquoise", "violet", "cyan", "magenta", "lime", "amber", "teal", "lavender"]

GENRES = ["jazz", "rock", "pop", "classical music", "blues", "country", "hip hop", "techno", "house music",
          "reggae", "metal", "folk", "soul", "funk", "ambient", "disco", "punk", "opera", "swing",
          "electronic", "indie", "salsa", "gospel", "lofi"]

RELATIONS = ["mum", "mom", "dad", "wife", "husband", "sister", "brother", "boss", "son", "daughter",
             "grandma", "grandpa", "neighbour", "girlfriend", "boyfriend", "aunt", "uncle",
             "landlord", "doctor", "flatmate"]

UNIT_FAMILIES = [
    {"km": ["kilometers", "km", "kilometres"], "m": ["meters", "metres"], "cm": ["centimeters", "cm", "centimetres"],
     "mi": ["miles"], "ft": ["feet", "ft"], "in": ["inches"], "yd": ["yards"]},
    {"kg": ["kilograms", "kg", "kilos"], "g": ["grams", "g"], "lb": ["pounds", "lbs"], "oz": ["ounces", "oz"]},
    {"l": ["liters", "litres"], "ml": ["milliliters", "ml"], "gal": ["gallons"], "cup": ["cups"],
     "tbsp": ["tablespoons", "tbsp"], "tsp": ["teaspoons", "tsp"]},
    {"c": ["celsius", "degrees celsius"], "f": ["fahrenheit", "degrees fahrenheit"]},
    {"kmh": ["kilometers per hour", "km/h"], "mph": ["miles per hour", "mph"]},
    {"s": ["seconds"], "min": ["minutes"], "h": ["hours"], "d": ["days"], "wk": ["weeks"]},
]

SMALL_WORDS = "the a to of in for with my your and is on at from we it i".split()

FIRST_NAMES = """Anna Ben Clara David Emma Felix Grace Henry Isla Jack Kate Liam Mia Noah Olivia Paul Quinn Rosa
Sam Tina Uma Victor Wendy Xavier Yara Zoe Alice Bob Carol Dan Eve Frank Gina Harry Irene Jonas Karin Lena Max Nina
Oscar Petra Ralph Sara Tom Ursula Vera Will Yusuf Zack Aisha Amir Anton Arthur Astrid Bella Bruno Camila Carlos Chloe
Chris Daisy Daniel Diego Dora Edgar Elena Eli Ella Emil Erik Esther Ethan Eva Fatima Finn Flora Freya George Giulia
Greta Hannah Hassan Heidi Hugo Ida Igor Ines Ingrid Ivan Jake James Jana Jasmine Jenny Joan Joe John Julia Julie
Kai Karl Kevin Kim Klaus Lara Laura Leo Lily Linda Lisa Lola Louis Lucas Lucy Luis Lukas Magda Marco Maria Marie Mark
Martha Martin Mary Matteo Megan Mehmet Michael Miguel Mike Milo Molly Nadia Natalie Nick Nico Nora Oliver Omar Otto
Pablo Pedro Peter Phil Pia Priya Rachel Ravi Rebecca Rick Rita Robert Robin Ruth Ryan Sandra Sebastian Simon Sofia
Sophie Stefan Steve Susan Tara Theo Tim Tobias Toni Valerie Vincent Walter Yuki Zara José Zoë Jürgen André Søren Chloé
Priyanka Svetlana Bartholomew Guinevere Thaddeus Ottilie Kwame Nkechi Hiroshi Mei Anjali Rahul Siobhan Niamh Cillian
Dmitri Olga Piotr Agnieszka Zoltan Ilse Joost Saskia Wouter Femke Lorenzo Chiara Beatriz Joaquin Thabo Zanele Tariq
Leila Bjorn Sigrid Matti Aino Vaclav Dragan Milena Nikos Eleni Yannis Abigail Caleb Dylan Fiona Gareth Hazel""".split()

SURNAMES = """Smith Jones Brown Miller Davis Wilson Moore Taylor Clark Lewis Walker Young King Wright Green Baker
Hill Carter Mitchell Turner Parker Evans Edwards Collins Stewart Morris Murphy Cook Rogers Bell Cooper Reed Bailey
Howard Ward Cox Richardson Watson Brooks Bennett Gray Hughes Price Myers Foster Sanders Ross Long Schmidt Weber
Fischer Wagner Becker Hoffmann Koch Richter Klein Wolf Neumann Schwarz Braun Lange Krause Rossi Russo Ferrari Costa
Silva Santos Pereira Garcia Lopez Martinez Gomez Fernandez Ruiz Alvarez Novak Svoboda Kowalski Nowak Petrov Ivanova
Jansen Visser Bakker Andersen Hansen Larsen Berg Lindqvist Okafor Mensah Tanaka Suzuki Kim Park Chen Wang Singh Patel
Kumar Haddad Aydin Yilmaz Dubois Moreau Laurent Lefevre""".split()

PLACES = """London Paris Berlin Madrid Rome Vienna Prague Lisbon Dublin Oslo Stockholm Helsinki Warsaw Budapest Athens
Istanbul Cairo Nairobi Lagos Mumbai Delhi Bangkok Hanoi Tokyo Osaka Seoul Beijing Shanghai Sydney Melbourne Auckland
Toronto Montreal Vancouver Chicago Boston Seattle Denver Austin Miami Havana Lima Bogota Santiago Munich Hamburg Cologne
Zurich Geneva Milan Naples Turin Venice Porto Seville Valencia Lyon Nice Bordeaux Brussels Antwerp Utrecht Leeds Bristol
Glasgow Cardiff Norway Iceland Portugal Spain Italy Greece Turkey Egypt Kenya Brazil Chile Peru Mexico Canada Japan China
India Vietnam Thailand Australia Finland Poland Hungary Croatia Morocco Ghana Cuba Nepal""".split()

ADJECTIVES = """red blue green yellow black white old new big small little large long short hot cold warm cool fresh dry
wet soft hard sweet sour bitter salty light dark bright quiet loud fast slow happy sad lonely golden silver broken empty
full open wild young ancient secret frozen lost hidden lazy crazy gentle heavy early late deep high low wooden plastic
organic frozen sliced smoked whole spicy plain clean dirty spare second final weekly monthly daily annual important urgent
silent rusty crimson velvet distant hollow restless purple neon electric endless paper tiny giant modern""".split()

NOUNS = """table chair door window key lamp car bike train bus ticket bag box bottle cup plate knife fork spoon book letter
paper pen pencil phone charger laptop printer camera battery cable router password wallet coat jacket shirt shoe sock hat
scarf glove umbrella towel blanket pillow carpet curtain mirror shelf drawer cupboard fridge oven kettle toaster mixer
ladder hammer drill saw nail screw tape rope bucket broom mop sponge soap shampoo brush comb razor plant flower tree seed
grass fence gate roof wall floor ceiling pipe tap sink toilet shower bath heater filter fuse switch plug wire engine tire
brake mirror helmet tent map compass torch candle match ring watch necklace present card invitation cake bread soup salad
pizza pasta rice steak chicken fish turkey dinner lunch breakfast coffee tea juice wine beer water milk sugar salt pepper
dog cat rabbit hamster parrot horse cow sheep bird duck river mountain forest lake beach island desert valley ocean sky
moon star sun cloud rain snow storm wind fire ice stone sand gold dream heart soul shadow ghost angel dancer stranger
king queen soldier sailor doctor dentist teacher lawyer plumber electrician painter gardener baker butcher barber tailor
report invoice contract form passport visa licence rent tax bill receipt budget project slide draft essay exam homework
meeting game match concert movie show party picnic holiday flight hotel museum library school office market pharmacy bank
station airport harbour bridge road street corner garden kitchen package parcel delivery suitcase toolbox vacuum blender
piano guitar violin drum trumpet song melody rhythm echo whisper thunder lightning rainbow horizon midnight summer winter
autumn spring feather diamond silk velvet ribbon arrow anchor compass lantern cradle carousel kingdom highway railroad
stroller thermostat radiator chimney freezer microwave dishwasher keyboard monitor headphones backpack sleeping""".split()

VERBS = """call email visit thank remind ask meet book order buy sell return collect fetch bring carry move lift clean wash
wipe dust sweep iron fold sort pack unpack open close lock unlock check inspect repair fix replace paint water feed walk
brush trim cut mow plant pick peel cook bake boil fry freeze defrost taste empty fill refill charge print scan sign send
post file read review finish submit prepare plan cancel renew update install clear organise wrap decorate measure test
weigh polish sharpen oil tighten glue sew mend hang borrow lend photograph record rehearse practise study""".split()

GROCERIES = """milk eggs bread butter cheese yogurt cream apples bananas oranges lemons limes grapes strawberries blueberries
raspberries pears peaches plums cherries mangoes pineapple melon avocados tomatoes potatoes onions garlic carrots celery
broccoli cauliflower spinach lettuce cucumber peppers zucchini mushrooms corn beans peas lentils chickpeas rice pasta
noodles flour sugar salt honey jam oats cereal granola muesli coffee tea cocoa juice water soda beer wine vinegar ketchup
mustard mayonnaise pesto salsa hummus tofu chicken beef pork bacon ham sausages salmon tuna shrimp cod crackers chips
popcorn pretzels cookies chocolate candy napkins tissues detergent bleach sponges soap shampoo conditioner toothpaste
floss deodorant razors batteries candles matches diapers wipes parsley basil cilantro thyme oregano cinnamon paprika cumin
ginger turmeric vanilla almonds walnuts cashews peanuts raisins dates figs coconut quinoa couscous tortillas bagels muffins
croissants pancakes waffles syrup margarine kale leeks radishes beetroot asparagus eggplant artichokes nectarines apricots
papaya kiwis tangerines turnips parsnips shallots chives dill mint rosemary sage feta mozzarella parmesan gouda brie
cheddar salami prosciutto anchovies sardines mackerel capers olives pickles sauerkraut kimchi miso seaweed ramen dumplings
lightbulbs foil envelopes stamps firewood charcoal earplugs bandages aspirin vitamins lollipops marshmallows licorice
|toilet paper|paper towels|olive oil|soy sauce|cat food|dog food|peanut butter|cream cheese|orange juice|brown sugar
|baking powder|trash bags|dish soap|ice cream|sour cream|oat milk|almond milk|bird seed|frozen peas|maple syrup|dark chocolate
|green tea|coffee filters|tomato paste|coconut milk|rye bread|hand soap|laundry detergent|sunflower seeds|goat cheese
|apple sauce|chicken stock|light bulbs|sparkling water|potato chips|sweet potatoes|spring onions|black pepper|sea salt"""
GROCERIES = [w.strip().replace("\n", " ") for part in GROCERIES.split("|")[:1] for w in part.split()] + \
            [w.strip().replace("\n", " ") for w in GROCERIES.split("|")[1:]]

TIMER_NAMES = """pasta|pizza|eggs|egg|tea|coffee|rice|cake|bread|cookies|laundry|oven|potatoes|chicken|roast|soup|nap|workout
|yoga|study|meditation|homework|dishwasher|dryer|washing machine|break|screen time|noodles|fries|sauce|steak|dough|plank
|parking|kids|bath|muffins|turkey|lasagna|quiche|stew|beans|broccoli|reading|shower|focus|pomodoro|stretching|casserole
|brownies|chili|lentils|salmon|vegetables|game|puzzle|sprinkler|charging|hair dye|face mask|face|grill|barbecue|ribs|bacon
|pancakes|waffles|pie|croissants|dumplings|ramen|curry|popcorn|piano practice|toothbrush|warmup|sauna|cold plunge"""
TIMER_NAMES = [w.replace("\n", "").strip() for w in TIMER_NAMES.split("|")]

SONGS = """Yellow Submarine|Bohemian Rhapsody|Hotel California|Imagine|Purple Rain|Billie Jean|Hey Jude|Smoke on the Water|
Stairway to Heaven|Dancing Queen|Thunderstruck|Wonderwall|Hallelujah|Africa|Take On Me|Sweet Caroline|Let It Be|Clocks|
Yesterday|Jolene|Respect|Superstition|Royals|Viva la Vida|Blinding Lights|Shape of You|Rolling in the Deep|Halo|Happy|
Umbrella|Toxic|Zombie|Creep|Losing My Religion|Sultans of Swing|Go Your Own Way|Heroes|Space Oddity|Waterloo|Fernando|
Sweet Dreams|Tainted Love|Blue Monday|Enjoy the Silence|Fields of Gold|Every Breath You Take|Message in a Bottle|
Summer of 69|Nothing Else Matters|Paranoid|Ace of Spades|Seven Nation Army|Mr Brightside|Chasing Cars|Fix You|Yellow|
Somebody That I Used to Know|Riptide|Ho Hey|Pompeii|Budapest|Counting Stars|Radioactive|Levitating|Bad Guy|Dynamite|
Despacito|La Bamba|Bella Ciao|Non Je Ne Regrette Rien|Moon River|Fly Me to the Moon|My Way|Summertime|Take Five|So What|
Feeling Good|At Last|What a Wonderful World|Stand by Me|Lean on Me|Ain't No Sunshine|Three Little Birds|No Woman No Cry|
Redemption Song|Wish You Were Here|Comfortably Numb|Money|Time|Kashmir|Black Dog|Paint It Black|Angie|Wild Horses|
Born to Run|Thunder Road|The River|Landslide|Dreams|Rhiannon|Kiss from a Rose|Crazy|Hurt|Jumpin Jack Flash|Greensleeves"""
SONGS = [s.replace("\n", "").strip() for s in SONGS.split("|")]

ARTISTS = """The Beatles|Queen|Pink Floyd|Abba|Adele|Radiohead|Coldplay|Nina Simone|Miles Davis|Bob Marley|David Bowie|
Daft Punk|Metallica|Nirvana|Oasis|Blur|Beyonce|Rihanna|Drake|Eminem|Madonna|Prince|Michael Jackson|Johnny Cash|
Dolly Parton|Elton John|Fleetwood Mac|The Rolling Stones|Led Zeppelin|Kraftwerk|Depeche Mode|The Cure|Muse|U2|Bjork|
Sigur Ros|Mozart|Bach|Chopin|Beethoven|Vivaldi|Louis Armstrong|Ella Fitzgerald|Frank Sinatra|Billie Holiday|Amy Winehouse|
Taylor Swift|Ed Sheeran|Billie Eilish|Dua Lipa|The Weeknd|Arctic Monkeys|Gorillaz|Massive Attack|Portishead|Moby|
Enya|Sting|Genesis|Toto|Kings of Leon|Foo Fighters|Green Day|Linkin Park|Red Hot Chili Peppers|Rage Against the Machine|
Iron Maiden|Deep Purple|Black Sabbath|Santana|Shakira|Carla Bruni|Edith Piaf|Rammstein|Nena|Ludovico Einaudi|Hans Zimmer|
Norah Jones|Diana Krall|John Coltrane|Dave Brubeck|Tracy Chapman|Simon and Garfunkel|Cat Stevens|Leonard Cohen"""
ARTISTS = [s.replace("\n", "").strip() for s in ARTISTS.split("|")]

SONG_FRAMES = ["the <adj> <noun>", "<adj> <noun>", "<noun>", "<noun> of <noun>", "<adj> <noun>s", "my <adj> <noun>", "<noun> in <place>",
               "<verb> the <noun>", "<verb> my <noun>", "<noun> and <noun>", "<name>'s <noun>", "when the <noun>s <verb>", "<name>",
               "<num> <noun>s", "no more <noun>", "<verb> me", "like a <noun>", "under the <adj> <noun>", "i love <place>", "goodbye <name>",
               "we <verb> the <adj> <noun>", "<adj> and <adj>", "dear <name>", "ten thousand <noun>s", "<noun> to the <noun>", "oh <name>"]
BAND_FRAMES = ["the <noun>s", "the <adj> <noun>s", "<adj> <noun>", "<name> and the <noun>s", "<noun> <noun>", "<noun>", "<place> <noun>",
               "<name> <name>", "<num> <noun>s", "<noun> club", "<adj> <adj> <noun>s", "<name> trio", "<place> orchestra"]
PLAYLIST_FRAMES = ["<adj> <noun>", "<noun>", "<adj> morning", "<noun> mix", "road trip", "workout", "<name>'s favourites", "<adj> vibes",
                   "<noun> party", "<verb> and <verb>", "<adj> evening", "<place> nights", "cooking with <name>", "<adj> beats", "songs for <place>",
                   "<noun> time", "deep <noun>", "chill", "<adj> hits", "best of <place>"]
TASK_FRAMES = [
    "<verb> the <noun>", "<verb> the <adj> <noun>", "<verb> my <noun>", "call <name>", "call my <rel>", "email <name> about the <noun>",
    "pick up <item>", "pick up the <noun> from the <noun>", "buy <item>", "buy <item> for <name>", "take out the <noun>", "pay the <noun>",
    "<verb> <name>'s <noun>", "book a <noun>", "book a table for <num>", "return the <noun> to <name>", "<verb> and <verb> the <noun>",
    "send <name> the <noun>", "put the <noun> in the <noun>", "check the <noun>", "feed the <noun>", "water the <noun>s", "wish <name> a happy birthday",
    "bring the <noun> to <place>", "pack the <adj> <noun>", "take my <noun>", "drink <item>", "ask <name> about the <noun>", "order <num> <noun>s",
    "clean the <room>", "turn off the <noun>", "<verb> the <noun> in the <room>", "renew my <noun>", "prepare for the <event>", "get <item> and <item>",
    "tell <name> about the <event>", "book a flight to <place>", "stretch", "go for a run", "leave for the <event>", "move the car",
    "check on the <noun>", "charge the <noun>", "meet <name> in <place>", "write to <name>", "thank <name> for the <noun>", "do the laundry",
    "take the <noun> out of the <noun>", "reply to <name>", "look for the <noun>", "download the <noun>", "change the <noun> filter",
    "pick <name> up", "pick up <name> from the <noun>", "set the table", "play with the <noun>", "lock the <noun>", "read <num> pages",
    "ask my <rel> for the <noun>", "give <name> the <adj> <noun>", "vote", "send a message to <name>", "add <item> to the list", "stop the <noun>",
]
MESSAGE_FRAMES = [
    "i'm late", "i will be <dur> late", "i'm on my way", "i'll be there at <time>", "dinner is ready", "the <noun> is <adj>", "see you at <time>",
    "see you on <day>", "can you bring <item>", "can you buy <item>", "please <verb> the <noun>", "don't forget the <noun>", "happy birthday",
    "the <noun> is in the <room>", "where are you", "are you coming to the <event>", "i love you", "i miss you", "call me back", "call me when you are in <place>",
    "i got the <noun>", "i can't find the <noun>", "we need <item>", "we are in <place>", "the <event> is at <time>", "the <event> was <adj>", "thank you for the <noun>",
    "let's meet at <time>", "let's meet in <place>", "i forgot my <noun>", "i left the <noun> in the <room>", "have you seen the <noun>", "what time is the <event>",
    "how was the <event>", "good luck with the <event>", "the <noun> arrived", "i am stuck in traffic", "start without me", "i'm at the <noun>", "i need the <noun> on <day>",
    "we are out of <item>", "did you <verb> the <noun>", "i have to <verb> the <noun> first", "the code is <code>", "the <noun> costs <num> euros", "bring <num> <noun>s",
    "no problem", "sounds good", "yes", "i agree", "sorry i missed your call", "good night", "good morning", "the train is <dur> late", "<name> is here", "<name> can't come",
    "<name> and <name> are coming too", "my <noun> is broken", "i will <verb> it <day>", "we'll be there in <dur>", "the <adj> <noun> is yours", "wait for me", "get well soon",
    "can we talk", "can we move the <event> to <day>", "i'm bringing <item> and <item>", "the meeting is cancelled", "turn off the <noun>", "please turn on the <noun>",
    "he is with <name>", "she likes the <adj> <noun>", "they moved to <place>", "my flight lands at <time>", "i'd love to", "it is too <adj>", "the keys are under the <noun>",
    "you should <verb> the <noun>", "i bought a <adj> <noun>", "there is a <noun> in front of the <noun>", "pick me up at <time>", "do you want <item>", "is the <noun> <adj>",
    "the <noun> needs a new <noun>", "we won", "table for <num> at <time>", "i'm thinking of you", "never mind", "nobody is at the <noun>", "remind me about the <noun>",
]
NOTE_FRAMES = [
    "the <noun> is in the <noun>", "the wifi password is <code>", "<name>'s birthday is on <day>", "the door code is <code>", "<name> likes <item>", "<verb> the <noun> on <day>",
    "the <adj> <noun> costs <num> euros", "locker number <num>", "parked on level <num>", "parked near the <noun>", "<name> recommended <place>", "ideas for the <event>", "<noun> size <num>",
    "the <noun> is <adj>", "new <noun> for <name>", "gift idea for <name> <noun>", "<item> for the <event>", "flight <code>", "order number <code>", "paint the <noun> <adj>", "try the <adj> <noun> in <place>",
    "<name> owes me <num> euros", "the <noun> needs a new <noun>", "read the book about <topic>", "talk to <name> about the <noun>", "the spare key is under the <noun>", "recipe needs <item> and <item>",
    "measure the <noun>", "<noun> idea with a <adj> <noun>", "ask <name> if the <noun> is <adj>", "<name> is allergic to <item>", "the plumber comes on <day>", "meter reading <code>", "<noun>",
    "the <event> starts at <time>", "buy the <adj> <noun> again", "license plate <code>", "i feel <adj> today", "the <noun> from <place> was great", "call the <noun> shop", "page <num> of the <noun> book", "no <item> for <name>",
]
EVENT_FRAMES = [
    "<event>", "<event> with <name>", "meeting with <name>", "lunch with <name>", "dinner with <name> and <name>", "<noun> appointment", "<name>'s birthday", "<name>'s <event>", "<adj> <event>", "coffee with my <rel>",
    "<noun> meeting", "call with <name>", "flight to <place>", "trip to <place>", "<noun> delivery", "<noun> class", "<noun> lesson", "drinks with <name>", "<noun> review", "visit from <name>", "<event> in <place>", "<noun> repair",
    "train to <place>", "<noun> workshop", "<place> conference", "<noun> party", "doctor's appointment", "project <noun>", "<noun> inspection", "walk with <name>",
]
EVENTS = """dentist|party|wedding|meeting|concert|exam|interview|workshop|dinner|lunch|brunch|picnic|barbecue|conference|lecture|yoga class
|football game|piano lesson|parents evening|team lunch|game night|movie night|book club|haircut|checkup|vaccination|graduation|funeral
|housewarming|rehearsal|training|swimming lesson|band practice|job interview|standup|budget review|town hall|webinar|hike|road trip
|opera|theatre play|baby shower|reunion|school play|car inspection|blood test|eye test|massage|chess club|choir practice|date night"""
EVENTS = [w.replace("\n", "").strip() for w in EVENTS.split("|")]

TOPICS = """the roman empire|black holes|photosynthesis|climate change|world war two|the french revolution|quantum physics|the stock market|inflation
|bitcoin|machine learning|neural networks|the human brain|vaccines|antibiotics|diabetes|high blood pressure|back pain|insomnia|anxiety|a broken heart
|my marriage|my career|job interviews|taxes|mortgages|pension plans|life insurance|solar panels|electric cars|nuclear power|the moon landing|dinosaurs
|volcanoes|earthquakes|the ocean|whales|bees|mushrooms|evolution|genetics|philosophy|buddhism|democracy|the european union|the supreme court|shakespeare
|modern art|impressionism|opera|the renaissance|medieval castles|the silk road|vikings|samurai|the pyramids|ancient greece|the cold war|space travel|mars
|the big bang|gravity|relativity|electricity|magnetism|steam engines|bicycles|airplanes|submarines|bridges|concrete|coffee|chocolate|wine making|cheese
|sourdough|vegan diets|protein|marathon training|yoga|meditation|chess openings|poker|football|tennis|the olympics|cricket|golf|fashion|architecture
|minimalism|gardening|compost|houseplants|dog training|parenting|homework|school uniforms|language learning|spanish grammar|latin|sign language|poetry
|novels|detective stories|science fiction|jazz history|the violin|hip hop culture|video games|programming|databases|compilers|linked lists|recursion
|web servers|encryption|passwords|privacy|social media|smartphones|robots|self driving cars|drones|blockchain|real estate|startups|leadership|time management
|friendship|loneliness|happiness|the meaning of life|free will|ethics|human rights|immigration|housing|public transport|recycling|plastic|rainforests|deserts
|glaciers|the weather|hurricanes|seasons|daylight saving|calendars|clocks|thermostats|light bulbs|alarm clocks|music theory|shopping malls|text messages
|the metric system|the kitchen of the future|smart homes|timers|the speed of light|penguins|sleep|dreams|memory|migraine|knee surgery|fever|pregnancy"""
TOPICS = [w.replace("\n", "").strip() for w in TOPICS.split("|")]
