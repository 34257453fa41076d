"""What the in-memory server refuses with."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

_TRACE_ID = "0" * 31 + "1"


class Problem(Exception):
    def __init__(self, status: int, code: str, detail: str, kind: str = "user", field: Optional[str] = None) -> None:
        super().__init__(detail)
        self.status = status
        self.content: Dict[str, Any] = {
            "type": f"/errors/{code}",
            "title": code.replace("_", " "),
            "status": status,
            "detail": detail,
            "code": code,
            "class": kind,
            "trace_id": _TRACE_ID,
        }
        if field is not None:
            self.content["field"] = field


def limit_of(query: Mapping[str, str]) -> int:
    """Of a page."""
    text = query.get("limit", "50")
    if not text.isdecimal() or not 1 <= int(text) <= 1_000:
        raise Problem(400, "invalid_field", "limit is 1 to 1000", field="limit")
    return int(text)
