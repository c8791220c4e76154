"""What HTTP status codes and headers mean, for the vendors whose SDKs show them.

Knows the vocabulary of OpenAI-compatible servers, Anthropic and Google; imports none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from labelfusion.llm.providers.base import Failure, FailureKind, RateLimits

_TOO_LONG = ("context length", "context_length", "too long", "maximum context", "token count")
_REFUSED = ("content_policy", "content_filter", "content management policy", "safety")
_NO_MONEY = ("insufficient_quota", "credit balance", "insufficient balance", "billing")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DELAY = re.compile(r"retrydelay\W+(\d+(?:\.\d+)?)s", re.IGNORECASE)


# Errors of httpx2 and urllib3 for a connection that never came about.
_NEVER_SENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "NewConnectionError", "ConnectTimeoutError"}
)


def was_sent(error: BaseException) -> bool:
    """Whether a failed request may have reached the provider, and so may have to be paid."""
    chain = [error, error.__cause__, error.__context__, getattr(error, "reason", None), *error.args]
    chain += [getattr(part, "reason", None) for part in error.args]
    return not any(type(part).__name__ in _NEVER_SENT for part in chain)


def failure(status: int, message: str, headers: Mapping[str, str]) -> Failure:
    """The Failure an error status stands for."""
    after = retry_after(headers)
    if after is None and (told := _DELAY.search(message)):
        after = float(told.group(1))
    return Failure(_kind(status, message.lower()), f"HTTP {status}: {message}", retry_after_s=after)


def _kind(status: int, words: str) -> FailureKind:
    if status == 402 or (status in (400, 403, 429) and any(w in words for w in _NO_MONEY)):
        return "fatal"
    if status == 429:
        return "rate"
    if status in (408, 409) or status >= 500:
        return "server"
    if status == 413 or any(word in words for word in _TOO_LONG):
        return "too_long"
    if status in (400, 422):
        return "refused" if any(word in words for word in _REFUSED) else "unsupported"
    return "fatal"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `Retry-After` (a number or a date); None if absent."""
    if "retry-after-ms" in headers:
        return _number(headers["retry-after-ms"], 0.001)
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value, 1.0)
    return seconds if seconds is not None else _seconds_until(value)


def _number(value: str, unit: float) -> float | None:
    try:
        return max(0.0, float(value) * unit)
    except ValueError:
        return None


def _seconds_until(value: str) -> float | None:
    """From an HTTP date or an RFC 3339 time."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            when = parse(value)
        except ValueError:
            continue
        return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    return None


def rate_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """The request limit as OpenAI-style or Anthropic headers tell it, if they do."""
    for pattern in ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}"):
        limit, remaining, reset = (
            headers.get(pattern.format(part)) for part in ("limit", "remaining", "reset")
        )
        if limit and remaining and reset and limit.isdigit() and remaining.isdigit():
            seconds = _duration(reset)
            if seconds is not None:
                return RateLimits(int(limit), int(remaining), seconds)
    return None


def _duration(value: str) -> float | None:
    """ "6m0s", "20ms", "1.5" or a point in time -> seconds."""
    parts = _DURATION.findall(value)
    if parts and "".join(number + unit for number, unit in parts) == value:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    seconds = _number(value, 1.0)
    return seconds if seconds is not None else _seconds_until(value)
