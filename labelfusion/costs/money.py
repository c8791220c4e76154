"""Money as people and JSON see it. Inside, money is a Decimal in US dollars, or None if unknown."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any


def format_usd(amount: Decimal | None) -> str:
    """``$1.23``; amounts below ten cents keep two significant digits; rounded up, never down."""
    if amount is None:
        return "unknown price"
    if amount <= 0:
        return "$0"
    digits = 2 if amount >= Decimal("0.1") else 1 - amount.adjusted()
    return f"${amount.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_CEILING):f}"


def to_json(value: Any) -> Any:
    """Dataclasses, tuples and Decimals as JSON has them (money becomes a number)."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value
