"""The real server, killed with SIGKILL under load, started again on the same folder, and audited (ledger.py).

Kills fall at random moments, and at chosen ones: when a segment is made or turned over, when survivors are copied, and
in the middle of a recovery. What each one hit is read from what it left behind, counted and printed.

    ./dev kill 1000        a thousand rounds; or: pytest tests/process/test_kill.py -k rounds -s --rounds 1000
"""

import pytest
from kill import Killer, seed


def killer(start, arguments):
    return Killer(start(*arguments, "--log-format", "json", run=False), seed())


# Small segments, so that old ones are copied ahead and dropped all the time. And the three ways to run a shard.
WAYS = {
    "whole turns": {"flush_by": "turn"},
    "a thread for flushes": {"flush_by": "writer"},
    "a thread for the shard": {"io_threads": "2"},
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(start, config, way):
    killer(start, config(segment_size="64KiB", **WAYS[way])).run(4, producers=2, workers=2, longest_s=0.3)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_nothing_acknowledged_is_lost_in_many_rounds(start, config, pytestconfig):
    rounds = pytestconfig.getoption("--rounds") or 50
    killer(start, config(segment_size="64KiB")).run(rounds, producers=1, workers=2, cleaners=4, longest_s=0.5)
