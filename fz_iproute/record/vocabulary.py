"""The words that a redacted recording keeps: words of iproute2, of the kernel and of fz-iproute."""

from fz_iproute.mirror.words import PROTOCOLS, TABLE_NUMBERS

# JSON keys whose values are numbers, or words of the kernel and of iproute2. Values of other keys may be chosen by a
# person.
KEYS = frozenset(
    """
    type protocol scope pref flags family operstate link_type linkmode group action table fwmark fwmask tos ipproto
    goto src dst from to sport dport sport_mask dport_mask tun_id flow_from flow_to suppress_ifgroup
    suppress_prefixlen congestion features
    """.split()  # noqa: SIM905
)

_VALUES = """
    unicast broadcast multicast anycast unreachable blackhole prohibit throw nat
    global link host site nowhere low medium high inet inet6 mpls all any
    UP DOWN UNKNOWN DORMANT NOTPRESENT LOWERLAYERDOWN TESTING DEFAULT
    LOOPBACK BROADCAST MULTICAST POINTOPOINT NOARP LOWER_UP NO-CARRIER M-DOWN ALLMULTI PROMISC MASTER SLAVE DEBUG
    DYNAMIC NOTRAILERS AUTOMEDIA PORTSEL ECHO
    dead onlink pervasive offload linkdown unresolved rt_offload rt_trap trap offload_failed
    loopback ether none void ppp slip cslip tunnel tunnel6 sit gre gre6 ipgre ieee802.11 ieee1394 infiniband rawip
    nop l3mdev lookup goto cubic reno bbr dctcp htcp vegas westwood ecn
    tcp udp icmp ipv6-icmp sctp esp ah
    CS0 CS1 CS2 CS3 CS4 CS5 CS6 CS7 AF11 AF12 AF13 AF21 AF22 AF23 AF31 AF32 AF33 AF41 AF42 AF43 EF
"""
_COMMANDS = """
    ip -n -4 -6 -json -oneline -details -Numeric route rule address nexthop show add append replace del table
    root match exact dev via src scope metric proto protocol nhid weight lock realms from to not fwmark iif oif
    ipproto sport dport priority cache expires mtu window rtt rttvar ssthresh cwnd advmss reordering hoplimit
    initcwnd features quickack congctl rto_min initrwnd fastopen_no_cookie
"""
_ERRORS = """
    RTNETLINK answers Error Cannot find device File exists No such process or directory Network is Invalid argument
    gateway Nexthop has invalid Device for up Operation permitted refused in doubt the batch ended early FIB does
    exist prefsrc prefix specified IPv6 disabled on
"""
_FACTS = """
    ~. chain ip6 accept drop noto nodev maybe output mullvad nordvpn cloudflare-warp
"""
_TEXTS = (_VALUES, _COMMANDS, _ERRORS, _FACTS)
WORDS = frozenset([*PROTOCOLS, *TABLE_NUMBERS, *(word for text in _TEXTS for word in text.split())])

# Parts of the paths of files, and names of other facts.
PATHS = frozenset(
    """
    etc run usr var lib local share log systemd resolve iproute2 netns fz-iproute config.toml journal resolv.conf
    rt_tables rt_tables.d networkd.conf networkd.conf.d
    uid capabilities config.path config.mode config.uid networkd resolved dhcp.servers nft
    """.split()  # noqa: SIM905
)
