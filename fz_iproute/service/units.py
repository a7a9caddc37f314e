"""The files of an installation: their paths and contents, for each way to run fz-iproute."""

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fz_iproute.errors import UsageError
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.words import KERNEL_TABLES

# The units for each way to run fz-iproute by systemd. The last unit is the one to enable.
UNITS = {"systemd": ("fz-iproute.service",), "timer": ("fz-iproute-sync.service", "fz-iproute-sync.timer")}
# The files of the other ways, with their permissions.
SCRIPTS = {
    "cron": ("/etc/cron.d/fz-iproute", 0o644),
    "nm-dispatcher": ("/etc/NetworkManager/dispatcher.d/90-fz-iproute", 0o755),
}

# Where shells look for completions.
COMPLETIONS = {
    "bash": "share/bash-completion/completions/fz-iproute",
    "zsh": "share/zsh/site-functions/_fz-iproute",
    "fish": "share/fish/vendor_completions.d/fz-iproute.fish",
}

# Patterns for the files that `install` may have written. {} stands for an instance. If fz-iproute comes from a package
# of the distribution, the files SHIPPED belong to that package.
UNITS_OF_MACHINE = "etc/systemd/system/fz-iproute*"
PER_INSTANCE = (
    "etc/cron.d/fz-iproute{}",
    "etc/NetworkManager/dispatcher.d/90-fz-iproute{}",
    "etc/iproute2/rt_tables.d/fz-iproute{}.conf",
)
SHIPPED = (
    "etc/logrotate.d/fz-iproute",
    "{prefix}/lib/systemd/system/fz-iproute*",
    "{prefix}/share/man/man[58]/fz-iproute*",
    *(f"{{prefix}}/{path}" for path in COMPLETIONS.values()),
)

# The folders that the sandbox of the units hides (ProtectHome, PrivateTmp).
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")


class File(NamedTuple):
    """A file to write."""

    path: str
    text: str
    mode: int = 0o644


class Choice(NamedTuple):
    """How the user wants to run fz-iproute. Paths are absolute. "" means that there is none."""

    program: tuple[str, ...]  # the words that start fz-iproute
    way: str = "systemd"  # a key of UNITS or SCRIPTS
    instance: str = ""  # for one of several tunnels; its configuration is /etc/fz-iproute/INSTANCE.toml
    config: str = ""
    netns: str = ""
    prefix: str = "/usr/local"

    @property
    def is_sandboxed(self) -> bool:
        """True if systemd starts it: in a sandbox, as an ordinary user."""
        return self.way in UNITS

    @property
    def enabled(self) -> str:
        """The unit to enable."""
        return with_instance(UNITS[self.way][-1], self.instance)

    @property
    def config_file(self) -> str:
        """The configuration file for -c; "" for the default one."""
        return f"/etc/fz-iproute/{self.instance}.toml" if self.instance else self.config


def check(choice: Choice) -> None:
    """UsageError if systemd or cron would misread a file with this name or with these words."""
    check_instance(choice.instance)
    if choice.instance and (choice.config or choice.netns):
        raise UsageError(f"instances share one unit, and this one reads {choice.config_file}; drop -c and --netns")
    for word in (*choice.program, choice.config, choice.netns):
        if not word.isprintable():
            raise UsageError(f"{word!r}: a unit cannot hold this name; use another one")


def check_instance(name: str) -> None:
    """UsageError if this cannot be part of the name of a unit, or of a file in /etc/cron.d."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", name):
        raise UsageError(f"--instance {name}: use letters, digits, - and _ only")


def hidden_by_sandbox(path: str) -> str:
    """The hidden folder that the path is in, in the sandbox of the units; "" if the sandbox does not hide the path."""
    return next((folder for folder in _HIDDEN if path.startswith(f"{folder}/")), "")


def with_instance(name: str, instance: str) -> str:
    """`fz-iproute@home.service` for `fz-iproute.service` or `fz-iproute@.service`."""
    stem, dot, kind = name.replace("@", "").partition(".")
    return f"{stem}@{instance}{dot}{kind}" if instance else name


def unit_files(choice: Choice, templates: Mapping[str, str]) -> list[File]:
    """The files for the chosen way. `templates` are the texts of the package's folder `units`, by name."""
    if choice.is_sandboxed:
        # A unit with choices for this machine belongs into /etc, where no package overwrites it.
        of_machine = choice.prefix == "/usr/local" or choice.config or choice.netns
        folder = "/etc/systemd/system" if of_machine else f"{choice.prefix}/lib/systemd/system"
        at = "@" if choice.instance else ""  # all instances share one file
        return [
            File(f"{folder}/{name.replace('.', f'{at}.')}", _unit(choice, name, templates))
            for name in UNITS[choice.way]
        ]
    path, mode = SCRIPTS[choice.way]
    text = templates[choice.way].replace("{command}", _shell_line(choice))
    return [File(path + (choice.instance and f"-{choice.instance}"), sealed(text), mode)]


def hiding(files: Iterable[File]) -> list[str]:
    """The files in /etc that would override these units of a package. An earlier `install` may have made them."""
    return [file.path.replace("/usr/lib/", "/etc/") for file in files if file.path.startswith("/usr/lib/")]


def shared_files(
    choice: Choice, templates: Mapping[str, str], pages: Mapping[str, str], completions: Mapping[str, str]
) -> list[File]:
    """The files that do not depend on the chosen way. `pages` of the manual by name, `completions` by shell."""
    share = f"{choice.prefix}/share"
    return [
        File("/etc/logrotate.d/fz-iproute", sealed(templates["logrotate"])),
        *(File(f"{share}/man/man{name[-1]}/{name}", sealed(text, r".\"")) for name, text in pages.items()),
        *(File(f"{choice.prefix}/{COMPLETIONS[shell]}", sealed(text)) for shell, text in completions.items()),
    ]


def table_names(instance: str = "") -> str:
    """The path of the file with the names of the tables."""
    return f"/etc/iproute2/rt_tables.d/fz-iproute{instance and f'-{instance}'}.conf"


def rt_tables(config: Config, instance: str = "") -> File:
    """The file with names for the VPN's tables, made from that of the tunnel: `firezone` for `tun-firezone`."""
    name = re.sub(r"[^\w-]", "_", config.tunnel.interface.removeprefix("tun-"), flags=re.ASCII)
    # A number would look like the id of a table. The other names are those of the kernel's tables, and words of `ip`.
    if not name[:1].isalpha() or name in (*KERNEL_TABLES.values(), "all", "cache"):
        name = f"vpn-{name}" if name else "vpn"
    tables = config.tables
    names = {tables.single: name}
    names.setdefault(tables.user, f"{name}-user")
    names |= {tables.lan: f"{name}-lan", tables.internet: f"{name}-internet"}
    lines = [
        # iproute2 reads ids in this file as signed numbers of 32 bits.
        f"{table}\t{name}\n" if table < 2**31 else f"# {table} cannot have a name: iproute2 names none from 2^31 on\n"
        for table, name in names.items()
    ]
    return File(table_names(instance), sealed("".join(["# Names for the tables of fz-iproute.\n", *lines])))


def sealed(text: str, comment: str = "#") -> str:
    """The text with a checksum in its last line, which shows later whether somebody has edited it."""
    return f"{text}{comment} Written by fz-iproute, which will leave the file alone if you edit it. {_digest(text)}\n"


def is_sealed(text: str) -> bool:
    """True if fz-iproute, of any version, has written the text, and nobody has edited it."""
    content, _, last = text.removesuffix("\n").rpartition("\n")
    return last.endswith(f" {_digest(content + chr(10))}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _unit(choice: Choice, name: str, templates: Mapping[str, str]) -> str:
    words = [_systemd_word(word) for word in choice.program]
    if choice.config or choice.instance:
        words += ["-c", "/etc/fz-iproute/%i.toml" if choice.instance else _systemd_word(choice.config)]
    folder = name.partition(".")[0]
    values = {
        "sandbox": templates["sandbox"],
        "command": " ".join(words),
        "described": " (%i)" if choice.instance else "",
        "folder": f"{folder}@%i" if choice.instance else folder,
        "network": f"NetworkNamespacePath=/run/netns/{choice.netns.replace('%', '%%')}"
        if choice.netns
        else "PrivateNetwork=no",
    }
    text = templates[name]
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return sealed(text)


def _systemd_word(word: str) -> str:
    """The word as systemd expects it in a command line of a unit."""
    for sign, spelling in (("\\", r"\\"), ('"', r"\""), ("%", "%%"), ("$", "$$")):
        word = word.replace(sign, spelling)
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else f'"{word}"'


def _shell_line(choice: Choice) -> str:
    words = [*choice.program, *(["-c", choice.config_file] if choice.config_file else [])]
    line = shlex.join([*words, *(["--netns", choice.netns] if choice.netns else [])])
    return line.replace("%", r"\%") if choice.way == "cron" else line
