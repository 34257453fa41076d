"""What a server tells a worker, looked at before any of it is taken: what raises in the middle would end the worker, or
leave half of it done. A protocol_error where it makes no sense."""

from __future__ import annotations

from typing import Any, List, Mapping

from ._errors import protocol_error

_TEXTS = ("id", "type", "queue", "lease")
_NUMBERS = ("attempt", "max_attempts")


def jobs_of(raw: Any) -> List[Mapping[str, Any]]:
    """Of an answer to a lease, or of a message."""
    jobs = raw.get("jobs") if isinstance(raw, dict) else None
    if not (isinstance(jobs, list) and all(map(_is_job, jobs))):
        raise protocol_error("what came as jobs is none")
    return jobs


def answers_of(raw: Any, count: int) -> List[Mapping[str, Any]]:
    """To so many reports."""
    answers = raw.get("reports") if isinstance(raw, dict) else None
    if not (isinstance(answers, list) and len(answers) == count and all(map(_is_answer, answers))):
        raise protocol_error(f"what came as the answers to {count} reports is none")
    return answers


def ids_of(raw: Any) -> List[str]:
    if not (isinstance(raw, list) and all(isinstance(one, str) for one in raw)):
        raise protocol_error("what came as ids is none")
    return raw


def is_problem(raw: Any) -> bool:
    return isinstance(raw, dict) and isinstance(raw.get("code"), str) and isinstance(raw.get("class"), str)


def _is_job(raw: Any) -> bool:
    return (
        isinstance(raw, dict)
        and all(isinstance(raw.get(name), str) for name in _TEXTS)
        and all(isinstance(raw.get(name), int) for name in _NUMBERS)
        and isinstance(raw.get("payload_base64", ""), str)
    )


def _is_answer(raw: Any) -> bool:
    return isinstance(raw, dict) and (raw.get("ok") is True or (raw.get("ok") is False and is_problem(raw.get("error"))))
