"""What the commands print: one JSON object on stdout, progress and errors on stderr."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

    from labelfusion.types import Event

PROGRESS_SECONDS = 5.0
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def print_json(value: object) -> None:
    """Exactly one JSON object on stdout."""
    from labelfusion.files import to_json

    typer.echo(to_json(value, indent=2))


def print_json_list(value: dict[str, object], name: str, items: Iterable[object]) -> None:
    """The same, of `value` and a last entry `name` that is a list, of which one item is in memory.

    What is printed is what `print_json` prints.
    """
    from labelfusion.files import to_json

    typer.echo(to_json(value | {name: []}, indent=2).removesuffix("]\n}"), nl=False)
    end = "]\n}"
    for number, item in enumerate(items):
        text = textwrap.indent(to_json(item, indent=2), " " * 4)
        typer.echo(f"{',' if number else ''}\n{text}", nl=False)
        end = "\n  ]\n}"
    typer.echo(end)


def print_table(frame: pd.DataFrame, index: bool = False) -> None:
    """A table as text; "–" where there is nothing."""
    typer.echo(frame.to_string(index=index, na_rep="–", float_format=lambda x: f"{x:.4g}"))


class Progress:
    """An OnEvent that draws on stderr: one line that changes on a terminal, plain lines else."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._open = False
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        if event.status != "progress":
            self._line(_sentence(event))
        elif self._live:
            self._redraw(_sentence(event))
        elif time.monotonic() - self._last > PROGRESS_SECONDS:
            self._line(_sentence(event))

    def _line(self, text: str) -> None:
        self.close()
        self._last = time.monotonic()
        typer.echo(text, err=True)

    def _redraw(self, text: str) -> None:
        self._open = True
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        typer.echo(f"\r\x1b[2K{text[: width - 1]}", err=True, nl=False)

    def close(self) -> None:
        """End the line that changes, if there is one."""
        if self._open:
            typer.echo("", err=True)
        self._open = False


def _sentence(event: Event) -> str:
    count = f" {event.done}/{event.total} {event.unit}".rstrip() if event.total else ""
    words = event.message or {"start": "started", "done": "done"}.get(event.status, "")
    return f"[{event.stage}]{count} {words}".rstrip()


def figures(system: dict[str, Any]) -> dict[str, Any]:
    """The headline metrics of a system's part of metrics.json."""
    return {name: system["metrics"].get(name) for name in ("accuracy", "macro_f1", "nll")}


def report_unexpected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """An excepthook: one sentence, and the traceback in a file only this user can read."""
    text = without_secrets("".join(traceback.format_exception(kind, error, trace)))
    with tempfile.NamedTemporaryFile(
        "w", prefix="labelfusion-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    typer.echo(
        f"labelfusion: Unexpected {kind.__name__}: {without_secrets(str(error))[:300]} "
        f"The traceback is in {file.name}; `labelfusion --debug …` shows it.",
        err=True,
    )


def without_secrets(text: str) -> str:
    """`text` without the values of environment variables whose names say that they are secret."""
    for name, value in os.environ.items():
        if len(value) >= 8 and any(word in name.upper() for word in _SECRET_WORDS):
            text = text.replace(value, f"[{name} removed]")
    return text
