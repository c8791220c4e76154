"""What the Label page says and which keys it listens to; tables of agreement, gain and change.

Knows neither Streamlit nor files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import pandas as pd

from labelfusion.errors import InputError, did_you_mean
from labelfusion.ui.tables import metric_called

if TYPE_CHECKING:
    from labelfusion.labelling.agreement import Agreement
    from labelfusion.labelling.change import Change
    from labelfusion.labelling.state import LabelState

# One key an act; C and R belong to Streamlit itself.
SKIP, FLAG, UNDO, HIDE, CONFIRM, TAKE = "S", "F", "U", "H", "Enter", "Space"
LABEL_KEYS = "1234567890ABDEGIJKLMNOPQTVWXYZ"
# From so many labels on, typing the first letters is quicker than looking for the key.
MANY_LABELS = 11
LABELS_PIXELS = 420
RATE_OVER = 20
STRATEGIES: dict[str, str] = {
    "mixed": "What teaches the model most",
    "disagreement": "Where the sources disagree",
    "margin": "Where the suggestion is least sure",
    "diversity": "Texts unlike those labelled",
    "random": "At random",
    "errors": "Suspected label errors in the data",
}
REASONS: dict[str, str] = {
    **STRATEGIES,
    "audit": "Random audit: for the test split, without a suggestion",
}


def key_of(number: int) -> str | None:
    """The key of the label at `number`, or None where keys have run out."""
    return LABEL_KEYS[number] if number < len(LABEL_KEYS) else None


def height(labels: int) -> int | Literal["content"]:
    """Of the labels' buttons. Many scroll by themselves, so that the text stays in sight."""
    return LABELS_PIXELS if labels >= MANY_LABELS else "content"


def beginnings(names: Sequence[str]) -> dict[str, str]:
    """The least one must type of each label, so that it can be no other."""
    folded = [name.casefold() for name in names]
    found = {}
    for name, plain in zip(names, folded, strict=True):
        lengths = range(1, len(plain) + 1)
        alone = (n for n in lengths if sum(other.startswith(plain[:n]) for other in folded) == 1)
        found[name] = plain[: next(alone, len(plain))]
    return found


def find_label(typed: str, names: Sequence[str]) -> str:
    """The label whose first letters were typed, whatever their case.

    Raises InputError: none begins so, or several do and none is called so.
    """
    plain = typed.strip().casefold()
    exact = [name for name in names if name.casefold() == plain]
    begin = exact or [name for name in names if plain and name.casefold().startswith(plain)]
    if len(begin) == 1:
        return begin[0]
    if begin:
        raise InputError(
            f"Several labels begin with {typed!r}",
            found=", ".join(begin[:6]),
            remedy="Type more of it",
        )
    raise InputError(f"No label begins with {typed!r}", remedy=did_you_mean(typed, names))


def declared_labels(text: str) -> dict[str, str]:
    """Labels typed one a line, `name: what it means`. Raises InputError."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, meaning = (part.strip() for part in line.partition(":"))
        if not name and not meaning:
            continue
        if not name or name in found:
            raise InputError(
                "A label is named twice" if name else "A label has no name",
                found=name or line,
                expected="one label a line, each once, as in  billing: invoices and payments",
            )
        found[name] = meaning
    if len(found) < 2:
        raise InputError("At least two labels are needed", found=", ".join(found) or "none")
    return found


def progress_words(state: LabelState, who: str, left: int) -> str:
    """How far a person is, and how fast."""
    times = state.times(who)
    everyone = sum(1 for _ in state.labelled())
    rate = per_minute(times)
    pace = f" ({rate:.0f} a minute)" if rate else ""
    mine = f"{len(times):,} labelled by you{pace}"
    return f"{mine}, {everyone:,} by all, {left:,} left."


def per_minute(times: Sequence[str]) -> float | None:
    """Labels a minute over the last RATE_OVER, None before there are three."""
    recent = [datetime.fromisoformat(at) for at in times[-RATE_OVER:]]
    if len(recent) < 3:
        return None
    seconds = (recent[-1] - recent[0]).total_seconds()
    return 60 * (len(recent) - 1) / seconds if seconds else None


def agreement_table(found: Sequence[Agreement]) -> pd.DataFrame:
    """One row a comparison: what, texts, agree (%), 95 % interval, Cohen's kappa."""
    rows = []
    for one in found:
        low, high = one.interval or (None, None)
        rows.append(
            {
                "with": one.what,
                "texts": one.texts,
                "agree (%)": None if one.share is None else 100 * one.share,
                "low (%)": None if low is None else 100 * low,
                "high (%)": None if high is None else 100 * high,
                "Cohen's kappa": one.kappa,
            }
        )
    return pd.DataFrame(rows)


def change_table(change: Change) -> pd.DataFrame:
    """Before, after and the difference with its interval, as people read them."""
    rows = []
    for row in change.table.to_dict("records"):
        metric = metric_called(str(row["metric"]))
        low, high = (metric.show_difference(row[end]) for end in ("low", "high"))
        rows.append(
            {
                "metric": metric.name,
                "before": metric.show(row["before"]),
                "after": metric.show(row["after"]),
                "difference": metric.show_difference(row["difference"]),
                "interval": f"{low} to {high}",
                "better": "higher" if metric.higher_is_better else "lower",
            }
        )
    return pd.DataFrame(rows)


def counts_table(state: LabelState, names: Sequence[str]) -> pd.DataFrame:
    """How often each label has been given: label, texts, of which audit."""
    totals: Mapping[str, list[int]] = {name: [0, 0] for name in names}
    for entry in state.current().values():
        for name in entry.labels:
            if name in totals:
                totals[name][0] += 1
                totals[name][1] += entry.strategy == "audit"
    rows = [(name, all_, audit) for name, (all_, audit) in totals.items()]
    return pd.DataFrame(rows, columns=["label", "texts", "of which audit"])
