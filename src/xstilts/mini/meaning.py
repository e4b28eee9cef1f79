"""What is said, before any language: clauses drawn from the inventory, and which of them may be trained on.

Every pair of people and every pair of things said of them belongs to one part: train, dev or test. Texts of
two or more clauses are drawn for one part, so that people and facts that meet in a test text never met in a
training text (nor in the text that encoders are pretrained on), while each single person and fact is known.
Which fact goes with which person is free in all parts: that is what the tasks ask for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations
from random import Random

from xstilts.canon import unit_hash
from xstilts.mini.grammar import FOLDER, Clause

TEST_SHARE = 0.25  # of the pairs, and of the single clauses, go to the test part
DEV_SHARE = 0.12
HEDGES = ("perhaps", "probably")
# sentence patterns of two and of three clauses; the last of each never stands in a training text of a task
PAIRS = ("and", "but", "dot", "while")
TRIPLES = ("three_and", "three_dot", "three_but")
# how a list of checked sentences says that one is true, left open or false, before it and after it
MARKS = ("true", "open", "false")
LEADS = ("lead", "lead_list")  # sentences that may open such a list; the last never stands in a training text of a task
MARKS_AFTER = ("true_after", "open_after", "false_after")
FACTS = ("at", "live", "job", "act", "colour", "count")  # what two or three people can be told apart by
FACT_WEIGHTS = (5, 3, 3, 5, 2, 2)
DENIED = ("at", "live", "work")  # facts that every grammar can deny
TOPICS = ("at", "live", "work", "job", "act")  # facts of different kinds that may stand side by side


@dataclass(frozen=True)
class Inventory:
    """The entries of data/meanings.toml."""

    people: Mapping[str, tuple[str, ...]]
    lists: Mapping[str, tuple[str, ...]]
    objects: Mapping[str, tuple[str, ...]]
    verbs: Mapping[str, str]
    person_verbs: tuple[str, ...]
    adjectives: Mapping[str, str]

    @property
    def colours(self) -> tuple[str, ...]:
        """The adjectives that exclude each other."""
        return tuple(entry for entry, objects in self.adjectives.items() if objects == "painted")

    @cached_property
    def coloured(self) -> tuple[tuple[str, str], ...]:
        """Verbs and objects that go with each other and with every colour."""
        return tuple((verb, entry) for verb in self.verbs for entry in self.act(verb, self.colours[0]))

    def act(self, verb: str, adjective: str = "") -> tuple[str, ...]:
        """The objects that go with a verb (and an adjective)."""
        objects = self.objects[self.verbs[verb]]
        if adjective:
            fitting = self.objects[self.adjectives[adjective]]
            objects = tuple(entry for entry in objects if entry in fitting)
        return objects


@cache
def inventory() -> Inventory:
    """The inventory."""
    raw = tomllib.loads((FOLDER / "meanings.toml").read_text(encoding="utf-8"))
    return Inventory(
        people={gender: tuple(names) for gender, names in raw["person"].items()},
        lists={name: tuple(entries) for name, entries in raw["lists"].items()},
        objects={name: tuple(entries) for name, entries in raw["objects"].items()},
        verbs=raw["verbs"],
        person_verbs=tuple(raw["person_verbs"]["all"]),
        adjectives=raw["adjectives"],
    )


@cache
def part_of(key: str, salt: str) -> str:
    """The part that a combination belongs to."""
    place = unit_hash(key, salt=f"mini {salt}")
    return "test" if place < TEST_SHARE else "dev" if place < TEST_SHARE + DEV_SHARE else "train"


def part_of_pairs(keys: Sequence[str], salt: str) -> str:
    """The part that people (or facts) which meet in one text serve in.

    "train" when all pairs are for training; "test" when one is held out for test; "dev" when one is held out for dev
    and none for test.
    """
    parts = {part_of("|".join(sorted(pair)), salt) for pair in combinations(keys, 2)}
    return "test" if "test" in parts else "dev" if "dev" in parts else "train"


def part_of_clause(clause: Clause) -> str:
    """The part that a clause standing alone, or beside a clause of another kind, may serve in: by all that it says."""
    return part_of(clause.key(), "clause")


def clause(what: str, **roles: str) -> Clause:
    """A clause; roles by name, `city` and `time` adjuncts as t="city:berlin"."""
    lists = {
        "s": "person",
        "f": "family",
        "r": "role",
        "o": "object",
        "p": "place",
        "c": "city",
        "a": "adjective",
        "n": "number",
        "g": "organisation",
    }
    out = []
    for role, entry in roles.items():
        lst, colon, own = entry.partition(":")
        out.append((role, lst, own) if colon else (role, lists[role], entry))
    return Clause(what, tuple(out))


def _some(rng: Random, entries: Sequence[str], count: int) -> list[str]:
    return rng.sample(list(entries), count)


def _values(rng: Random, fact: str, count: int, same_verb: bool) -> list[Clause]:
    """`count` things to say of a subject (left open), all of one kind and all different."""
    have = inventory()
    if fact == "at":
        return [clause("at", s="", p=place) for place in _some(rng, have.lists["place"], count)]
    if fact == "live":
        return [clause("live", s="", c=city) for city in _some(rng, have.lists["city"], count)]
    if fact == "work":
        heads = [(rng.choice(("university", "bank")), f"city:{city}") for city in _some(rng, have.lists["city"], count)]
        return [clause("work", s="", g=head, h=name) for head, name in heads]
    if fact == "job":
        return [clause("job", s="", r=role) for role in _some(rng, have.lists["role"], count)]
    if fact == "act" and not same_verb:
        verbs = _some(rng, tuple(have.verbs), count)
        return [clause(verb, s="", o=rng.choice(have.act(verb))) for verb in verbs]
    if fact == "act":
        verb = rng.choice([verb for verb in have.verbs if len(have.act(verb)) >= count])
        return [clause(verb, s="", o=entry) for entry in _some(rng, have.act(verb), count)]
    if fact == "colour":  # two sizes or ages do not exclude each other, two colours do
        colours = _some(rng, have.colours, count)
        verb, entry = rng.choice(list(have.coloured))
        return [clause(verb, s="", a=colour, o=entry) for colour in colours]
    verb = rng.choice(("buy", "sell", "carry", "wash", "choose", "seek", "hide"))
    entry = rng.choice(have.act(verb))
    return [clause(verb, s="", n=number, o=entry) for number in _some(rng, have.lists["number"], count)]


def _people(rng: Random, count: int, part: str) -> list[str]:
    gender = rng.choice("fm")
    while True:
        people = _some(rng, inventory().people[gender], count)
        if part_of_pairs(people, "people") == part:
            return people


def facts(rng: Random, count: int, part: str, one_verb: bool = False) -> tuple[str, list[Clause]]:
    """`count` people of one gender with a fact each, of one kind, for a part; also the kind.

    One gender: so that no form depends on which fact goes with which person, in any language.
    """
    fact = rng.choices(FACTS, FACT_WEIGHTS)[0]
    one_verb = one_verb or rng.random() < 0.5
    people = _people(rng, count, part)
    while True:
        values = _values(rng, fact, count, one_verb)
        if part_of_pairs([value.value() for value in values], "facts") == part:
            return fact, [value.by(person) for value, person in zip(values, people, strict=True)]


def topics(rng: Random, count: int, part: str, kinds: Sequence[str] = TOPICS) -> list[Clause]:
    """`count` people of one gender with a fact each, all of different kinds, for a part."""
    people = _people(rng, count, part)
    while True:
        values = [_values(rng, topic, 1, False)[0] for topic in _some(rng, kinds, count)]
        if part_of_pairs([value.value() for value in values], "facts") == part:
            return [value.by(person) for value, person in zip(values, people, strict=True)]


def group_of(clauses: Sequence[Clause]) -> str:
    """The leakage group of a text: its people and facts, whoever does what."""
    return "+".join(sorted(c.filler("s") for c in clauses)) + "=" + "+".join(sorted(c.value() for c in clauses))


# --- single clauses, for tagging, retrieval and pretraining ---

SHAPES = ("at", "live", "work", "job", "act", "act_a", "act_n", "person", "there", "is")
Pick = Callable[[Random, Sequence[str]], str]


def any_of(rng: Random, entries: Sequence[str]) -> str:
    """One of the entries."""
    return rng.choice(list(entries))


def single(rng: Random, shape: str, pick: Pick = any_of, family: float = 0.0, adjunct: float = 0.4) -> Clause:
    """One clause of a shape in a mood.

    `pick` chooses each entry; `family` and `adjunct` are the rates of family names and of times or cities.
    """
    have = inventory()
    lists = have.lists
    roles: dict[str, str] = {}
    if shape not in ("there", "is"):
        roles["s"] = pick(rng, have.people["f"] + have.people["m"])
        if rng.random() < family:
            roles["f"] = pick(rng, lists["family"])
    what, free = shape, True
    if shape == "at":
        roles["p"] = pick(rng, lists["place"])
    elif shape == "live":
        roles["c"], free = pick(rng, lists["city"]), False
    elif shape == "work":
        roles["g"] = rng.choice(("university", "bank", "company"))
        roles["h"] = f"family:{pick(rng, lists['family'])}" if roles["g"] == "company" else f"city:{pick(rng, lists['city'])}"
    elif shape == "job":
        roles["r"], free = pick(rng, lists["role"]), False
    elif shape == "person":
        what = pick(rng, have.person_verbs)
        roles["r"] = pick(rng, lists["role"])
    elif shape == "there":
        roles["o"], roles["p"], free = pick(rng, have.objects["indoors"]), pick(rng, lists["place"]), False
    elif shape == "is":
        roles["a"], free = pick(rng, tuple(have.adjectives)), False
        roles["o"] = pick(rng, have.objects[have.adjectives[roles["a"]]])
    else:
        what = pick(rng, tuple(have.verbs))
        if shape == "act_a":
            fitting = [a for a in have.adjectives if have.act(what, a)]
            if fitting:
                roles["a"] = pick(rng, fitting)
        roles["o"] = pick(rng, have.act(what, roles.get("a", "")))
        if shape == "act_n":
            roles["n"] = pick(rng, lists["number"])
    mood = "plain"
    if free and rng.random() < adjunct:
        mood = rng.choice(("front", "end"))
        time = shape in ("at", "work") or rng.random() < 0.6
        roles["t"] = f"time:{pick(rng, lists['time'])}" if time else f"city:{pick(rng, lists['city'])}"
    elif shape in ("at", "live", "work") and rng.random() < 0.25:
        mood = "not"
    elif "s" in roles and rng.random() < 0.25:
        mood = rng.choice(HEDGES)
    return clause(what, **roles).to(mood)
