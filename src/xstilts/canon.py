"""Canonical JSON and the keys made from it.

A key is the SHA-256 of a value's canonical JSON: sorted keys, no spaces, the
class name under `"type"`, whole floats written as integers (`2.0` and `2` mean
the same), NaN and unknown types refused. A field that was added to a dataclass later
(`metadata=LATER`) is left out while it has its default, so that older keys stay.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

LATER: Mapping[str, bool] = MappingProxyType({"later": True})  # metadata of a field that came after keys were given out


def plain(value: Any) -> Any:
    """`value` as JSON types only. Raises TypeError for an unknown type, ValueError for NaN or infinity."""
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} has no place in a key")
            return int(value) if value.is_integer() else value
        case tuple() | list():
            return [plain(item) for item in value]
        case Mapping():
            if not all(isinstance(name, str) for name in value):
                raise TypeError("only text can name an entry of a mapping in a key")
            return {name: plain(item) for name, item in value.items()}
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            named = [f for f in dataclasses.fields(value) if not (is_later(f) and getattr(value, f.name) == f.default)]
            fields = {f.name: plain(getattr(value, f.name)) for f in named}
            version = getattr(type(value), "VERSION", None)
            return {"type": type(value).__name__, **({} if version is None else {"version": version}), **fields}
    raise TypeError(f"{type(value).__name__} has no canonical form")


def is_later(field: dataclasses.Field[Any]) -> bool:
    """True for a field whose default is left out of the canonical form."""
    return bool(field.metadata.get("later"))


def canonical(value: Any) -> str:
    """The canonical JSON text of `value`."""
    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def key_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def unit_hash(text: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on `text` and `salt` only: how groups are cut and capped."""
    digest = hashlib.blake2b(f"{salt}\0{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
