"""Decides when an event's pass runs: at once after a quiet time, less and less often while events keep coming."""

# The quiet time, as a multiple of `settle`: 50 ms by default. An event after a quiet time gets a pass at once. Even if
# that happens all the time, the passes need less than a tenth of a processor.
_QUIET = 25


class Pace:
    """The pause between two passes. It starts with `settle` seconds, and doubles up to `max_wait` in a storm of events.

    Times are seconds on one clock, which the caller reads.
    """

    def __init__(self, settle: float, max_wait: float) -> None:
        self._settle = settle
        self._max_wait = max_wait
        self._pause = 0.0
        self._ended = float("-inf")
        self._heard = float("-inf")
        self.due: float | None = None

    def wake(self, now: float) -> None:
        """Note an event."""
        if now - max(self._heard, self._ended) > min(_QUIET * self._settle, self._max_wait):
            self._pause = 0.0
        self._heard = now
        due = max(now, self._ended + self._pause)
        self.due = due if self.due is None else min(self.due, due)

    def ran(self, now: float, *, echo: bool = False) -> None:
        """Note that a pass has ended, which has seen all changes until now.

        `echo`: only events about our own commands had woken it. They do not count as a storm.
        """
        self.due = None
        if echo:
            return
        self._ended = now
        self._pause = min(self._max_wait, max(self._settle, 2 * self._pause))
