"""The failures that a user or a network can cause. Each message says what happened and what to do."""


class FzError(Exception):
    """The base class of all failures. `str()` is the message for the user, with a line for each problem."""


class UsageError(FzError):
    """The command line or the configuration is wrong."""


class ReadFailed(FzError):
    """`ip` gave no usable answer. Then nothing is known; above all, the table must not be taken for empty."""


class ApplyFailed(FzError):
    """Some commands failed, and the message lists them. The others were carried out."""


class NotPermitted(FzError):
    """The kernel requires CAP_NET_ADMIN."""


class Locked(FzError):
    """Another fz-iproute works on the same tables."""


class IpUnusable(FzError):
    """`ip` is missing or too old."""


def words_for(error: Exception) -> str:
    """The message for a failure.

    An OSError about a file or a program was turned into an FzError before. Any other one, like a MemoryError or a
    RuntimeError about threads, means that the machine has no more memory, file descriptors or processes.
    """
    if isinstance(error, FzError):
        return str(error)
    words = error.strerror if isinstance(error, OSError) else str(error)
    return f"the machine refuses: {words or 'it has no more memory'}"
