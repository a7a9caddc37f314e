"""Real VPNs: for each a server behind the laptop's uplink, and clients that can be set up in many ways."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

from tests.clients.programs import Program, need
from tests.netns.namespace import run, wait_until
from tests.peers.terrain import HOSTS, SERVER, Laptop, with_own_run


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\nset -eu\n{text}")
    path.chmod(0o755)
    return str(path)


def _certificate(folder: Path) -> dict[str, str]:
    """The paths of a key and of a certificate that both sides use, and trust because it signs itself."""
    paths = {"key": str(folder / "key.pem"), "cert": str(folder / "cert.pem")}
    run(
        need("openssl", "openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=peer",
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-addext", f"subjectAltName=IP:{SERVER}",
        "-keyout", paths["key"], "-out", paths["cert"],
    )  # fmt: skip
    return paths


class Vpn(ABC):
    """A server, and a client that `up` runs.

    The client takes options in its own words. If `rules` is a shell script, the client runs it with `add` when the
    tunnel is up, and with `del` when it goes down.
    """

    device: ClassVar[str]  # the client's
    programs: ClassVar[Mapping[str, str]]  # what it needs, with the packages

    def __init__(self, laptop: Laptop, folder: Path) -> None:
        for program, package in self.programs.items():
            need(program, package)
        self.laptop, self.folder = laptop, folder
        for side in ("server", "client"):
            (folder / side).mkdir()
        self.prepare()

    def prepare(self) -> None:
        """Make what both sides need."""

    @abstractmethod
    def serve(self) -> AbstractContextManager[None]:
        """Run the server."""

    @abstractmethod
    def connect(self, options: Sequence[str], rules: str) -> AbstractContextManager[None]:
        """Run the client."""

    @contextmanager
    def up(self, options: Sequence[str], rules: str = "", families: int = 2) -> Iterator[None]:
        """Run the client, and wait until it carries the packets to the internet, of IPv4 only if `families` is 1."""
        with self.connect(options, rules):
            for host in HOSTS[:families]:
                wait_until(lambda: self.laptop.way(host) == self.device, f"{self.device} carries {host}")  # noqa: B023
            yield

    def on_server(self, *argv: str) -> Program:
        command = with_own_run(self.folder / "server", *argv)
        return Program(self.laptop.server, command, self.folder / "server.log")

    def on_laptop(self, *argv: str) -> Program:
        command = with_own_run(self.folder / "client", *argv)
        return Program(self.laptop, command, self.folder / "client.log")


class WireGuard(Vpn):
    """wg-quick, with WireGuard in userspace. Its options are lines of [Interface]."""

    device = "wg0"
    programs = {"wg-quick": "wireguard-tools", "wireguard-go": "wireguard-go", "nft": "nftables"}

    def prepare(self) -> None:
        self._private = {side: run("wg", "genkey").stdout.strip() for side in ("server", "client")}
        self._public = {side: run("wg", "pubkey", stdin=key).stdout.strip() for side, key in self._private.items()}

    def _config(self, side: str, *lines: str) -> Path:
        path = self.folder / side / f"{self.device}.conf"
        path.touch(0o600)
        path.write_text("\n".join(["[Interface]", f"PrivateKey = {self._private[side]}", *lines, ""]))
        return path

    @contextmanager
    def serve(self) -> Iterator[None]:
        server, folder = self.laptop.server, self.folder / "server"
        peer = ["[Peer]", f"PublicKey = {self._public['client']}", "AllowedIPs = 10.9.0.2/32, fd00:9::2/128"]
        config = self._config("server", "ListenPort = 51820", *peer)
        with self.on_server("wireguard-go", "-f", "wgs0"):
            wait_until((folder / "wireguard" / "wgs0.sock").exists, "the server listens")
            server.exec(*with_own_run(folder, "wg", "setconf", "wgs0", str(config)))
            server.ip("link", "set", "dev", "wgs0", "up")
            for address in ("10.9.0.1/24", "fd00:9::1/64"):
                server.address("wgs0", address)
            yield

    @contextmanager
    def connect(self, options: Sequence[str], rules: str) -> Iterator[None]:
        # A line of [Peer] can be among them.
        allowed = [line for line in options if line.startswith("AllowedIPs")] or ["AllowedIPs = 0.0.0.0/0, ::/0"]
        lines = ["Address = 10.9.0.2/32, fd00:9::2/128", *(line for line in options if line not in allowed)]
        if rules:
            script = _script(self.folder / "rules", rules)
            lines += [f"PostUp = {script} add", f"PostDown = {script} del"]
        peer = ["[Peer]", f"PublicKey = {self._public['server']}", f"Endpoint = {SERVER}:51820", *allowed]
        config = self._config("client", *lines, *peer)

        def quick(verb: str) -> None:
            self.laptop.exec(*with_own_run(self.folder / "client", "wg-quick", verb, str(config)))

        quick("up")
        try:
            yield
        finally:
            quick("down")


class OpenVpn(Vpn):
    """OpenVPN with certificates. Its options are those of the command line."""

    device = "tun0"
    programs = {"openvpn": "openvpn"}

    def prepare(self) -> None:
        paths = _certificate(self.folder)
        self._tls = ["--ca", paths["cert"], "--cert", paths["cert"], "--key", paths["key"]]

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
            script = _script(self.folder / "rules", rules)
            argv += ["--script-security", "2", "--up", f"{script} add", "--down", f"{script} del"]
        with self.on_laptop(*argv) as client:
            wait_until(lambda: "Initialization Sequence Completed" in client.words, "the client is connected")
            yield


class OpenConnect(Vpn):
    """OpenConnect with ocserv and vpnc-script. Its options are those of the command line."""

    device = "tun0"
    programs = {"openconnect": "openconnect", "ocserv": "ocserv"}
    _script = "/usr/share/vpnc-scripts/vpnc-script"

    def prepare(self) -> None:
        self._paths = _certificate(self.folder)

    @contextmanager
    def serve(self) -> Iterator[None]:
        key, cert = self._paths["key"], self._paths["cert"]
        config = self.folder / "ocserv.conf"
        config.write_text(
            f"auth = certificate\nca-cert = {cert}\nserver-cert = {cert}\nserver-key = {key}\ncert-user-oid = 2.5.4.3\n"
            f"listen-host = {SERVER}\ntcp-port = 443\nrun-as-user = root\nrun-as-group = root\nisolate-workers = false\n"
            "socket-file = /run/ocserv.sock\npid-file = /run/ocserv.pid\nuse-occtl = false\ndevice = ocs\n"
            "ipv4-network = 10.11.0.0/24\nipv6-network = fd00:11::/64\nroute = default\n"
        )
        with self.on_server("ocserv", "--foreground", "--debug=3", "--config", str(config)) as server:
            wait_until(lambda: "initialized ocserv" in server.words, "the server listens")
            yield

    @contextmanager
    def connect(self, options: Sequence[str], rules: str) -> Iterator[None]:
        key, cert = self._paths["key"], self._paths["cert"]
        script = self._script
        if rules:
            own = _script(self.folder / "rules", rules)
            # Zero split routes: vpnc-script then adds no default route to main.
            text = f"export CISCO_SPLIT_INC=0 CISCO_IPV6_SPLIT_INC=0\n"
            text += f'[ "$reason" != disconnect ] || {own} del\n{script}\n[ "$reason" != connect ] || {own} add\n'
            script = _script(self.folder / "script", text)
        argv = ["openconnect", "--non-inter", "--no-dtls", "--interface", self.device, "--script", script]
        argv += ["--cafile", cert, "--certificate", cert, "--sslkey", key, *options, f"https://{SERVER}/"]
        with self.on_laptop(*argv) as client:
            wait_until(lambda: "Configured as" in client.words, "the client is connected")
            yield
