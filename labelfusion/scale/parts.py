"""The finished parts of an output, in a folder beside it: what a job that was stopped goes on from.

    .<output>.parts/
      manifest.json    {format, identity, ledger}: what the parts were made from, and how
      000000.csv …     the rows of each chunk, as the output holds them
      000000.json …    their counts; written last, so that a part with one is complete

Knows files. Does not know how parts are made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelfusion.errors import InputError
from labelfusion.files import write_atomically, write_json
from labelfusion.predict_file import write_table
from labelfusion.queueing import LET_GO_S, held
from labelfusion.scale.work import Made

FORMAT = 1


class Parts:
    """The parts of one output, of the kind that `suffix` names. `ledger` outlives a restart."""

    def __init__(self, folder: Path, suffix: str, *, excel_safe: bool = False) -> None:
        self.folder, self._suffix, self._excel_safe = folder, suffix, excel_safe
        self.ledger = ""

    @contextmanager
    def opened(self, identity: Mapping[str, Any], ledger: str, *, fresh: bool) -> Iterator[None]:
        """Hold the folder; parts of an earlier time are kept if they are of the same `identity`.

        Raises InputError if they are of another, or another process is at work on them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with held(self.folder / ".lock", LET_GO_S) as mine:
            if not mine:
                raise InputError(
                    "Another process is writing this output",
                    where=str(self.folder),
                    remedy="Wait for it, or name another output",
                )
            self._begin(json.loads(json.dumps(identity)), ledger, fresh)
            yield

    def _begin(self, identity: dict[str, Any], ledger: str, fresh: bool) -> None:
        manifest = None if fresh else self._manifest()
        if manifest is None:
            self._clear()
            manifest = {"format": FORMAT, "identity": identity, "ledger": ledger}
            write_json(self.folder / "manifest.json", manifest)
        before = manifest["identity"]
        changed = [
            name for name in {**before, **identity} if before.get(name) != identity.get(name)
        ]
        if changed:
            raise InputError(
                "Parts of this output were made from something else",
                where=str(self.folder),
                expected="the same input, model and options as when it was begun",
                found=f"another {', another '.join(changed)}",
                remedy="Undo the change to go on, or give --fresh to begin anew",
            )
        self.ledger = manifest["ledger"]

    def _manifest(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if found.get("format") == FORMAT else None

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name != ".lock":
                path.unlink()

    def done(self) -> list[dict[str, Any]]:
        """The counts of the parts that are complete, from the first on."""
        found = []
        while (path := self._counts(len(found))).exists():
            found.append(json.loads(path.read_text(encoding="utf-8")))
        return found

    def add(self, number: int, made: Made) -> None:
        """Keep part `number`."""
        write_table(self._rows(number), made.frame, header=number == 0, excel_safe=self._excel_safe)
        write_json(self._counts(number), made.to_dict())

    def join(self, count: int, out: Path) -> None:
        """Write the first `count` parts to `out`, which appears complete."""
        paths = [self._rows(number) for number in range(count)]
        join = _join_parquet if self._suffix == ".parquet" else _join_text
        write_atomically(out, lambda to: join(paths, to))

    def remove(self) -> None:
        """Delete the folder: its output is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _rows(self, number: int) -> Path:
        return self.folder / f"{number:06d}{self._suffix}"

    def _counts(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


def _join_text(paths: list[Path], to: Path) -> None:
    with to.open("wb") as whole:
        for path in paths:
            with path.open("rb") as part:
                shutil.copyfileobj(part, whole, 1 << 20)


def _join_parquet(paths: list[Path], to: Path) -> None:
    import pyarrow.parquet as pq

    schema = pq.read_schema(paths[0])
    with pq.ParquetWriter(to, schema) as whole:
        for path in paths:
            whole.write_table(pq.read_table(path).cast(schema))
