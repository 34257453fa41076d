#!/usr/bin/env python3
"""The example is killed again and again while it works, and its sum is right all the same.

usage: pipeline_test.py PROGRAM
"""
import pathlib
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter

FILES = 60
KILLS = 4


def main():
    program = sys.argv[1]
    chance = random.Random(7)
    with tempfile.TemporaryDirectory(prefix="workmill-pipeline-") as folder:
        root = pathlib.Path(folder)
        texts = root / "texts"
        texts.mkdir()
        wanted = Counter()
        for number in range(FILES):
            words = [chance.choice(["oak", "Elm", "ash", "yew"]) for _ in range(200)]
            wanted.update(word.lower() for word in words)
            (texts / f"{number}.txt").write_text(", ".join(words))

        # What a kill leaves under way waits for the end of its lease, and is run again then: that is what is tested,
        # and with the 60 seconds that the program takes by itself the test would do little but wait.
        command = [program, str(root / "jobs"), str(texts), "2"]
        counted = 0
        for _ in range(KILLS):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for line in process.stderr:  # Some files are done: now. Or all are.
                counted += line.startswith("counted ")
                if line.startswith("counted ") and counted % 10 == 0:
                    break
            process.kill()
            process.wait()
            process.stderr.close()
        last = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
        assert last.returncode == 0, last.stderr
        got = Counter({word: int(number) for word, number in re.findall(r"^(\w+) (\d+)$", last.stdout, re.MULTILINE)})
        assert got == wanted, f"{got} instead of {wanted}"
    print("passed")


if __name__ == "__main__":
    main()
