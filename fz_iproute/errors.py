"""Every failure that a user or a network can cause, each with the one line that says what to do."""


class FzError(Exception):
    """Base of them all; `str()` is the message for the user, one problem a line."""


class UsageError(FzError):
    """The command line or the configuration is wrong."""


class ReadFailed(FzError):
    """`ip` could not be read. Nothing may be concluded from it, least of all that a table is empty."""


class ApplyFailed(FzError):
    """What could be applied was applied; the message lists the rest."""


class NotPermitted(FzError):
    """The kernel wants CAP_NET_ADMIN."""


class Locked(FzError):
    """Another fz-iproute works on the same tables."""


class IpUnusable(FzError):
    """`ip` is missing or too old."""
