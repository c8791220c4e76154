"""What a study is told beside its config, and where it works.

Plain values; a kind of study takes from them what it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelfusion.config import RunConfig
from labelfusion.errors import ConfigError
from labelfusion.types import OnEvent, ignore_event
from labelfusion.workspace import Workspace


@dataclass(frozen=True)
class Place:
    """The study's folder, the workspace with its caches, and who watches."""

    folder: Path
    workspace: Workspace
    on_event: OnEvent = ignore_event


@dataclass(frozen=True)
class Options:
    """Settings of a study; what is empty is the kind's default.

    Attributes:
        seeds: how many seeds, the config's and those after it.
        sizes: shares (floats up to 1) or numbers of training rows (integers).
        variants: of the prompt study: "configured", "zero-shot", "STRATEGY:COUNT" or a template.
        rows: of the prompt study: how many texts every variant scores.
        target: of the transfer study: a data file, or a config of data and scores.
        run: of the transfer study: a trained run's folder, in place of training.
    """

    seeds: int = 5
    sizes: Sequence[float] = ()
    variants: Sequence[str] = ()
    rows: int = 100
    target: Path | None = None
    run: Path | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("seeds", self.seeds, 1), ("rows", self.rows, 10)):
            if value < least:
                raise ConfigError(
                    f"There are too few {name}",
                    where=f"--{name}",
                    expected=f"at least {least}",
                    found=str(value),
                )

    def numbered(self, config: RunConfig) -> list[int]:
        """The seeds themselves."""
        return [config.seed + i for i in range(self.seeds)]

    def arguments(self) -> list[str]:
        """The same as arguments of the command line, defaults left out."""
        found = [] if self.seeds == Options.seeds else ["--seeds", str(self.seeds)]
        if self.sizes:
            found += ["--sizes", ",".join(str(size) for size in self.sizes)]
        for variant in self.variants:
            found += ["--variant", variant]
        found += [] if self.rows == Options.rows else ["--rows", str(self.rows)]
        for name, path in (("--target", self.target), ("--run", self.run)):
            found += [] if path is None else [name, str(path)]
        return found
