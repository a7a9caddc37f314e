"""Finds out whether the settings name the wrong table for the copies of the configured VPN."""

from collections.abc import Sequence

from fz_iproute.diagnosis.detect import Vpn
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import is_absent, layout_of
from fz_iproute.mirror.model import Snapshot


def misplaced(config: Config, snapshot: Snapshot, vpns: Sequence[Vpn]) -> tuple[Vpn, int] | None:
    """The configured VPN, and the table in which its copies have an effect, if no rule looks up the configured one.

    None if the settings are right, or if copies help nowhere.
    """
    own = [vpn for vpn in vpns if vpn.interface == config.tunnel.interface]
    if not is_absent(config, snapshot) or any(vpn.is_configured for vpn in own):
        return None
    return next(((vpn, layout_of(vpn.config, snapshot.rules).mirror) for vpn in own if vpn.config), None)
