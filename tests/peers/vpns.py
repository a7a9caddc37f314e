"""Real VPNs: for each a server behind the laptop's uplink, and a client that can be set up in many ways."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

from tests.clients.programs import Program, need
from tests.netns.namespace import run, wait_until
from tests.packets.terrain import HOSTS
from tests.peers.terrain import SERVER, Laptop, with_own_run
from tests.user_ids import need_user_ids


class Vpn(ABC):
    """A server, and a client on the laptop that takes options in its own words.

    If `rules` is a shell script, the client runs it with `add` when the tunnel is up, and with `del` when it goes down.
    """

    device: ClassVar[str]  # the client's
    packages: ClassVar[dict[str, str]]  # by the program that is needed

    def __init__(self, laptop: Laptop, folder: Path) -> None:
        for program, package in self.packages.items():
            need(program, package)
        self.laptop, self.folder = laptop, folder
        self.server_run, self.client_run = folder / "server", folder / "client"
        for path in (self.server_run, self.client_run):
            path.mkdir()

    @abstractmethod
    def serve(self) -> AbstractContextManager[None]:
        """Run the server."""

    @abstractmethod
    def connect(self, options: Sequence[str], rules: str) -> AbstractContextManager[None]:
        """Run the client."""

    @contextmanager
    def up(self, options: Sequence[str], rules: str = "", families: int = 2) -> Iterator[None]:
        """Run the client, and wait until it carries packets to the internet, of IPv4 only if `families` is 1."""
        with self.connect(options, rules):
            for host in HOSTS[:families]:
                wait_until(lambda: self.laptop.way(host) == self.device, f"{self.device} carries {host}")  # noqa: B023
            yield

    def on_server(self, *argv: str) -> Program:
        command = with_own_run(self.server_run, *argv)
        return Program(self.laptop.server, command, self.folder / "server.log")

    def on_laptop(self, *argv: str) -> Program:
        command = with_own_run(self.client_run, *argv)
        return Program(self.laptop, command, self.folder / "client.log")

    def script(self, name: str, text: str) -> str:
        """The path of a new shell script."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nset -eu\n{text}")
        path.chmod(0o755)
        return str(path)

    def certificate(self) -> tuple[str, str]:
        """The paths of a certificate and its key, for both sides: each trusts it, because it is its own authority."""
        cert, key = (str(self.folder / name) for name in ("cert.pem", "key.pem"))
        run(
            need("openssl", "openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=peer",
            "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-addext", f"subjectAltName=IP:{SERVER}",
            "-keyout", key, "-out", cert,
        )  # fmt: skip
        return cert, key


class WireGuard(Vpn):
    """wg-quick, with WireGuard in userspace. The options are lines of its configuration."""

    device = "wg0"
    packages: ClassVar = {"wg-quick": "wireguard-tools", "wireguard-go": "wireguard-go", "nft": "nftables"}

    def __init__(self, laptop: Laptop, folder: Path) -> None:
        super().__init__(laptop, folder)
        self._private, theirs = (run("wg", "genkey").stdout.strip() for _ in range(2))
        self._public, self._theirs_public = (
            run("wg", "pubkey", stdin=key).stdout.strip() for key in (self._private, theirs)
        )
        self._config = self._write(
            "wgs0", theirs, ["ListenPort = 51820"], self._public, ["AllowedIPs = 10.9.0.2/32, fd00:9::2/128"]
        )

    def _write(self, device: str, private: str, interface: Sequence[str], public: str, peer: Sequence[str]) -> str:
        path = self.folder / f"{device}.conf"
        lines = ["[Interface]", f"PrivateKey = {private}", *interface, "[Peer]", f"PublicKey = {public}", *peer, ""]
        path.touch(0o600)
        path.write_text("\n".join(lines))
        return str(path)

    @contextmanager
    def serve(self) -> Iterator[None]:
        server = self.laptop.server
        with self.on_server("wireguard-go", "-f", "wgs0"):
            wait_until((self.server_run / "wireguard" / "wgs0.sock").exists, "the server listens")
            server.exec(*with_own_run(self.server_run, "wg", "setconf", "wgs0", self._config))
            server.ip("link", "set", "dev", "wgs0", "up")
            for address in ("10.9.0.1/24", "fd00:9::1/64"):
                server.address("wgs0", address)
            yield

    @contextmanager
    def connect(self, options: Sequence[str], rules: str) -> Iterator[None]:
        lines = ["Address = 10.9.0.2/32, fd00:9::2/128"]
        if rules:
            script = self.script("rules", rules)
            lines += [f"PostUp = {script} add", f"PostDown = {script} del"]
        lines += [line for line in options if not line.startswith("AllowedIPs")]
        peer = [line for line in options if line.startswith("AllowedIPs")] or ["AllowedIPs = 0.0.0.0/0, ::/0"]
        peer += [f"Endpoint = {SERVER}:51820"]
        config = self._write(self.device, self._private, lines, self._theirs_public, peer)

        def quick(verb: str) -> None:
            self.laptop.exec(*with_own_run(self.client_run, "wg-quick", verb, config))

        quick("up")
        try:
            yield
        finally:
            quick("down")


class OpenVpn(Vpn):
    """OpenVPN with certificates. The options are those of its command line."""

    device = "tun0"
    packages: ClassVar = {"openvpn": "openvpn"}

    def __init__(self, laptop: Laptop, folder: Path) -> None:
        super().__init__(laptop, folder)
        cert, key = self.certificate()
        self._tls = ["--ca", cert, "--cert", cert, "--key", key]

    @contextmanager
    def serve(self) -> Iterator[None]:
        argv = ["openvpn", "--dev", "ovs0", "--dev-type", "tun", "--local", SERVER, "--topology", "subnet"]
        argv += ["--server", "10.10.0.0", "255.255.255.0", "--server-ipv6", "fd00:10::/64", "--dh", "none"]
        with self.on_server(*argv, "--duplicate-cn", *self._tls) as server:
            wait_until(lambda: "Initialization Sequence Completed" in server.words, "the server listens")
            yield

    @contextmanager
    def connect(self, options: Sequence[str], rules: str) -> Iterator[None]:
        argv = ["openvpn", "--client", "--dev", self.device, "--remote", SERVER, "--nobind", *self._tls, *options]
        if rules:
            script = self.script("rules", rules)
            argv += ["--script-security", "2", "--up", f"{script} add", "--down", f"{script} del"]
        with self.on_laptop(*argv) as client:
            wait_until(lambda: "Initialization Sequence Completed" in client.words, "the client is connected")
            yield


class OpenConnect(Vpn):
    """OpenConnect with vpnc-script, and ocserv. The options are those of its command line."""

    device = "tun0"
    packages: ClassVar = {"openconnect": "openconnect", "ocserv": "ocserv"}

    def __init__(self, laptop: Laptop, folder: Path) -> None:
        need_user_ids()  # ocserv sets its groups
        super().__init__(laptop, folder)
        self._cert, self._key = self.certificate()

    @contextmanager
    def serve(self) -> Iterator[None]:
        settings = {
            "auth": "certificate", "cert-user-oid": "2.5.4.3", "ca-cert": self._cert,
            "server-cert": self._cert, "server-key": self._key,
            "listen-host": SERVER, "tcp-port": "443", "socket-file": "/run/ocserv.sock",
            "run-as-user": "root", "run-as-group": "root", "isolate-workers": "false", "use-occtl": "false",
            "device": "ocs", "ipv4-network": "10.11.0.0/24", "ipv6-network": "fd00:11::/64", "route": "default",
        }  # fmt: skip
        config = self.folder / "ocserv.conf"
        config.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        with self.on_server("ocserv", "--foreground", "--debug=3", "--config", str(config)) as server:
            wait_until(lambda: "initialized ocserv" in server.words, "the server listens")
            yield

    @contextmanager
    def connect(self, options: Sequence[str], rules: str) -> Iterator[None]:
        script = "/usr/share/vpnc-scripts/vpnc-script"
        if rules:
            own = self.script("rules", rules)
            # With zero split routes, vpnc-script leaves main's default route alone.
            lines = ["export CISCO_SPLIT_INC=0 CISCO_IPV6_SPLIT_INC=0", f'[ "$reason" != disconnect ] || {own} del']
            lines += [script, f'[ "$reason" != connect ] || {own} add', ""]
            script = self.script("script", "\n".join(lines))
        argv = ["openconnect", "--non-inter", "--no-dtls", "--interface", self.device, "--script", script]
        argv += ["--cafile", self._cert, "--certificate", self._cert, "--sslkey", self._key]
        with self.on_laptop(*argv, *options, f"https://{SERVER}/") as client:
            wait_until(lambda: "Configured as" in client.words, "the client is connected")
            yield
