"""JSON in and out: by orjson where it is installed, which is several times faster, else by the standard library."""

from __future__ import annotations

import json
from typing import Any, Callable, Union

_DEPTH_MAX = 128  # Of brackets; the server refuses what is nested deeper.


def _dumps_slowly(value: Any) -> bytes:
    # Raises ValueError for NaN and for halves of surrogate pairs (UnicodeEncodeError), which are no JSON in UTF-8.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _loads_slowly(text: Union[bytes, str]) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


dumps: Callable[[Any], bytes]
loads: Callable[[Union[bytes, str]], Any]

try:
    import orjson
except ImportError:
    dumps, loads = _dumps_slowly, _loads_slowly
else:

    def _dumps_fast(value: Any) -> bytes:
        try:
            return orjson.dumps(value)
        except TypeError:
            # What only the other one can do, such as whole numbers of more than 64 bits. Or it says what is wrong.
            return _dumps_slowly(value)

    dumps, loads = _dumps_fast, orjson.loads


def checked(data: bytes) -> bytes:
    """`data`, which dumps() gave. ValueError where it is nested deeper than the server takes."""
    if data.count(b"[") + data.count(b"{") <= _DEPTH_MAX:
        return data
    depth, is_text, is_escaped = 0, False, False
    for byte in data:
        if is_text:
            if is_escaped:
                is_escaped = False
            elif byte == 0x5C:
                is_escaped = True
            elif byte == 0x22:
                is_text = False
        elif byte == 0x22:
            is_text = True
        elif byte in b"[{":
            depth += 1
            if depth > _DEPTH_MAX:
                raise ValueError(f"JSON nested more than {_DEPTH_MAX} deep")
        elif byte in b"]}":
            depth -= 1
    return data
