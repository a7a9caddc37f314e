"""Turns the JSON of `ip` into links and nexthops of the model."""

from collections.abc import Iterable, Mapping

from fz_iproute.mirror.ip_json import Document
from fz_iproute.mirror.model import Link, Nexthop
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import OF_GUESTS, TUNS, is_word


def links(documents: Iterable[Document]) -> dict[str, Link]:
    """The links that `ip -json link show` prints, by name."""
    # `ip` prints `{}` for a link that a filter excludes.
    found = {document["ifname"]: document for document in documents if document}
    below = {document.get("link"): name for name, document in found.items()}
    return {
        name: Link(
            name=name,
            ifindex=document["ifindex"],
            up="UP" in document["flags"],
            loopback="LOOPBACK" in document["flags"],
            word=device_word(name, document["ifindex"], found),
            multicast="MULTICAST" in document["flags"],
            may_be_tunnel=_may_be_tunnel(name, document),
            group=group_number(document.get("group", "")),
            in_vrf=_is_vrf(document) or _is_vrf(_master(document, found)),
            is_port="master" in document and not _is_vrf(_master(document, found)),
            needs_address=_is_card(name, document) and below.get(name) in (None, document.get("link")),
            no_carrier={"UP", "NO-CARRIER"} <= set(document["flags"]),
            outage=_outage(document) if _is_card(name, document) else "",
        )
        for name, document in found.items()
    }


def _may_be_tunnel(name: str, link: Document) -> bool:
    is_lan = link.get("link_type", "ether") in ("ether", "infiniband", "loopback")
    return "POINTOPOINT" in link["flags"] or not is_lan or name.startswith(TUNS)


def _is_card(name: str, link: Document) -> bool:
    # While no guest runs, the bridge to it has no carrier, and that is no fault. The key `link` is null for the
    # fallback devices of tunnels, such as gretap0. Dummies and the like have NOARP.
    is_card = not {"LOOPBACK", "NOARP"} & set(link["flags"]) and link.get("link", name) is not None
    return is_card and not ("master" in link or _may_be_tunnel(name, link) or name.startswith(OF_GUESTS))


def _outage(link: Document) -> str:
    return "is down" if "UP" not in link["flags"] else "has no carrier" if "NO-CARRIER" in link["flags"] else ""


def _master(link: Document, others: Mapping[str, Document]) -> Document:
    return others.get(link.get("master", ""), {})


def _is_vrf(link: Document) -> bool:
    # No other kind of link has both flags: a bond has MASTER, but not NOARP.
    return {"MASTER", "NOARP"} <= set(link.get("flags", ()))


def group_number(name: str) -> int | None:
    """The number of a group of interfaces. None for a name, which only the machine's file `group` translates."""
    return int(name) if name.isdecimal() else 0 if name == "default" else None


def numbered(documents: Iterable[Document], family: Family) -> frozenset[str]:
    """From `ip -json address show`: the links that have an address of a wider scope than link."""
    return frozenset(
        document["ifname"]
        for document in documents
        for address in document.get("addr_info", ())
        if address.get("family") == family and address["scope"] not in ("link", "host")
    )


def device_word(name: str, index: int, others: Mapping[str, object]) -> str | None:
    """How a command line names this link, see Link.word. `others` are the names of all links."""
    if is_word(name):
        return name
    # `ip` reads `if7` as the link with index 7, unless another link has the name `if7`.
    return None if f"if{index}" in others else f"if{index}"


def nexthops(documents: Iterable[Document]) -> dict[int, Nexthop]:
    """The nexthop objects that `ip -json nexthop show` prints, by id. Groups are resolved to their members."""
    objects = {document["id"]: document for document in documents}
    found: dict[int, Nexthop] = {}
    for number, document in objects.items():
        members = [objects[member["id"]] for member in document["group"]] if "group" in document else [document]
        found[number] = Nexthop(
            devices=tuple(member["dev"] for member in members if "dev" in member),
            gatewayed=any(has_gateway(member) for member in members),
        )
    return found


def has_gateway(hop: Document) -> bool:
    """True if this nexthop is a router."""
    return "gateway" in hop or "via" in hop
