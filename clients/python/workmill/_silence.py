"""When a server that says nothing is asked, and when it is given up."""

from __future__ import annotations

TURN = 5.0  # Seconds.
# Silent for so many turns, and it is asked. While we hold jobs it pings by itself after 5 s, and else after 50 s (by
# default), so that neither comes to this where all is well.
BUSY_TURNS, IDLE_TURNS = 2, 12
ANSWER_TURNS = 2  # And given up, when it has said nothing for so many more.


class Silence:
    """Counted in turns and not by the clock: after a handler that held up the loop for a minute, what the server said
    meanwhile is read before the next one."""

    def __init__(self) -> None:
        self._turns = 0

    def turn(self, is_heard: bool, is_idle: bool, is_direct: bool) -> str:
        """Once in each: `fine`, `ask` or `gone`. is_heard: something came since the last one. is_idle: nobody waits for
        anything but jobs. is_direct: nobody is between us and the server, so that the kernel finds out by itself."""
        if is_heard or (is_idle and is_direct):
            self._turns = 0
            return "fine"
        self._turns += 1
        patience = IDLE_TURNS if is_idle else BUSY_TURNS
        if self._turns < patience:
            return "fine"
        return "ask" if self._turns < patience + ANSWER_TURNS else "gone"
