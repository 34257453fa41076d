"""docs/reference/errors.md says what the code does."""

import re

from harness import ROOT, read_documented_codes


def cases_of(path, function):
    """name → value, of a switch whose cases return a value: `case X::a: case X::b: return value;`"""
    text = (ROOT / path).read_text()
    body = text[text.index(function) :]
    body = body[: body.index("\n}\n")]
    found, names = {}, []
    for name, value in re.findall(r"case ErrorCode::(\w+):|return ([\w:]+);", body):
        if name:
            names.append(name)
        else:
            found.update((each, value.removeprefix("ErrorClass::")) for each in names)
            names = []
    return found


def test_every_code_is_documented_with_its_class_and_its_status():
    header = (ROOT / "src/base/error.h").read_text()
    enum = header[header.index("enum class ErrorCode") :]
    codes = re.findall(r"^  (\w+) = \d+", enum[: enum.index("};")], re.MULTILINE)
    classes = cases_of("src/base/error.h", "class_of(ErrorCode code)")
    statuses = cases_of("src/protocols/http/problem.cpp", "int status_of(ErrorCode code)")
    documented = read_documented_codes()

    assert sorted(documented) == sorted(codes)
    for code in codes:
        error_class, status = documented[code]
        assert error_class == classes[code], code
        # What never leaves the process over HTTP has no status; the code's table must give it one, and that is 500.
        assert status == int(statuses[code]) or (
            status is None and statuses[code] == "500" and code != "internal"
        ), code
