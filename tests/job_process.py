"""The command line with a fit that waits for a file, so that tests decide how far it gets.

Started by test_jobs in place of `python -m labelfusion`.
"""

import os
import sys
import time
from pathlib import Path

from labelfusion import pipeline
from labelfusion.cli import main
from labelfusion.types import Event

real_fit = pipeline.fit


def gated_fit(dataset, config, *, on_event, store, **lent):
    """The real fit, after each source has been stored and the gate of that name is open."""
    gates = Path(os.environ["TEST_GATES"])
    with (gates / "started").open("a") as file:
        file.write(f"{config.name}\n")

    class Gated(type(store)):
        def __setitem__(self, key, signal):
            super().__setitem__(key, signal)
            with (gates / "computed").open("a") as file:
                file.write(f"{config.name} {key}\n")
            while not (gates / f"open-{config.name}").exists():
                on_event(Event(key, "progress", "at the gate", 1, 2, "gates"))
                time.sleep(0.02)

    gated = Gated(store.folder, store.ids, store.labels)
    return real_fit(dataset, config, on_event=on_event, store=gated, **lent)


if __name__ == "__main__":
    pipeline.fit = gated_fit
    sys.exit(main())
