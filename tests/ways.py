"""Questions for `ip route get` on the laptop of tests/layouts.py with some more rules, and the kernel's answers."""

LINES = [
    "route add 10.1.0.0/16 dev docker0 table 10",
    "route add 10.1.0.0/16 dev eth0 tos 0x10 table 10",
    "route add 10.2.0.0/16 dev docker0 metric 9 table 10",
    "route add 10.2.0.0/16 dev eth0 metric 5 table 10",
    "route add 10.2.7.0/24 dev docker0 metric 7 table 10",
    "route add throw 10.2.8.0/24 table 10",
    "rule add pref 10 to 10.0.0.0/8 lookup 10",
    "rule add pref 11 to 10.2.8.0/24 prohibit",
    "route add default dev docker0 table 20",
    "rule add pref 20 fwmark 0x20/0xf0 lookup 20",
    "rule add pref 21 fwmark 0x1 lookup 20",
    "rule add pref 22 tos 0x10 lookup 20",
    "rule add pref 23 ipproto 17 dport 53 lookup 20",
    "rule add pref 24 sport 400-500 lookup 20",
    "rule add pref 25 uidrange 500-2000 lookup 20",
    "rule add pref 26 iif lo to 192.0.2.0/26 lookup 20",
    "rule add pref 27 iif eth0 to 192.0.2.64/26 lookup 20",
    "rule add pref 28 oif docker0 to 192.0.2.128/26 prohibit",
    "rule add pref 29 from 192.168.1.5 to 192.0.2.192/26 lookup 20",
    "rule add pref 30 from 0.0.0.0/8 to 198.51.100.0/24 lookup 20",
    "rule add pref 32 uidrange 0-0 to 203.0.113.0/24 lookup 20",
    "rule add pref 31 to 224.0.0.0/3 unreachable",
    "-6 route add default dev docker0 metric 7 table 20",
    "-6 rule add pref 20 fwmark 0x1 lookup 20",
    "-6 rule add pref 21 tos 0xb8 lookup 20",
    "-6 rule add pref 22 from ::/8 prohibit",
    "-6 rule add pref 23 from fd00:1::5 to 2001:db8:1::/48 lookup 20",
    "-6 rule add pref 24 to 2001:db8:2::/48 iif eth0 lookup 20",
    "-6 route add 2001:db8:3::/48 dev eth0 metric 5 table 30",
    "-6 route append 2001:db8:3::/48 dev docker0 metric 5 table 30",
    "-6 route add 2001:db8:4::/48 dev eth0 metric 5 table 30",
    "-6 route add 2001:db8:4::/48 dev docker0 metric 6 table 30",
    "-6 route add 2001:db8:5::/48 dev eth0 table 30",
    "-6 rule add pref 30 to 2001:db8::/32 lookup 30",
    "-6 rule add pref 31 to fd00:9::/64 suppress_prefixlength 0 lookup 20",
    "-6 rule add pref 32 to fd00:9::/64 blackhole",
]
# What belongs to its addresses and devices.
OWN = [
    "route add local 192.168.1.5 dev eth0 scope host table 255",
    "route add broadcast 192.168.1.255 dev eth0 scope link table 255",
    "-6 route add local ::1 dev lo table 255",
    "-6 route add local fd00:1::5 dev eth0 table 255",
    *(f"-6 route add fe80::/64 dev {device} metric 256" for device in ("eth0", "docker0")),
    *(f"-6 route add multicast ff00::/8 dev {device} table 255" for device in ("eth0", "docker0")),
    "route add local 172.17.0.1 dev docker0 scope host table 255",
]
ANSWERS = dict(
    line.split(": ")
    for line in """
10.1.0.7: docker0
10.1.0.7 tos 0x10: eth0
10.1.0.7 tos 0xb0: eth0
10.1.0.7 tos 0x8: docker0
10.2.0.7: eth0
10.2.0.7 oif docker0: docker0
10.2.7.7: docker0
10.2.8.7: Permission denied
9.9.9.9: eth0
9.9.9.9 mark 0x2f: docker0
9.9.9.9 mark 0x1: docker0
9.9.9.9 mark 0x3: eth0
9.9.9.9 tos 0x10: docker0
9.9.9.9 tos 0xb0: docker0
9.9.9.9 ipproto 17 dport 53: docker0
9.9.9.9 ipproto 6 dport 53: eth0
9.9.9.9 ipproto 17 dport 54: eth0
9.9.9.9 ipproto 6 sport 400: docker0
9.9.9.9 ipproto 6 sport 500: docker0
9.9.9.9 ipproto 6 sport 501: eth0
9.9.9.9 ipproto 6 sport 399: eth0
9.9.9.9 uid 500: docker0
9.9.9.9 uid 2000: docker0
9.9.9.9 uid 2001: eth0
9.9.9.9 uid 499: eth0
192.0.2.7: docker0
192.0.2.7 from 172.17.0.9 iif docker0: eth0
192.0.2.77: eth0
192.0.2.77 from 192.168.1.9 iif eth0: docker0
192.0.2.77 from 172.17.0.9 iif docker0: eth0
192.0.2.130: eth0
192.0.2.130 oif docker0: docker0
192.0.2.130 oif eth0: eth0
192.0.2.200: eth0
192.0.2.200 from 192.168.1.5: docker0
192.0.2.200 from 172.17.0.1: eth0
192.0.2.200 from 9.9.9.9: Network is unreachable
198.51.100.7: docker0
198.51.100.7 from 192.168.1.5: eth0
203.0.113.7 uid 0: docker0
203.0.113.7 uid 7: eth0
203.0.113.7 from 192.168.1.9 iif eth0: docker0
224.0.0.5: Network is unreachable
224.0.0.5 oif eth0: multicast eth0
239.0.0.5: Network is unreachable
239.0.0.5 oif eth0: multicast eth0
239.0.0.5 from 192.168.1.5: multicast eth0
255.255.255.255: Network is unreachable
255.255.255.255 oif docker0: broadcast docker0
255.255.255.254: Network is unreachable
0.0.0.0: local lo
192.168.1.5: local lo
192.168.1.255: broadcast eth0
255.255.255.255 from 192.168.1.9 iif eth0: broadcast lo
240.0.0.1 oif eth0: eth0
2600::1: eth0
2600::1 mark 0x1: docker0
2600::1 tos 0xb8: docker0
2600::1 tos 0x10: eth0
2001:db8:1::1: eth0
2001:db8:1::1 from fd00:1::5: docker0
2001:db8:2::1: eth0
2001:db8:2::1 from fd00:1::9 iif eth0: docker0
2001:db8:3::1: eth0
2001:db8:3::1 oif docker0: docker0
2001:db8:3::1 oif eth0: eth0
2001:db8:3::1 from fd00:1::9 iif eth0: eth0
2001:db8:3::1 from fd00:17::9 iif docker0: docker0
2001:db8:3::1 from fd00:1::5 oif docker0: docker0
2001:db8:4::1: eth0
2001:db8:4::1 oif docker0: docker0
2001:db8:4::1 from fd00:1::5 oif docker0: eth0
2001:db8:4::1 from fd00:17::9 iif docker0: eth0
2001:db8:4::1 from fd00:1::9 iif eth0: eth0
2001:db8:5::1 oif docker0: Network is unreachable
2001:db8:5::1 from fd00:1::5 oif docker0: eth0
fd00:9::1: Invalid argument
fd00:1::5: local lo
::1: local lo
fe80::7 oif docker0: docker0
ff02::1 oif eth0: multicast eth0
ff02::1 oif docker0: multicast docker0
""".strip().splitlines()
)
