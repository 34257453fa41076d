"""docs/security.md names tests that exist."""

import re

from harness import ROOT

PROCESS = ROOT / "tests/process"
WIRE = ROOT / "tests/wire"


def layer_of(path):
    """As cmake names it: the first folder below src/, or the one below protocols/."""
    first, second, *_ = path.relative_to(ROOT / "src").parts
    return second if first == "protocols" else first


def fuzz_targets():
    return {f"{layer_of(path)}_{path.stem.removesuffix('_fuzz')}" for path in (ROOT / "src").rglob("*_fuzz.cpp")}


def exists(name):
    """Whether there is such a test, by how docs/security.md writes it."""
    if match := re.fullmatch(r"(test_\w+\.py)::(test_\w+)", name):
        path = PROCESS / match[1]
        return path.exists() and f"def {match[2]}(" in path.read_text()
    if match := re.fullmatch(r"fuzz_(\w+)", name):
        return match[1] in fuzz_targets() and any((ROOT / "tests/corpus" / match[1]).iterdir())
    if match := re.fullmatch(r"(\w+/\w+\.txt)(?:: (.+))?", name):
        path = WIRE / match[1]
        return path.exists() and (match[2] is None or f"\n== {match[2]}\n" in path.read_text())
    if match := re.fullmatch(r"(\w+)\.(\w+)", name):
        pattern = re.compile(rf"TEST(_F|_P)?\(\s*{match[1]},\s*{match[2]}\)")
        return any(pattern.search(path.read_text()) for path in (ROOT / "src").rglob("*_test.cpp"))
    return False


def test_every_line_of_the_list_names_tests_and_each_of_them_exists():
    text = (ROOT / "docs/security.md").read_text()
    section = text[text.index("\n## The tests\n") : text.index("\n## Fuzzing\n")]
    rows = re.findall(r"^\| (?!what |---)(.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert len(rows) > 30
    for what, shown_by in rows:
        names = re.findall(r"`([^`]+)`", shown_by)
        assert names, what
        for name in names:
            assert exists(name), f"{what}: there is no test {name}"


def test_every_fuzz_target_is_named_and_has_a_line_of_its_runs():
    text = (ROOT / "docs/security.md").read_text()
    tests, runs = text.split("\n## Fuzzing\n")
    assert set(re.findall(r"`fuzz_(\w+)`", tests)) == fuzz_targets()
    assert set(re.findall(r"^\| `(\w+)` \| [\d,]+ \| \d+ min \|$", runs, re.MULTILINE)) == fuzz_targets()
