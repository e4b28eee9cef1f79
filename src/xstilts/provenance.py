"""Where a number comes from: versions, machine kind, commit. None of it is in a key."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path

from xstilts import machine

PACKAGES = ("xstilts", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow")
_PACKAGE = Path(__file__).parent


def versions() -> dict[str, str]:
    """Version of Python and of every package that decides numbers (those that are installed)."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The git commit of the source checkout that this package runs from; None for an installed wheel."""
    git = _PACKAGE.parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        if (git / ref).is_file():
            return (git / ref).read_text(encoding="utf-8").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)


def made(device: str = "cpu") -> dict[str, object]:
    """All of it, as the manifest of an entry records it."""
    return {"versions": versions(), "machine": machine.kind(), "device": device, "commit": commit()}


def code_hash() -> str:
    """SHA-256 over this package's code, tables and templates: a report made by other code is made again."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        if path.suffix in {".py", ".html", ".j2", ".css", ".js", ".toml"} and path.is_file():
            digest.update(f"{path.relative_to(_PACKAGE)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
