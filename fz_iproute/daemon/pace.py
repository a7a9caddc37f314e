"""When to run the next pass: at once after a quiet time, ever more rarely while events keep coming."""

# A time without events is quiet if it lasts for so many times `settle` (50 ms by default). Rarer events get a pass
# each, which costs less than a tenth of a core.
_QUIET = 25


class Pace:
    """Times are seconds on one clock, which the caller reads. No event waits longer than `max_wait`."""

    def __init__(self, settle: float, max_wait: float) -> None:
        self._settle = settle
        self._max_wait = max_wait
        self._pause = 0.0
        self._ended = float("-inf")
        self._heard = float("-inf")
        self.due: float | None = None

    def wake(self, now: float, delay: float = 0.0) -> None:
        """An event has come. It can wait for so many seconds, because another one is about to follow."""
        if now - max(self._heard, self._ended) > min(_QUIET * self._settle, self._max_wait):
            self._pause = 0.0
        self._heard = now
        due = max(now + delay, self._ended + self._pause)
        self.due = due if self.due is None else min(self.due, due)

    def ran(self, now: float, *, echo: bool = False) -> None:
        """A pass has ended, and has seen all changes until now.

        If only the `echo` of our own commands had woken it, that is no sign of a storm.
        """
        self.due = None
        if echo:
            return
        self._ended = now
        self._pause = min(self._max_wait, max(self._settle, 2 * self._pause))
