"""`watch`: keep the VPN's tables in step until SIGTERM or SIGINT."""

import gc
import os
from argparse import ArgumentParser, Namespace
from functools import partial

from fz_iproute.daemon.loop import Loop, Origin
from fz_iproute.errors import NotPermitted
from fz_iproute.files.config_file import ConfigFile
from fz_iproute.ip.coprocess import CoprocessIp
from fz_iproute.ip.monitor import die_with_parent
from fz_iproute.ip.rights import has_net_admin
from fz_iproute.log import Log
from fz_iproute.verbs.following import Following
from fz_iproute.verbs.source import passes_of, trace


def add(parser: ArgumentParser) -> None:
    """Add nothing: this verb has only the common options."""


def run(arguments: Namespace, log: Log) -> int:
    """Run the daemon until a signal ends it. NotPermitted if it could only fail at the first change."""
    if not has_net_admin():
        raise NotPermitted("watch has to change routes, which only root may do; use sudo, or grant CAP_NET_ADMIN")
    gc.enable()
    ip = CoprocessIp(arguments.netns, trace(arguments, log), partial(die_with_parent, os.getpid()))
    file = ConfigFile(arguments.config)
    following = Following(file.load, ip, log)
    plan_with = partial(passes_of, log, ip, is_daemon=True, is_following=lambda: following.is_on)
    origin = Origin(following.load, file.place, plan_with, lambda: following.is_on)
    Loop(origin, ip, arguments.wait, log).run()
    return 0
