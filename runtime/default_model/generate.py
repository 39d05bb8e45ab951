#!/usr/bin/env python3
"""Generates the data of the embedded default model: request <TAB> JSON line.

Only the Python standard library is used and every random choice comes from a
fixed seed, so the same command always writes the same bytes.

    python3 runtime/default_model/generate.py --split test > test.tsv
    python3 runtime/default_model/generate.py --split train --count 100000

How the held-out split stays honest
-----------------------------------
* Every wording is a small grammar ("(set|start) a {duration} timer").  A
  grammar is expanded to a concrete template first; a hash of that template
  decides whether it belongs to train, dev or test.  A template therefore
  never appears in two splits.
* Open slot values (names, songs, items, message words, topics ...) are
  assigned to a split by a hash of the value as well.
* Closed vocabularies (rooms, colours, weekdays, numbers, units) are shared:
  they are the specification, not data to generalise over.
"""

import argparse
import json
import random
import re
import sys
import zlib

from vocabulary import *  # noqa: F403  (word lists only)
from wordings import GRAMMARS, ESCALATE

# One order for all intents: the answer is a function of the request only.
FIELD_ORDER = [
    "intent", "action", "what", "song", "artist", "album", "playlist", "genre",
    "room", "state", "brightness", "color", "temperature", "level", "change",
    "by", "duration", "name", "value", "from", "to", "text", "title", "items",
    "in", "time", "day", "date", "part",
]

SPLIT_LIMITS = (("train", 82), ("dev", 90), ("test", 100))


def split_of(text):
    """The split a template or slot value belongs to."""
    bucket = zlib.crc32(text.lower().encode("utf-8")) % 100
    for name, limit in SPLIT_LIMITS:
        if bucket < limit:
            return name
    return "test"


def variants(grammar):
    """How many templates a grammar expands to (nested groups: at least)."""
    count = 1
    while "(" in grammar:
        match = TOKEN.search(grammar)
        count *= match.group(1).count("|") + 1
        grammar = grammar[:match.start()] + grammar[match.end():]
    return count


def template_split(intent, template, grammar):
    """Short fixed phrases ("pause", "lights off") and grammars of fewer than
    20 templates are vocabulary: always trained and never tested.  The others
    give up about a fifth of their templates to dev and test."""
    if "{" not in template and "<" not in template and len(template.split()) <= 3:
        return "train"
    if variants(grammar) < 20:
        return "train"
    return split_of(intent + " " + template)


# ---------------------------------------------------------------- numbers

ONES = ("zero one two three four five six seven eight nine ten eleven twelve "
        "thirteen fourteen fifteen sixteen seventeen eighteen nineteen").split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = ("first second third fourth fifth sixth seventh eighth ninth tenth "
            "eleventh twelfth thirteenth fourteenth fifteenth sixteenth "
            "seventeenth eighteenth nineteenth twentieth").split()
NUMBER_WORDS = set(ONES + TENS + ORDINALS + ["thirtieth", "hundred"])


def number_words(n, dash=False):
    if n < 20:
        return ONES[n]
    if n == 100:
        return "a hundred"
    tens, ones = divmod(n, 10)
    return TENS[tens] + (("-" if dash else " ") + ONES[ones] if ones else "")


def spell(rng, n, words=0.3):
    """A number as digits or, sometimes, in words (only up to 100)."""
    if isinstance(n, int) and n <= 100 and rng.random() < words:
        return number_words(n, rng.random() < 0.2)
    return str(n)


def ordinal_word(n):
    if n <= 20:
        return ORDINALS[n - 1]
    if n == 30:
        return "thirtieth"
    return TENS[n // 10] + " " + ORDINALS[n % 10 - 1]


def ordinal_digits(n):
    if n % 100 in (11, 12, 13):
        return f"{n}th"
    return f"{n}" + {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")


# ---------------------------------------------------------------- duration

UNIT_FORMS = {
    "s": ["second", "sec"], "m": ["minute", "min"], "h": ["hour", "hour", "hr"],
    "d": ["day"], "w": ["week"],
}


def unit_form(rng, unit, count, adjective):
    form = rng.choices(UNIT_FORMS[unit], [8] + [1] * (len(UNIT_FORMS[unit]) - 1))[0]
    return form if count == 1 or adjective else form + "s"


def amount(rng, unit):
    if unit == "s":
        return rng.choice([10, 15, 20, 30, 40, 45, 50, 60, 90, rng.randint(2, 120)])
    if unit == "m":
        return rng.choice([2, 3, 5, 10, 15, 20, 25, 30, 40, 45, 50, 60, 90,
                           rng.randint(1, 99), rng.randint(1, 99)])
    if unit == "h":
        return rng.choice([1, 2, 3, 4, rng.randint(1, 24)])
    return rng.randint(1, 12)


def duration(rng, adjective=False, long=False):
    """(surface, value): the value keeps the unit that was said (90s, 1h30m)."""
    kind = rng.random()
    if kind < 0.12 and not adjective:
        return rng.choice([
            ("half an hour", "30m"), ("an hour", "1h"), ("a minute", "1m"),
            ("an hour and a half", "1h30m"), ("a quarter of an hour", "15m"),
            ("three quarters of an hour", "45m"), ("half a minute", "30s"),
            ("a minute and a half", "1m30s"), ("one and a half hours", "1h30m"),
            ("a couple of minutes", "2m"), ("an hour and a quarter", "1h15m"),
        ] + ([("a week", "1w"), ("a day", "1d")] if long else []))
    if kind < 0.17 and not adjective:
        n = rng.randint(2, 9)
        big, small = rng.choice([("h", "m"), ("m", "s")])
        return (f"{spell(rng, n)} and a half {unit_form(rng, big, 2, False)}",
                f"{n}{big}30{small}")
    if kind < 0.30:
        big, small = rng.choice([("h", "m"), ("h", "m"), ("m", "s")])
        a = rng.randint(1, 5) if big == "h" else rng.randint(1, 30)
        b = rng.choice([5, 10, 15, 20, 30, 40, 45, 50, rng.randint(1, 59)])
        words = 1.0 if rng.random() < 0.25 else 0.0
        joint = rng.choice([" and ", " "])
        first = spell(rng, a, words)
        if a == 1 and not adjective and rng.random() < 0.3:
            first = "an" if big == "h" else "a"
            joint = " and "
        return (f"{first} {unit_form(rng, big, a, adjective)}{joint}"
                f"{spell(rng, b, words)} {unit_form(rng, small, b, adjective)}",
                f"{a}{big}{b}{small}")
    unit = rng.choices("smhdw", [2, 8, 3, 2 if long else 0, 1 if long else 0])[0]
    n = amount(rng, unit)
    number = spell(rng, n, 0.35)
    if unit in "smh" and number.isdigit() and rng.random() < 0.06:
        return number + {"s": "s", "m": rng.choice(["m", "min"]), "h": "h"}[unit], f"{n}{unit}"
    glue = "-" if adjective and rng.random() < 0.25 else " "
    return number + glue + unit_form(rng, unit, n, adjective), f"{n}{unit}"


# ---------------------------------------------------------------- time, day

MONTHS = ("january february march april may june july august september "
          "october november december").split()
MONTH_DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
PART_HOURS = {"morning": (4, 11), "afternoon": (1, 6), "evening": (4, 11), "night": (7, 11)}


def minute(rng):
    return rng.choice([0, 0, 0, 30, 30, 15, 45, 5 * rng.randint(0, 11), rng.randint(0, 59)])


def clock(h, m):
    return f"{h:02d}:{m:02d}"


def shift(h, part):
    """The 24-hour value of an hour said with a part of the day."""
    if part in ("am", "morning"):
        return 0 if h == 12 else h
    if part in ("pm", "afternoon", "evening", "night"):
        return h if h == 12 else h + 12
    return h


def spoken_relative(rng, h):
    """Half past, quarter to, ten past ... as (words, hour, minute)."""
    word = spell(rng, h, 0.7)
    before = 12 if h == 1 else h - 1
    kind = rng.randrange(5)
    if kind <= 1:
        return f"half past {word}", h, 30
    if kind == 2:
        return rng.choice(["quarter past ", "a quarter past "]) + word, h, 15
    if kind == 3:
        return rng.choice(["quarter to ", "a quarter to "]) + word, before, 45
    m = rng.choice([5, 10, 20, 25])
    if rng.random() < 0.5:
        return f"{spell(rng, m, 0.7)} past {word}", h, m
    return f"{spell(rng, m, 0.7)} to {word}", before, 60 - m


def hour_minute(rng, h, part):
    """One way to say an hour h (1..12); part may force am/pm.

    Returns (surface, h, m) with h still on the 12-hour dial."""
    kind = rng.random()
    if kind < 0.11:
        return spoken_relative(rng, h)
    if kind < 0.20:
        return f"{spell(rng, h, 0.5)} o'clock", h, 0
    if kind < 0.32:
        m = rng.choice([0, 0, 15, 30, 30, 45, rng.randint(10, 59)])
        return number_words(h) + (" " + number_words(m) if m else ""), h, m
    m = minute(rng)
    if m == 0 and rng.random() < 0.75:
        return str(h), h, 0
    sep = "." if rng.random() < 0.06 else " " if rng.random() < 0.05 and m > 9 else ":"
    return f"{h}{sep}{m:02d}", h, m


def time_value(rng, part=None):
    """(surface, 'HH:MM').  Without am/pm or a part of the day the hour is
    taken as said on the 24-hour clock."""
    if part is None:
        kind = rng.random()
        if kind < 0.05:
            return rng.choice([("noon", "12:00"), ("midnight", "00:00"), ("midday", "12:00")])
        if kind < 0.20:
            h, m = rng.randint(0, 23), minute(rng)
            lead = f"{h:02d}" if rng.random() < 0.5 else str(h)
            return f"{lead}:{m:02d}", clock(h, m)
        if kind < 0.55:
            half = rng.choice(["am", "pm"])
            h = rng.randint(1, 12)
            text, h12, m = hour_minute(rng, h, half)
            if "o'clock" in text or "past" in text or " to " in text:
                return text, clock(h12, m)
            mark = rng.choice([half] * 6 + [half[0] + ".m", half.upper()])
            glue = "" if text[-1].isdigit() and rng.random() < 0.5 else " "
            return text + glue + mark, clock(shift(h12, half), m)
        if kind < 0.68:
            part = rng.choice(["morning", "afternoon", "evening", "night"])
            text, h, m = part_time(rng, part)
            tail = " at night" if part == "night" else f" in the {part}"
            return text + tail, clock(h, m)
        text, h, m = hour_minute(rng, rng.randint(1, 12), None)
        return text, clock(h, m)
    text, h, m = part_time(rng, part)
    return text, clock(h, m)


def part_time(rng, part):
    """A time whose half of the day comes from a part said elsewhere."""
    low, high = PART_HOURS[part]
    text, h, m = hour_minute(rng, rng.randint(low + 1, high), part)
    return text, shift(h, part), m


def date_value(rng):
    month = rng.randrange(12)
    day = rng.randint(1, MONTH_DAYS[month])
    name = MONTHS[month].capitalize()
    said = rng.choice([
        f"{name} {day}", f"{day} {name}", f"the {ordinal_digits(day)} of {name}",
        f"{name} {ordinal_digits(day)}", f"{ordinal_digits(day)} of {name}",
        f"{name} the {ordinal_digits(day)}",
    ])
    return said, f"{month + 1:02d}-{day:02d}"


def day_phrase(rng, repeat=False, dates=True):
    """(surface with its preposition, fields)"""
    kind = rng.random()
    if repeat and kind < 0.25:
        day = rng.choice(DAYS)
        return rng.choice([
            ("every day", {"day": "daily"}), ("daily", {"day": "daily"}),
            ("on weekdays", {"day": "weekdays"}), ("every weekday", {"day": "weekdays"}),
            ("on weekends", {"day": "weekends"}), ("every weekend", {"day": "weekends"}),
            (f"every {day.capitalize()}", {"day": f"every {day}"}),
            (f"each {day.capitalize()}", {"day": f"every {day}"}),
        ])
    if dates and kind < 0.20:
        said, value = date_value(rng)
        return "on " + said, {"date": value}
    if kind < 0.65:
        return "tomorrow", {"day": "tomorrow"}
    if kind < 0.72:
        return "today", {"day": "today"}
    if kind < 0.75:
        return "the day after tomorrow", {"day": "day after tomorrow"}
    day = rng.choice(DAYS)
    said = day.capitalize()
    if kind < 0.81:
        return f"next {said}", {"day": f"next {day}"}
    return rng.choice([f"on {said}", f"on {said}", said, f"this {said}"]), {"day": day}


def part_phrase(rng):
    """(surface, fields without time, part)"""
    part = rng.choice(["morning", "afternoon", "evening", "night"])
    kind = rng.random()
    if kind < 0.35:
        if part == "night":
            return "tonight", {"day": "today"}, "night"
        return f"this {part}", {"day": "today"}, part
    if kind < 0.70:
        return f"tomorrow {part}", {"day": "tomorrow"}, part
    day = rng.choice(DAYS)
    on = rng.choice(["on ", ""])
    return f"{on}{day.capitalize()} {part}", {"day": day}, part


def when(rng, need_time=False, need_day=False, repeat=False, dates=True):
    """A time expression and its fields, the word order varying."""
    kind = rng.random()
    if need_time and need_day:
        kind = rng.uniform(0.38, 0.8)
    elif need_time:
        kind = rng.uniform(0.0, 0.8)
    elif need_day:
        kind = rng.uniform(0.38, 1.0)
    if kind < 0.38:
        said, value = time_value(rng)
        return "at " + said, {"time": value}
    if kind < 0.65:
        said, value = time_value(rng)
        day, fields = day_phrase(rng, repeat, dates)
        text = f"at {said} {day}" if rng.random() < 0.4 else f"{day} at {said}"
        return text, dict(fields, time=value)
    if kind < 0.80:
        day, fields, part = part_phrase(rng)
        said, value = time_value(rng, part)
        text = f"at {said} {day}" if rng.random() < 0.3 else f"{day} at {said}"
        return text, dict(fields, time=value)
    if kind < 0.94:
        return day_phrase(rng, repeat, dates)
    day, fields, part = part_phrase(rng)
    return day, dict(fields, part=part)


# ---------------------------------------------------------------- open text

ONSETS = ("b c d f g h j k l m n p r s t v w z br ch cl cr dr fl fr gl gr kl "
          "kr pl pr qu sh sk sl sm sn sp st str sw th tr tw y").split() + [""] * 3
VOWELS = "a e i o u a e i o u ai ay ea ee ei ie oa oo ou y".split()
CODAS = ("b d g k l m n p r s t x ck ld ll lm ls mp nd ng nk nt rd rk rm rn rt "
         "sh sk ss st th tt z").split() + [""] * 30
ENDINGS = ["a", "o", "en", "er", "y", "ing", "ie", "el", "ov", "sen", "ski", "ini", "us", "ette"]


def pseudo_word(rng):
    """A word nobody has seen: forces the model to copy, not to remember."""
    word = ""
    for _ in range(rng.choices([1, 2, 3], [4, 6, 0.3])[0]):
        word += rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS)
    if len(word) < 7 and rng.random() < 0.25:
        word += rng.choice(ENDINGS)
    return word


def patched_word(rng, words):
    """A word of pieces of other words. Between them they hold every token that
    English is made of, so that each is copied now and then, not only those
    that happen to stand in the training split's own values."""
    if rng.random() < 0.2:
        return rng.choice(words)  # command words are content too, now and then
    word = ""
    for _ in range(rng.choices([1, 2, 3], [3, 5, 2])[0]):
        source = rng.choice(words)
        length = rng.randint(2, 5)
        start = rng.randint(0, max(0, len(source) - length))
        word += source[start:start + length]
    return word


class Values:
    """Draws open slot values that belong to one split."""

    def __init__(self, rng, split):
        self.rng, self.split = rng, split
        self.lists = {}
        # Training sees far more invented words than the other splits: they
        # cost nothing and make memorising pointless.
        self.invented_share = 0.35 if split == "train" else 0.08
        self.loose_share = 0.25 if split == "train" else 0.0

    def draw(self, make):
        while True:
            value = make()
            if split_of(value) == self.split:
                return value

    def pick(self, words):
        key = id(words)
        if key not in self.lists:
            self.lists[key] = [w for w in words if split_of(w) == self.split]
        return self.rng.choice(self.lists[key])

    def invented(self):
        return self.rng.random() < self.invented_share

    def pseudo(self):
        if self.split == "train" and self.rng.random() < 0.5:
            return self.draw(lambda: patched_word(self.rng, PIECE_WORDS))
        return self.draw(lambda: pseudo_word(self.rng))

    def noun(self):
        return self.pseudo() if self.invented() else self.pick(NOUNS)

    def adjective(self):
        return self.pick(ADJECTIVES)

    def first_name(self):
        return self.pseudo().capitalize() if self.invented() else self.pick(FIRST_NAMES)

    def surname(self):
        return self.pseudo().capitalize() if self.invented() else self.pick(SURNAMES)

    def place(self):
        return self.pseudo().capitalize() if self.invented() else self.pick(PLACES)

    def fill(self, frame):
        """Fills the <slots> of a text frame."""
        rng = self.rng
        table = {
            "noun": self.noun, "adj": self.adjective, "name": self.first_name,
            "place": self.place, "item": self.item, "task": lambda: self.task(False),
            "num": lambda: str(rng.randint(2, 60)), "room": lambda: rng.choice(ROOM_NAMES),
            "time": lambda: time_value(rng)[0], "dur": lambda: duration(rng)[0],
            "day": lambda: rng.choice(DAYS).capitalize(), "rel": lambda: rng.choice(RELATIONS),
            "verb": lambda: self.pick(VERBS), "code": self.code, "topic": self.topic,
            "event": lambda: self.pick(EVENTS),
        }
        return re.sub(r"<(\w+)>", lambda m: table[m.group(1)](), frame)

    def code(self):
        rng = self.rng
        if rng.random() < 0.5:
            return "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 6)))
        return self.pseudo() + str(rng.randint(1, 99))

    def word_salad(self, low, high):
        words = []
        for _ in range(self.rng.randint(low, high)):
            kind = self.rng.random()
            words.append(self.pseudo() if kind < 0.3 else
                         self.pick(NOUNS) if kind < 0.6 else
                         self.pick(VERBS) if kind < 0.75 else
                         self.rng.choice(SMALL_WORDS) if kind < 0.92 else
                         self.pick(ADJECTIVES))
        # A trailing small word would blur where the text ends.
        if words[-1] in SMALL_WORDS:
            words[-1] = self.noun()
        return " ".join(words)

    def salad_share(self):
        return self.rng.random() < self.loose_share

    def message(self):
        if self.salad_share():
            return self.word_salad(2, 8)
        return self.draw(lambda: self.fill(self.rng.choice(MESSAGE_FRAMES)))

    def task(self, salad=True):
        if salad and self.salad_share():
            return self.pick(VERBS) + " " + self.word_salad(1, 5)
        return self.draw(lambda: self.fill(self.rng.choice(TASK_FRAMES)))

    def note(self):
        if self.salad_share():
            return self.word_salad(2, 8)
        return self.draw(lambda: self.fill(self.rng.choice(NOTE_FRAMES)))

    def person(self):
        kind = self.rng.random()
        if kind < 0.2:
            return self.rng.choice(RELATIONS)
        if kind < 0.35:
            return self.first_name() + " " + self.surname()
        return self.first_name()

    def item(self):
        rng = self.rng
        word = self.pseudo() if self.invented() else self.pick(GROCERIES)
        if rng.random() < 0.15:
            word = self.adjective() + " " + word
        if rng.random() < 0.15:
            word = rng.choice([
                spell(rng, rng.randint(2, 12)), "a bag of", "a bottle of", "a box of",
                "some", "two packs of", "a kilo of", "3 cans of", "a jar of", "two litres of",
                "500 grams of", "a dozen", "a loaf of",
            ]) + " " + word
        return word

    def song(self):
        rng = self.rng
        kind = rng.random()
        if kind < 0.30:
            return self.pick(SONGS)
        if kind < 0.75 or not self.salad_share():
            return self.draw(lambda: self.fill(rng.choice(SONG_FRAMES)).title().replace("'S", "'s"))
        return self.word_salad(1, 4).title()

    def artist(self):
        rng = self.rng
        kind = rng.random()
        if kind < 0.35:
            return self.pick(ARTISTS)
        if kind < 0.7:
            return self.first_name() + " " + self.surname()
        return self.draw(lambda: self.fill(rng.choice(BAND_FRAMES)).title())

    def playlist(self):
        return self.draw(lambda: self.fill(self.rng.choice(PLAYLIST_FRAMES)))

    def timer_name(self):
        # The list is short: without these a name is remembered, not copied.
        if self.split == "train" and self.salad_share():
            return self.word_salad(1, 2)
        return self.pseudo() if self.invented() else self.pick(TIMER_NAMES)

    def event_title(self):
        if self.salad_share():
            return self.word_salad(1, 4)
        return self.draw(lambda: self.fill(self.rng.choice(EVENT_FRAMES)))

    def topic(self):
        rng = self.rng
        kind = rng.random()
        if kind < 0.55:
            return self.pick(TOPICS)
        if kind < 0.75:
            return "the " + self.adjective() + " " + self.noun()
        if kind < 0.85:
            return self.noun() + "s"
        return self.place()


# ---------------------------------------------------------------- slots

def slot_pieces(name, rng, values):
    """(surface, fields, is_copied) of one slot of a template."""
    if name == "duration":
        said, value = duration(rng)
        return said, {"duration": value}, False
    if name == "duration_adj":
        said, value = duration(rng, adjective=True)
        return said, {"duration": value}, False
    if name == "in":
        said, value = duration(rng, long=True)
        return said, {"in": value}, False
    if name == "time":
        said, value = time_value(rng)
        return said, {"time": value}, False
    if name == "day":
        said, fields = day_phrase(rng, dates=False)
        return said, fields, False
    if name == "alarm_when":
        said, fields = when(rng, need_time=True, repeat=True, dates=False)
        return said, fields, False
    if name == "cancel_when":
        said, fields = when(rng, repeat=True, dates=False)
        return said, fields, False
    if name == "when":
        said, fields = when(rng)
        return said, fields, False
    if name == "event_when":
        said, fields = when(rng, need_day=True)
        return said, fields, False
    if name == "which_day":
        while True:
            said, fields = when(rng, need_day=True)
            if "time" not in fields:
                return said, fields, False
    if name == "room":
        room = rng.choice(ROOM_NAMES)
        return room, {"room": room}, False
    if name == "color":
        color = rng.choice(COLORS)
        return color, {"color": color}, False
    if name == "genre":
        genre = rng.choice(GENRES)
        return genre, {"genre": genre}, False
    if name in ("brightness", "level"):
        return percent(rng, name)
    if name == "temperature":
        return temperature(rng)
    if name == "by":
        n = rng.randint(1, 9)
        degree = rng.choice(["", " degree", " degree"])
        return spell(rng, n, 0.4) + (degree + ("s" if n > 1 else "") if degree else ""), {"by": n}, False
    if name == "level_by":
        n = rng.choice([5, 10, 15, 20, 25, 30, rng.randint(1, 50)])
        return spell(rng, n, 0.3) + rng.choice(["", " percent", "%" if rng.random() < .5 else " percent"]), {"by": n}, False
    if name == "convert":
        return conversion(rng)
    if name in ("items", "the_items"):
        return item_list(rng, values, name == "the_items")
    if name == "person":
        return person_slot(rng, values, values.person())
    if name == "person_one":  # no connector follows, so one word only
        person = rng.choice(RELATIONS) if rng.random() < 0.2 else values.first_name()
        return person_slot(rng, values, person)
    makers = {
        "message": ("text", values.message), "task": ("text", values.task),
        "note": ("text", values.note), "song": ("song", values.song),
        "artist": ("artist", values.artist), "album": ("album", values.song),
        "playlist": ("playlist", values.playlist), "name": ("name", values.timer_name),
        "title": ("title", values.event_title),
    }
    key, make = makers[name]
    value = make()
    return value, {key: value}, True


def person_slot(rng, values, person):
    said = "my " + person if person in RELATIONS and rng.random() < 0.7 else person
    return said, {"to": person}, True


def percent(rng, key):
    if rng.random() < 0.12:
        said, value = rng.choice([("half", 50), ("maximum", 100), ("full", 100),
                                  ("max", 100), ("minimum", 1)])
        return said, {key: value}, False
    n = rng.choice([10 * rng.randint(1, 10), 5 * rng.randint(1, 19), rng.randint(1, 100)])
    said = spell(rng, n, 0.3)
    mark = rng.choice(["", " percent", "%", " percent"])
    if mark == "%" and not said.isdigit():
        mark = " percent"
    return said + mark, {key: n}, False


def temperature(rng):
    n = rng.randint(14, 28) if rng.random() < 0.7 else rng.randint(50, 85)
    degree = rng.choice([" degrees", " degrees", ""])
    kind = rng.random()
    if kind < 0.12:
        return f"{n}.5{degree}", {"temperature": n + 0.5}, False
    if kind < 0.17:
        return f"{spell(rng, n)} and a half{degree}", {"temperature": n + 0.5}, False
    return spell(rng, n) + degree, {"temperature": n}, False


def conversion(rng):
    """Fills a conversion wording: value, unit said, unit wanted."""
    family = rng.choice(UNIT_FAMILIES)
    a, b = rng.sample(sorted(family), 2)
    if rng.random() < 0.2:
        value = round(rng.uniform(0.1, 99), 1)
        said = str(value)
        if value == int(value):
            value, said = int(value), str(int(value))
    else:
        value = rng.choice([rng.randint(1, 12), rng.randint(1, 100), rng.randint(1, 999), 5 * rng.randint(1, 60)])
        said = spell(rng, value, 0.25)
    return (said, family[a], family[b]), {"value": value, "from": a, "to": b}, False


def singular(unit):
    first, _, rest = unit.partition(" ")
    first = {"feet": "foot", "inches": "inch", "celsius": "celsius"}.get(first, first.removesuffix("s"))
    return first + (" " + rest if rest else "")


def item_list(rng, values, article):
    """Items as said; an article ("the milk") is not part of the item."""
    count = rng.choices([1, 2, 3, 4], [5, 4, 2, 0.5])[0]
    items = [values.item() for _ in range(count)]
    names = ["the " + item if article and rng.random() < 0.4 else item for item in items]
    if count == 1:
        said = names[0]
    elif rng.random() < 0.25:
        said = " and ".join(names)
    else:
        said = ", ".join(names[:-1]) + rng.choice([" and ", " and ", ", and ", ", "]) + names[-1]
    return said, {"items": items}, True


# ---------------------------------------------------------------- templates

TOKEN = re.compile(r"\(([^()]*)\)")


def expand(rng, grammar):
    """Chooses one alternative of every (a|b|) group, innermost first."""
    while True:
        match = TOKEN.search(grammar)
        if not match:
            return re.sub(r"\s+", " ", grammar).replace(" :", ":").strip()
        grammar = grammar[:match.start()] + rng.choice(match.group(1).split("|")) + grammar[match.end():]


def expand_in_split(rng, grammars, intent, split, tries=200):
    """A template of the split, or None when the grammars seem to have none
    (persisting keeps the share of every intent close in all splits)."""
    for _ in range(tries):
        grammar = rng.choice(grammars)
        template = expand(rng, grammar)
        if template_split(intent, template, grammar) == split:
            return contract(rng, template)
    return None


CONTRACTIONS = (("it is ", "it's "), ("do not ", "don't "), ("what is ", "what's "), ("i am ", "i'm "),
                ("we are ", "we're "), ("is not ", "isn't "), ("there is ", "there's "))


def contract(rng, template):
    for full, short in CONTRACTIONS:
        if template.startswith(full) or " " + full in template:
            if rng.random() < 0.4:
                template = re.sub(r"\b" + full, short, template)
    return template


SLOT = re.compile(r"\{(\w+)\}")


def realise(rng, template, values, lower):
    """Turns a template into a list of (text, copied) and the fields."""
    parts, fields, position = [], {}, 0
    convert = None
    for match in SLOT.finditer(template):
        parts.append((template[position:match.start()], False))
        position = match.end()
        name = match.group(1)
        if name in ("value", "unit_from", "unit_to"):
            if convert is None:
                convert, extra, _ = conversion(rng)
                fields.update(extra)
            said = convert[0]
            if name != "value":
                forms = convert[1] if name == "unit_from" else convert[2]
                said = rng.choice(forms)
                if name == "unit_from" and convert[0] in ("1", "one"):
                    said = singular(said)
            parts.append((said, False))
            continue
        said, extra, copied = slot_pieces(name, rng, values)
        if parts[-1][0].endswith("for ") and said.startswith(("on ", "at ")):
            said = said[3:]
        if copied and lower:
            said = said.lower()
            extra = {k: [v.lower() for v in value] if isinstance(value, list) else value.lower()
                     for k, value in extra.items()}
        parts.append((said, copied))
        fields.update(extra)
    parts.append((template[position:], False))
    return parts, fields


KEYBOARD = {a: b for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for a, b in zip(row, row[1:])}


def misspell(rng, word):
    """One slip of the fingers; the first letter stays."""
    i = rng.randrange(1, len(word))
    kind = rng.randrange(4)
    if kind == 0:
        return word[:i] + word[i + 1:]
    if kind == 1:
        return word[:i] + word[i] + word[i:]
    if kind == 2 and i + 1 < len(word):
        return word[:i] + word[i + 1] + word[i] + word[i + 2:]
    return word[:i] + KEYBOARD.get(word[i].lower(), "e") + word[i + 1:]


# Words whose misspelling could read as another word of the specification.
FRAGILE = NUMBER_WORDS | set("""on off up down am pm to by in and for from past
    half noon today mon sun more less week weeks tonight note notes last list
    every each next this that part min mins sec secs cold bold gold color""".split()) | set(DAYS) | set(MONTHS)


def add_typo(rng, parts):
    """Misspells one word outside the copied parts; None when there is none."""
    choices = []
    for index, (text, copied) in enumerate(parts):
        if copied:
            continue
        for match in re.finditer(r"[A-Za-z]{4,}", text):
            if match.group(0).lower() not in FRAGILE:
                choices.append((index, match))
    if not choices:
        return parts
    index, match = rng.choice(choices)
    word = misspell(rng, match.group(0))
    if word.lower() in KNOWN_WORDS:
        return parts
    text = parts[index][0]
    parts = list(parts)
    parts[index] = (text[:match.start()] + word + text[match.end():], False)
    return parts


def polite(rng):
    """A prefix and a suffix that carry no meaning."""
    prefix = rng.choice(PREFIXES) if rng.random() < 0.38 else ""
    suffix = rng.choice(SUFFIXES) if rng.random() < 0.22 else ""
    return prefix, suffix


def to_json(fields):
    ordered = {key: fields[key] for key in FIELD_ORDER if key in fields}
    assert len(ordered) == len(fields), fields
    return json.dumps(ordered, separators=(",", ":"), ensure_ascii=False)


def command(rng, split, values, wrap=True):
    """One in-scope request as (request, fields)."""
    template = None
    while template is None:
        intent, fixed, grammars = rng.choices(GRAMMARS, GRAMMAR_WEIGHTS)[0]
        template = expand_in_split(rng, grammars, intent, split)
    style = rng.random()
    lower = style < 0.5
    parts, fields = realise(rng, template, values, lower)
    if rng.random() < 0.08:
        parts = add_typo(rng, parts)
    request = "".join(text for text, _ in parts)
    question = is_question(template)
    if wrap:
        prefix, suffix = polite(rng)
        if question and not prefix.rstrip(" ,").lower() in NEUTRAL_PREFIXES:
            prefix = ""
        request = prefix + request + suffix
        request = finish(rng, request, lower, style, question)
    return request, dict({"intent": intent}, **fixed, **fields)


def is_question(template):
    return re.match(r"(what|who|how|when|where|why|is|do|does|are|which|should|can|will|did|am)\b"
                    r"(?! not| light)", template) is not None


def finish(rng, request, lower, style, question):
    """Letter case and final punctuation; copied text is already lower."""
    if lower:
        request = request.lower()
    elif style < 0.9:
        request = request[0].upper() + request[1:]
    if rng.random() < (0.15 if lower else 0.45):
        request += "?" if question else rng.choice([".", ".", "!"])
    return request


SIMPLE_INTENTS = {"lights_set", "timer_set", "music_control", "volume_set",
                  "thermostat_set", "alarm_set", "music_play", "call_start"}


def out_of_scope(rng, split, values):
    if rng.random() < 0.10:  # two commands at once are for a bigger model
        pair = []
        while len(pair) < 2:
            text, fields = command(rng, split, values, wrap=False)
            if fields["intent"] in SIMPLE_INTENTS and not re.match(r"(what|how)", text):
                pair.append(text)
        request = pair[0] + rng.choice([" and ", " and then ", ", then ", " and also "]) + pair[1]
        question = False
    else:
        template = None
        while template is None:
            template = expand_in_split(rng, rng.choices(ESCALATE, ESCALATE_SHARE)[0], "escalate", split)
        request = values.fill(template)
        question = is_question(template)
        if rng.random() < 0.08:
            request = add_typo(rng, [(request, False)])[0][0]
    prefix, suffix = polite(rng)
    if question and not prefix.rstrip(" ,").lower() in NEUTRAL_PREFIXES:
        prefix = ""
    style = rng.random()
    request = finish(rng, prefix + request + (suffix if not question else ""), style < 0.5, style, question)
    return request, {"intent": "escalate"}


# Knowledge, writing, code and maths, advice and chat, services, fragments.
ESCALATE_SHARE = (3, 2, 1.5, 3, 3, 0.6)

INTENT_SHARE = {
    "timer_set": 9, "timer_cancel": 2, "timer_query": 2, "alarm_set": 9,
    "alarm_cancel": 4, "reminder_set": 12, "lights_set": 10, "thermostat_set": 6,
    "thermostat_query": 2, "music_play": 11, "music_control": 4, "volume_set": 4,
    "message_send": 10, "call_start": 2, "shopping_add": 7, "shopping_remove": 3,
    "shopping_show": 1.5, "note_add": 6, "note_show": 1.5, "calendar_add": 8,
    "calendar_query": 4, "unit_convert": 6, "clock_query": 1.5,
}


def grammar_weights():
    """Spreads an intent's share over its groups by their number of wordings."""
    totals = {}
    for intent, _, grammars in GRAMMARS:
        totals[intent] = totals.get(intent, 0) + len(grammars) ** 0.5
    return [INTENT_SHARE[intent] * len(grammars) ** 0.5 / totals[intent]
            for intent, _, grammars in GRAMMARS]


GRAMMAR_WEIGHTS = grammar_weights()


def known_words():
    """Words a misspelling must not turn into."""
    text = json.dumps([[f, g] for _, f, g in GRAMMARS]) + json.dumps(ESCALATE)
    words = set(re.findall(r"[a-z]+", text.lower()))
    for family in UNIT_FAMILIES:
        words |= {w for forms in family.values() for form in forms for w in form.split()}
    return words | set(" ".join(ROOM_NAMES + COLORS + GENRES).split()) | NUMBER_WORDS


KNOWN_WORDS = known_words()
PIECE_WORDS = sorted(word for word in KNOWN_WORDS if len(word) > 1)


def examples(split, seed, escalate_share=0.18):
    """An endless stream of (request, json) of one split."""
    rng = random.Random(f"{split}-{seed}")
    values = Values(rng, split)
    while True:
        make = out_of_scope if rng.random() < escalate_share else command
        request, fields = make(rng, split, values)
        yield request, to_json(fields)


def held_out(split, in_scope, outside, seed):
    """A fixed set without repetitions: in-scope lines first."""
    seen, lines = set(), []
    for share, wanted in ((0.0, in_scope), (1.0, outside)):
        count = 0
        for request, answer in examples(split, f"{seed}-{share}", share):
            if count == wanted:
                break
            if request.lower() in seen:
                continue
            seen.add(request.lower())
            lines.append((request, answer))
            count += 1
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--split", choices=["train", "dev", "test"], default="test")
    parser.add_argument("--count", type=int, default=1000, help="in-scope lines (train: all lines)")
    parser.add_argument("--outside", type=int, default=300, help="out-of-scope lines (dev, test)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.split == "train":
        stream = examples("train", args.seed)
        lines = (next(stream) for _ in range(args.count))
    else:
        lines = held_out(args.split, args.count, args.outside, args.seed)
    for request, answer in lines:
        sys.stdout.write(f"{request}\t{answer}\n")


if __name__ == "__main__":
    main()
