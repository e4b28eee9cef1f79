"""Canonical JSON: the key is the meaning."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xstilts.canon import canonical, key_of, unit_hash


@dataclass(frozen=True)
class One:
    a: int
    b: float = 1.0


@dataclass(frozen=True)
class Two:
    a: int
    b: float = 1.0


def test_whole_floats_and_integers_mean_the_same_and_types_do_not() -> None:
    assert key_of(One(2, 3.0)) == key_of(One(2, 3))
    assert key_of(One(2)) != key_of(Two(2))
    assert canonical({"b": (1, None), "a": "ü"}) == '{"a":"ü","b":[1,null]}'


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1: 2}, object(), {1, 2}])
def test_what_has_no_canonical_form_is_refused(bad: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        key_of(bad)


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()))
def test_the_order_of_keys_does_not_matter(values: dict[str, object]) -> None:
    assert key_of(values) == key_of(dict(reversed(values.items())))


def test_unit_hashes_are_spread_evenly() -> None:
    values = [unit_hash(str(i), "salt") for i in range(4000)]
    assert all(0 <= v < 1 for v in values)
    assert all(abs(sum(lo <= v < lo + 0.25 for v in values) / 4000 - 0.25) < 0.03 for lo in (0, 0.25, 0.5, 0.75))
    assert unit_hash("a", "x") != unit_hash("a", "y")
