"""Compares what was seen with what a scenario expects, and fills in what earlier steps have saved."""

from __future__ import annotations

from typing import Any, Optional

MISSING = object()


def difference(wanted: Any, seen: Any, where: str = "") -> Optional[str]:
    """What is not as wanted, in words; None where all is. See README.md for the vocabulary."""
    here = where or "the answer"
    if isinstance(wanted, dict) and len(wanted) == 1 and next(iter(wanted)).startswith("$"):
        return _special(next(iter(wanted)), next(iter(wanted.values())), seen, here)
    if seen is MISSING:
        return f"{here} is not there, wanted {wanted!r}"
    if isinstance(wanted, dict):
        if not isinstance(seen, dict):
            return f"{here} is {_short(seen)}, wanted an object"
        for name, value in wanted.items():
            found = difference(value, seen.get(name, MISSING), f"{where}.{name}" if where else name)
            if found:
                return found
        return None
    if isinstance(wanted, list):
        if not isinstance(seen, list) or len(seen) != len(wanted):
            return f"{here} is {_short(seen)}, wanted {_short(wanted)}"
        for number, value in enumerate(wanted):
            found = difference(value, seen[number], f"{where}[{number}]")
            if found:
                return found
        return None
    # True is 1 in Python, and not in JSON.
    if isinstance(wanted, bool) != isinstance(seen, bool) or wanted != seen:
        return f"{here} is {_short(seen)}, wanted {_short(wanted)}"
    return None


def _special(name: str, argument: Any, seen: Any, here: str) -> Optional[str]:
    if name == "$absent":
        good = (seen is MISSING) == argument
    elif name == "$one_of":
        good = any(difference(one, seen) is None for one in argument)
    elif seen is MISSING:
        good = False
    elif name == "$any":
        good = True
    elif name == "$at_least":
        good = seen is not None and seen >= argument
    elif name == "$all":
        good = isinstance(seen, list) and all(difference(argument, one) is None for one in seen)
    elif name == "$length":
        good = isinstance(seen, (list, str, dict)) and len(seen) == argument
    elif name == "$contains":
        if isinstance(seen, list):
            good = any(difference(argument, one) is None for one in seen)
        else:
            good = isinstance(seen, str) and argument in seen
    else:
        raise ValueError(f"there is no expectation {name}")
    return None if good else f"{here} is {_short(seen)}, wanted {name} {_short(argument)}"


def _short(value: Any) -> str:
    text = "not there" if value is MISSING else repr(value)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"


def fill_in(value: Any, names: dict) -> Any:
    """`value` with each text "$name.member.0" replaced by what it stands for. Expectations keep their "$at_least"s."""
    if isinstance(value, dict):
        if len(value) == 1 and "$repeat" in value:
            piece, times = value["$repeat"]
            return piece * times
        return {key: fill_in(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item, names) for item in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    if value.startswith("$$"):
        return value[1:]
    if value.startswith("$"):
        return _look_up(value[1:].split("."), names)
    if "$i" in value and "i" in names:
        return value.replace("$i", str(names["i"]))
    return value


def _look_up(path: list, names: dict) -> Any:
    found: Any = names
    for part in path:
        found = found[int(part)] if isinstance(found, list) else found[part]
    return found
