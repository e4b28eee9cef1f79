"""Filters of the page without a script: boxes that are ticked hide what is not ticked, by style rules that look for them (`:has()`).

With nothing ticked all is shown, and so is it in print. The rules name places in lists, never a study's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup

from xstilts.report.view import View, family


@dataclass(frozen=True, slots=True)
class Filter:
    """One group of boxes: `letter` begins their ids, and is the attribute ("data-t") of what they hide."""

    letter: str
    legend: str
    names: tuple[str, ...]


def filters(view: View) -> tuple[Filter, ...]:
    """What a report can be filtered by: whatever it has two of."""
    families = {family(code) for target in view.targets for code in view.languages(target)} - {""}
    every = (
        Filter("t", "Target", view.targets),
        Filter("s", "Intermediate task", view.steps),
        Filter("m", "Model", view.models),
        Filter("f", "Family of the languages", tuple(sorted(families))),
    )
    return tuple(each for each in every if len(each.names) > 1)


def rules(found: Iterable[Filter]) -> str:
    """The style rules: where a box of a group is ticked, what belongs to one that is not is hidden."""
    lines = (
        f'main:has([id^="{each.letter}-"]:checked):not(:has(#{each.letter}-{place}:checked)) [data-{each.letter}="{place}"] '
        "{ display: none; }"
        for each in found
        for place in range(len(each.names))
    )
    return "\n".join(("@media screen {", *lines, "}"))


def marker(found: Iterable[Filter]) -> Callable[..., Markup]:
    """Gives the attributes of what belongs to `t`, a target, `s`, an intermediate task, `m`, a model, `f`, a family.

    A name that cannot be filtered by gives none.
    """
    places = {each.letter: {name: place for place, name in enumerate(each.names)} for each in found}

    def mark(**names: str) -> Markup:
        own = ((letter, places.get(letter, {}).get(name)) for letter, name in names.items())
        return Markup("".join(f' data-{letter}="{place}"' for letter, place in own if place is not None))

    return mark
