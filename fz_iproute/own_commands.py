"""Spells the commands of fz-iproute that messages advise."""

import shlex

# The verbs that change something and therefore need root.
WRITING = ("sync", "down", "watch", "install", "uninstall")


def own_command(*words: str, config: str = "", netns: str | None = None) -> str:
    """A command of fz-iproute, with the options for this configuration file and network namespace."""
    options = ["-c", config] if config else []
    options += ["--netns", netns] if netns else []
    return shlex.join(["fz-iproute", *options, *words])
