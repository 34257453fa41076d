"""What the in-memory server refuses with."""

from __future__ import annotations

from typing import Any, Dict, Optional

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
