"""Durations and times, as Python and as the server have them."""

from __future__ import annotations

import datetime
import re
from typing import Union

# "1h30m" as the server reads it, a number of seconds, or a timedelta.
DurationLike = Union[str, int, float, datetime.timedelta]

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")


def duration_text(value: DurationLike) -> str:
    """As the server reads it. Text passes as it is: the server is the judge of it. Milliseconds are the finest."""
    if isinstance(value, str):
        return value
    seconds = value.total_seconds() if isinstance(value, datetime.timedelta) else float(value)
    if not 0 <= seconds < 1e12:
        raise ValueError(f"a duration is not negative, and finite: {value!r}")
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    if milliseconds == 0:
        return f"{whole}s"
    return f"{whole}s{milliseconds}ms" if whole else f"{milliseconds}ms"


def duration_seconds(value: DurationLike) -> float:
    """In seconds. ValueError where text is no duration."""
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if not isinstance(value, str):
        return float(value)
    match = _DURATION.fullmatch(value)
    if match is None or not value:
        raise ValueError(f'not a duration such as "250ms", "30s" or "1h30m": {value!r}')
    return sum(int(number) * _UNITS[unit] for number, unit in zip(match.groups(), _UNITS) if number)


def time_text(value: Union[str, datetime.datetime]) -> str:
    """RFC 3339 in UTC. A datetime without a zone is refused: nobody knows which one is meant."""
    if isinstance(value, str):
        return value
    if value.tzinfo is None:
        raise ValueError("a time needs a time zone, such as datetime.now(timezone.utc)")
    utc = value.astimezone(datetime.timezone.utc)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03}Z"


def parse_time(text: str) -> datetime.datetime:
    # fromisoformat() reads a Z only since Python 3.11.
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
