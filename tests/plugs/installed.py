"""Installs a small package: a module and its entry points in a folder of the import path."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def install(folder: Path, module: str, source: str, **points: dict[str, str]) -> Path:
    """Write `module` with `source`, and its entry points: group -> name -> object."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    text = ""
    for group, names in points.items():
        text += f"[nightmill.{group}]\n"
        text += "".join(f"{name} = {module}:{what}\n" for name, what in names.items())
    (about / "entry_points.txt").write_text(text)
    return folder
