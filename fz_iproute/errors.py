"""The failures that a user or a network can cause. Each message says what happened and what to do."""


class FzError(Exception):
    """Base of all; `str()` is the message for the user, one line a problem."""


class UsageError(FzError):
    """The command line or the configuration is wrong."""


class ReadFailed(FzError):
    """`ip` gave no answer that can be trusted. Nothing follows from that, least of all that a table is empty."""


class ApplyFailed(FzError):
    """What could be applied was applied; the message lists the rest."""


class NotPermitted(FzError):
    """The kernel requires CAP_NET_ADMIN."""


class Locked(FzError):
    """Another fz-iproute works on the same tables."""


class IpUnusable(FzError):
    """`ip` is missing or too old."""


def words_for(error: Exception) -> str:
    """The message for a failure. An OSError that nobody has turned into an FzError is about memory or descriptors."""
    return f"the machine refuses: {error}" if isinstance(error, OSError) else str(error)
