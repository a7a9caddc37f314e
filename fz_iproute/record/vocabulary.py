"""The words that a redacted recording keeps: words of iproute2, of the kernel and of fz-iproute."""

import re

from fz_iproute.mirror.config import Config
from fz_iproute.mirror.config_text import dump
from fz_iproute.mirror.words import PROTOCOLS, TABLE_NUMBERS

_VALUES = """
    unicast broadcast multicast anycast unreachable blackhole prohibit throw nat
    global link host site nowhere low medium high inet inet6 mpls all any default
    up down unknown dormant notpresent lowerlayerdown testing
    loopback pointopoint noarp lower_up no-carrier m-down allmulti promisc master slave debug
    dynamic notrailers automedia portsel echo
    dead onlink pervasive offload linkdown unresolved rt_offload rt_trap trap offload_failed
    ether none void ppp slip cslip tunnel tunnel6 sit gre gre6 ipgre ieee802.11 ieee1394 infiniband rawip
    nop l3mdev lookup goto cubic reno bbr dctcp htcp vegas westwood ecn
    tcp udp icmp ipv6-icmp sctp esp ah lo
    cs0 cs1 cs2 cs3 cs4 cs5 cs6 cs7 af11 af12 af13 af21 af22 af23 af31 af32 af33 af41 af42 af43 ef
"""
_COMMANDS = """
    ip -n -4 -6 -json -oneline -details -numeric route rule address nexthop show add append replace del table
    root match exact dev via src scope metric proto protocol nhid weight lock realms from to not fwmark iif oif
    ipproto sport dport priority cache expires mtu window rtt rttvar ssthresh cwnd advmss reordering hoplimit
    initcwnd features quickack congctl rto_min initrwnd fastopen_no_cookie
"""
_JOURNAL = """
    ms command commands woken by rtnetlink answers error cannot find device file exists no such process or directory
    network is invalid argument gateway nexthop has for operation permitted refused in doubt the batch ended early fib
    does exist prefsrc prefix specified ipv6 disabled on
"""
_SYSCTLS = """
    ipv4 conf ip_forward nexthop_compat_mode rp_filter src_valid_mark forwarding ignore_routes_with_linkdown
    promote_secondaries disable_ipv6
"""
_FACTS = """
    ~. chain ip6 accept drop noto nodev maybe output mullvad nordvpn cloudflare-warp
    uid capabilities config.path config.mode config.uid networkd use resolved dhcp.servers nft nameserver
    manageforeignroutes manageforeignroutingpolicyrules manageforeignnexthops yes y true t n false f off
    etc run usr var lib local share log systemd resolve iproute2 netns fz-iproute config.toml resolv.conf
    rt_tables rt_tables.d networkd.conf networkd.conf.d *
"""
_CONFIG = """
    manage explicit allow closed tiered private
"""
_TEXTS = (_VALUES, _COMMANDS, _JOURNAL, _SYSCTLS, _FACTS, _CONFIG, *re.findall(r"[\w-]+", dump(Config())))
# In lower case. Words are kept in any case.
WORDS = frozenset([*PROTOCOLS, *TABLE_NUMBERS, *(word for text in _TEXTS for word in text.split())])
