"""Where an output goes: a path, or an address such as s3://bucket/key.

Knows file systems. Does not know tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelfusion.data.source import file_system, is_address
from labelfusion.errors import InputError
from labelfusion.files import check_writable
from labelfusion.predict_file import check_suffix
from labelfusion.workspace import Workspace


@dataclass(frozen=True)
class Target:
    """An output; `parts` is the folder, on this machine, for what is finished of it."""

    place: str | Path
    parts: Path

    @classmethod
    def of(cls, place: str | Path, workspace: Workspace) -> Target:
        """Of a path, or of an address, whose parts are kept in the workspace."""
        if not is_address(place):
            path = Path(place)
            return cls(path, path.parent / f".{path.name}.parts")
        name = hashlib.sha256(str(place).encode()).hexdigest()[:16]
        return cls(place, workspace.cache / "parts" / name)

    @property
    def suffix(self) -> str:
        return Path(self.place).suffix.lower()

    def check(self, *, force: bool) -> None:
        """Raise InputError unless a table may be written here."""
        check_suffix(str(self.place))
        if isinstance(self.place, Path):
            check_writable(self.place, force=force)
            return
        system, path = self._system()
        if system.get_file_info(path).is_file and not force:
            raise InputError(
                "The output file exists", where=self.place, remedy="Give --force to replace it"
            )

    def publish(self, write: Callable[[Path], None]) -> None:
        """Have `write` make the file, and let it appear complete."""
        if isinstance(self.place, Path):
            write(self.place)
            return
        from pyarrow.fs import LocalFileSystem, copy_files

        made = self.parts / f"whole{self.suffix}"
        write(made)
        system, path = self._system()
        # An object store shows an object only once all of it is there.
        copy_files(str(made), path, LocalFileSystem(), system)

    def _system(self) -> tuple[Any, str]:
        return file_system(str(self.place))
