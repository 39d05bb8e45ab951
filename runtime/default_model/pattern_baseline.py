#!/usr/bin/env python3
"""A plain pattern-matching baseline for the default model's task.

    python3 runtime/default_model/pattern_baseline.py runtime/default_model/test.tsv

Written from the specification and ordinary wordings, the way one would write
rules by hand in an afternoon; synonyms were widened once afterwards.
Whatever no rule matches is escalated.
"""

import collections
import json
import re
import sys

ROOMS = ("kitchen|living room|bedroom|bathroom|office|hallway|garage|garden|dining room|kids room|guest room|"
         "basement|attic|balcony|terrace|porch|laundry room|nursery|study|library|workshop|pantry|studio|gym|"
         "playroom|cellar|lounge|driveway|staircase|corridor|patio|conservatory")
COLORS = ("warm white|cool white|red|green|blue|yellow|orange|purple|pink|white|turquoise|violet|cyan|magenta|"
          "lime|amber|teal|lavender")
GENRES = ("jazz|rock|pop|classical music|blues|country|hip hop|techno|house music|reggae|metal|folk|soul|funk|"
          "ambient|disco|punk|opera|swing|electronic|indie|salsa|gospel|lofi")
RELATIONS = "mum|mom|dad|wife|husband|sister|brother|boss|son|daughter|grandma|grandpa"
WEEKDAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
UNITS = {
    "kilometers per hour": "kmh", "km/h": "kmh", "miles per hour": "mph", "mph": "mph", "kilometers": "km", "km": "km",
    "kilometres": "km", "meters": "m", "metres": "m", "centimeters": "cm", "cm": "cm", "millimeters": "mm", "mm": "mm",
    "miles": "mi", "feet": "ft", "ft": "ft", "inches": "in", "yards": "yd", "kilograms": "kg", "kg": "kg", "kilos": "kg",
    "grams": "g", "g": "g", "pounds": "lb", "lbs": "lb", "ounces": "oz", "oz": "oz", "liters": "l", "litres": "l",
    "milliliters": "ml", "ml": "ml", "gallons": "gal", "cups": "cup", "pints": "pt", "tablespoons": "tbsp",
    "teaspoons": "tsp", "degrees celsius": "c", "celsius": "c", "degrees fahrenheit": "f", "fahrenheit": "f",
    "kelvin": "k", "seconds": "s", "minutes": "min", "hours": "h", "days": "d", "weeks": "wk",
    "megabytes": "mb", "mb": "mb", "gigabytes": "gb", "gb": "gb", "terabytes": "tb", "tb": "tb",
}
UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
SMALL = {w: n for n, w in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen".split())}
TENS = {w: 10 * n for n, w in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
NUMBER = r"\d+(?:\.\d+)?|(?:(?:" + "|".join(TENS) + r")(?:[ -](?:" + "|".join(SMALL) + "))?|" + "|".join(sorted(SMALL, key=len, reverse=True)) + "|an?)"
CLOCK = (r"(?:half past|quarter past|quarter to) (?:\d+|\w+)|\d{1,2}:\d\d ?(?:[ap]m)?|\d{1,2} ?(?:[ap]m)|noon|midnight|"
         r"\d{1,2}(?: o'clock)?|(?:" + "|".join(list(SMALL)[1:13]) + r")(?: o'clock| [ap]m)?")
CLOCK = f"(?:{CLOCK})(?: in the morning| in the afternoon| in the evening| at night)?"
DAY = rf"(?:on )?(?:next |every )?(?:{WEEKDAYS})|tomorrow|today|every day|on weekdays|on weekends"
WHEN = rf"(?:at {CLOCK} (?:{DAY})|(?:{DAY}) at {CLOCK}|at {CLOCK}|{DAY})"
LENGTH = rf"half an hour|an hour and a half|(?:{NUMBER})[ -](?:second|sec|minute|min|hour)s?(?:(?: and)? (?:{NUMBER}) (?:second|minute)s?)?"


def number(text):
    if re.fullmatch(r"[\d.]+", text):
        return float(text) if "." in text else int(text)
    if text in ("a", "an"):
        return 1
    return sum(SMALL.get(w, TENS.get(w, 0)) for w in re.split("[ -]", text))


def length(text):
    if text in ("half an hour", "an hour and a half"):
        return {"half an hour": "30m", "an hour and a half": "1h30m"}[text]
    pairs = re.findall(rf"({NUMBER})[ -](second|sec|minute|min|hour)", text)
    return "".join(f"{number(n)}{unit[0]}" for n, unit in pairs)


def clock(text):
    if text in ("noon", "midnight"):
        return {"noon": "12:00", "midnight": "00:00"}[text]
    part = re.search(r"([ap])m\b|in the (morning|afternoon|evening)|at night", text)
    afternoon = bool(part) and (part.group(1) == "p" or part.group(2) in ("afternoon", "evening") or "night" in part.group(0))
    morning = bool(part) and not afternoon
    words = re.match(r"(half past|quarter past|quarter to) (\w+)", text)
    if words:
        hour, minute = number(words.group(2)), {"half past": 30, "quarter past": 15, "quarter to": 45}[words.group(1)]
        if minute == 45:
            hour = 12 if hour == 1 else hour - 1
    else:
        found = re.match(r"(\d+|\w+)(?::(\d\d))?", text)
        hour, minute = number(found.group(1)), int(found.group(2) or 0)
    if afternoon and hour < 12:
        hour += 12
    if morning and hour == 12:
        hour = 0
    return f"{hour:02d}:{minute:02d}"


def moment(text):
    """Fields of a WHEN expression."""
    fields = {}
    at = re.search(rf"at ({CLOCK})", text)
    if at:
        fields["time"] = clock(at.group(1))
        text = text.replace(at.group(0), "")
    day = re.sub("^on ", "", text.strip())
    if day:
        fields["day"] = {"every day": "daily"}.get(day, day)
    return fields


def items(text):
    return [item for item in re.split(r",? and |, ", text) if item]


def to(person):
    return re.sub(rf"^my (?=(?:{RELATIONS})$)", "", person, flags=re.I)


RULES = []


def rule(pattern):
    def add(action):
        RULES.append((re.compile(pattern, re.I), action))
        return action
    return add


def fixed(pattern, **fields):
    RULES.append((re.compile(pattern, re.I), lambda m: dict(fields, **({"room": m["room"].lower()} if m.groupdict().get("room") else {}))))


IN_ROOM = rf"(?: (?:in|of) the (?P<room>{ROOMS}))?"
LIGHT = r"(?:lights?|lamps?)"


@rule(rf"(?:set|start|create|make|begin|run|add|give me|i need|i want) (?:a|another|the|my) (?:(?P<name>\w+) )?timer (?:for|of|to) (?P<d>{LENGTH})$")
@rule(rf"(?:set|start|create|make|begin|run|add|give me|i need|i want) (?:a|an|another) (?P<d>{LENGTH}) (?:(?P<name>\w+) )?timer$")
@rule(rf"(?:set|start|create|make|begin|run|add|give me|i need|i want) (?:a|another) timer for (?P<name>\w+) for (?P<d>{LENGTH})$")
@rule(rf"timer (?:for )?(?P<d>{LENGTH})$")
def timer(m):
    fields = {"intent": "timer_set", "duration": length(m["d"].lower())}
    if m.groupdict().get("name"):
        fields["name"] = m["name"]
    return fields


fixed(r"(?:cancel|stop|delete) (?:all|all the|all my) timers$", intent="timer_cancel", what="all")
fixed(r"(?:cancel|stop|delete|remove|clear|turn off|switch off) (?:the|my) timer$", intent="timer_cancel")
rule(r"(?:cancel|stop|delete|remove|clear|turn off|switch off) (?:the|my) (.+) timer$")(lambda m: {"intent": "timer_cancel", "name": m[1]})
fixed(r"how (?:much time|long) is left on (?:the|my) timer$", intent="timer_query")
rule(r"how (?:much time|long) is left on (?:the|my) (.+) timer$")(lambda m: {"intent": "timer_query", "name": m[1]})
rule(rf"(?:set an alarm|wake me up|wake me|set my alarm|set the alarm|get me up|create an alarm|add an alarm|i need an alarm|alarm|i have to get up|i need to get up) (?:for (?P<t>{CLOCK})|(?P<w>{WHEN}))$")(
    lambda m: dict({"intent": "alarm_set"}, **(moment(m["w"].lower()) if m["w"] else {"time": clock(m["t"].lower())})))
fixed(r"(?:cancel|delete|turn off) all (?:my |the )?alarms$", intent="alarm_cancel", what="all")
rule(rf"(?:cancel|delete|turn off|remove|clear|switch off|disable) (?:the|my|that) alarm(?: for ({CLOCK}))?$")(
    lambda m: dict({"intent": "alarm_cancel"}, **({"time": clock(m[1].lower())} if m[1] else {})))
rule(rf"(?:remind me|set a reminder|create a reminder|make a reminder|add a reminder|i need a reminder|reminder|don't let me forget) in (?P<d>{LENGTH}) to (?P<x>.+)$")(
    lambda m: {"intent": "reminder_set", "text": m["x"], "in": length(m["d"].lower())})
rule(rf"(?:remind me|set a reminder|create a reminder|make a reminder|add a reminder|i need a reminder|reminder|don't let me forget) to (?P<x>.+) in (?P<d>{LENGTH})$")(
    lambda m: {"intent": "reminder_set", "text": m["x"], "in": length(m["d"].lower())})
rule(rf"(?:remind me|set a reminder|create a reminder|make a reminder|add a reminder|i need a reminder|reminder|don't let me forget) (?P<w>{WHEN}) to (?P<x>.+)$")(
    lambda m: dict({"intent": "reminder_set", "text": m["x"]}, **moment(m["w"].lower())))
rule(rf"(?:remind me|set a reminder|create a reminder|make a reminder|add a reminder|i need a reminder|reminder|don't let me forget) to (?P<x>.+?)(?: (?P<w>{WHEN}))?$")(
    lambda m: dict({"intent": "reminder_set", "text": m["x"]}, **(moment(m["w"].lower()) if m["w"] else {})))
for word in ("on", "off"):
    fixed(rf"(?:turn|switch|put) {word} all (?:the )?{LIGHT}$", intent="lights_set", room="all", state=word)
    fixed(rf"(?:turn|switch|put) {word} the (?:(?P<room>{ROOMS}) )?{LIGHT}$", intent="lights_set", state=word)
    fixed(rf"(?:turn|switch|put) {word} the {LIGHT}{IN_ROOM}$", intent="lights_set", state=word)
    fixed(rf"(?:turn|switch|put) the (?:(?P<room>{ROOMS}) )?{LIGHT} {word}$", intent="lights_set", state=word)
    fixed(rf"(?:turn|switch|put) the {LIGHT}{IN_ROOM} {word}$", intent="lights_set", state=word)


@rule(rf"(?:set|dim|turn|change|put|adjust|brighten) the (?:(?P<room>{ROOMS}) )?{LIGHT} to (?P<n>{NUMBER})(?: percent|%)?$")
@rule(rf"(?:set|dim|turn|change|put|adjust|brighten) the {LIGHT}{IN_ROOM} to (?P<n>{NUMBER})(?: percent|%)?$")
@rule(rf"(?:make|set|turn|change|switch) the (?:(?P<room>{ROOMS}) )?{LIGHT} (?:to )?(?P<c>{COLORS})$")
@rule(rf"(?:make|set|turn|change|switch) the {LIGHT}{IN_ROOM} (?:to )?(?P<c>{COLORS})$")
def lights(m):
    found = m.groupdict()
    fields = {"intent": "lights_set"}
    if found.get("room"):
        fields["room"] = found["room"].lower()
    if found.get("n"):
        fields["brightness"] = number(found["n"].lower())
    else:
        fields["color"] = found["c"].lower()
    return fields


@rule(rf"(?:set|turn|change|put|adjust) the (?:temperature|heating|thermostat){IN_ROOM} to (?P<n>{NUMBER})(?: degrees)?$")
@rule(rf"(?:set|heat) the (?P<room>{ROOMS})(?: temperature| heating| thermostat)? to (?P<n>{NUMBER})(?: degrees)?$")
def thermostat(m):
    room = {"room": m["room"].lower()} if m["room"] else {}
    return dict({"intent": "thermostat_set"}, **room, temperature=number(m["n"].lower()))


fixed(rf"(?:turn up the heating|make it warmer|it is (?:too )?cold){IN_ROOM}$", intent="thermostat_set", change="up")
fixed(rf"(?:turn down the heating|make it cooler|it is (?:too )?hot){IN_ROOM}$", intent="thermostat_set", change="down")
fixed(rf"(?:what is|what's) the temperature{IN_ROOM}$", intent="thermostat_query")
fixed(rf"how (?:warm|cold|hot) is it in the (?P<room>{ROOMS})$", intent="thermostat_query")
fixed(r"pause(?: the music| the song)?$", intent="music_control", action="pause")
fixed(r"stop(?: the music| the song)?$", intent="music_control", action="stop")
fixed(r"(?:resume|continue)(?: the music| the song)?$", intent="music_control", action="resume")
fixed(r"(?:next|skip)(?: this)?(?: song| track)?$", intent="music_control", action="next")
fixed(r"previous (?:song|track)$", intent="music_control", action="previous")
fixed(r"(?:turn up the (?:volume|music)|louder)$", intent="volume_set", change="up")
fixed(r"(?:turn down the (?:volume|music)|quieter)$", intent="volume_set", change="down")
rule(rf"(?:set|turn) the volume to ({NUMBER})(?: percent|%)?$")(lambda m: {"intent": "volume_set", "level": number(m[1].lower())})


def music():
    return lambda m: dict({"intent": "music_play"}, **{k: m[k] if k != "room" else m[k].lower()
                                                       for k in ("song", "artist", "album", "playlist", "genre", "room") if m.groupdict().get(k)})


for shape in (rf"(?:some )?(?P<genre>{GENRES})", "(?:some )?music", "(?:something|music|songs) by (?P<artist>.+?)",
              "the album (?P<album>.+?)(?: by (?P<artist>.+?))?", "my (?P<playlist>.+?) playlist",
              "(?:the|my) playlist (?P<playlist>.+?)", "(?:the song )?(?P<song>.+?)(?: by (?P<artist>.+?))?"):
    rule(rf"(?:play|put on|i want to hear|let's hear|start) {shape}(?: in the (?P<room>{ROOMS}))?$")(music())


def message(m):
    return {"intent": "message_send", "to": to(m["p"]), "text": m["x"]}


PERSON = r"(?P<p>(?:my )?\w+(?: [A-Z]\w+)?)"
for shape in (rf"(?:send|write) (?:a|an) (?:message|text|sms|text message) to {PERSON} (?:saying|that says) (?P<x>.+)$", rf"(?:text|tell|message|write to|write) {PERSON} that (?P<x>.+)$",
              rf"let {PERSON} know (?:that )?(?P<x>.+)$", r"(?:text|tell|message) (?P<p>(?:my )?\w+):? (?P<x>.+)$"):
    rule(shape)(message)
rule(r"(?:call|phone|ring|dial) ((?:my )?\w+(?: \w+)?)$")(lambda m: {"intent": "call_start", "to": to(m[1])})
rule(r"(?:add|put|write) (.+) (?:to|on|onto) (?:the|my|our) (?:(?:shopping|grocery) )?list$")(lambda m: {"intent": "shopping_add", "items": items(m[1])})
rule(r"(?:we need|i need to buy|we need to buy|buy|get|we are out of) (.+)$")(lambda m: {"intent": "shopping_add", "items": items(m[1])})
rule(r"(?:remove|delete|take|cross) (.+) (?:from|off) (?:the|my|our) (?:(?:shopping|grocery) )?list$")(lambda m: {"intent": "shopping_remove", "items": items(m[1])})
fixed(r"(?:clear|empty) (?:the|my|our) (?:shopping|grocery) list$", intent="shopping_remove", what="all")
fixed(r"(?:show me|read|what is on|what's on|show) (?:the|my|our) (?:shopping|grocery) list$", intent="shopping_show")
rule(r"(?:make|take|add|create|save) a note:? (?:that |saying )?(.+)$")(lambda m: {"intent": "note_add", "text": m[1]})
rule(r"(?:note to self|note|write down|note down|jot down|remember):? (?:that )?(.+)$")(lambda m: {"intent": "note_add", "text": m[1]})
fixed(r"(?:show|read|open) (?:me )?my notes$", intent="note_show")
rule(rf"(?:add|put|schedule|enter|book|plan) (.+) (?:to|in|on) my calendar ({WHEN})$")(lambda m: dict({"intent": "calendar_add", "title": m[1]}, **moment(m[2].lower())))
rule(rf"(?:add|put|schedule|enter|book|plan) (.+?) ({WHEN})(?: (?:to|in|on) my calendar)?$")(lambda m: dict({"intent": "calendar_add", "title": m[1]}, **moment(m[2].lower())))
rule(rf"(?:what is|what's|what do i have) (?:on|in) my calendar ({WHEN})$")(lambda m: dict({"intent": "calendar_query"}, **moment(m[1].lower())))
fixed(r"(?:show|read|what is on|what's on) my calendar$", intent="calendar_query")
rule(rf"(?:convert |what is |what's |how much is |change |turn )?({NUMBER}) ({UNIT}) (?:to|in|into) ({UNIT})$")(
    lambda m: {"intent": "unit_convert", "value": number(m[1].lower()), "from": UNITS[m[2].lower()], "to": UNITS[m[3].lower()]})
rule(rf"how many ({UNIT}) (?:are|is|are in|in) ({NUMBER}) ({UNIT})$")(
    lambda m: {"intent": "unit_convert", "value": number(m[2].lower()), "from": UNITS[m[3].lower()], "to": UNITS[m[1].lower()]})
fixed(r"what time is it$|what is the time$", intent="clock_query", what="time")
fixed(r"what day is it$|what is the date$|what's the date$", intent="clock_query", what="date")

ORDER = ("intent action what song artist album playlist genre room state brightness color temperature level change "
         "by duration name value from to text title items in time day date part").split()
POLITE = re.compile(r"^(?:(?:please|can you|could you|would you|will you|hey|ok|okay|hi|hello|now|hob|i want you to|"
                    r"i'd like you to|just|also|and|so|um|uh|well|right),? )+", re.I)
TAIL = re.compile(r"(?:,? (?:please|thanks|thank you|for me|right away))*[.!?]?$", re.I)


def answer(request):
    text = TAIL.sub("", POLITE.sub("", request.strip()))
    for pattern, action in RULES:
        match = pattern.match(text)
        if match:
            fields = action(match)
            ordered = {key: fields[key] for key in ORDER if key in fields}
            return json.dumps(ordered, separators=(",", ":"), ensure_ascii=False)
    return '{"intent":"escalate"}'


def main():
    right, total = collections.Counter(), collections.Counter()
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in lines:
            request, expected = line.rstrip("\n").split("\t")
            intent = json.loads(expected)["intent"]
            total[intent] += 1
            right[intent] += answer(request) == expected
    for intent in sorted(total):
        print(f"{intent:18s} {right[intent]:4d} / {total[intent]:4d}  {right[intent] / total[intent]:6.1%}")
    inside = [i for i in total if i != "escalate"]
    hits, count = sum(right[i] for i in inside), sum(total[i] for i in inside)
    print(f"{'in scope':18s} {hits:4d} / {count:4d}  {hits / count:6.1%}")


if __name__ == "__main__":
    main()
