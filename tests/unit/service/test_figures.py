"""The text for a monitoring system is what a real parser reads."""

from prometheus_client.parser import text_string_to_metric_families

from fz_iproute.service.figures import Figure, as_text

ODD = 'tun"\\\n\udcffü'
FIGURES = [
    Figure("tunnel_up", "1 if it is up.", [({"interface": ODD}, 1.0)]),
    Figure("copies", "Copies.", [({"family": family, "state": "stale"}, 3) for family in ("inet", "inet6")]),
    Figure("watch_passes", "Passes.", [({}, 12345678)], "counter"),
    Figure("watch_last_good_pass_seconds", "A time.", [({}, 1795721812.25)]),
]


def test_the_parser_of_prometheus_reads_what_was_meant() -> None:
    families = list(text_string_to_metric_families(as_text(FIGURES)))
    assert [(figure.kind, figure.text) for figure in FIGURES] == [(each.type, each.documentation) for each in families]
    samples = {
        (sample.name, tuple(sample.labels.items())): sample.value for family in families for sample in family.samples
    }
    odd = 'tun"\\\n\\udcffü'
    assert {
        ("fz_iproute_tunnel_up", (("interface", odd),)): 1.0,
        ("fz_iproute_copies", (("family", "inet"), ("state", "stale"))): 3.0,
        ("fz_iproute_copies", (("family", "inet6"), ("state", "stale"))): 3.0,
        ("fz_iproute_watch_passes_total", ()): 12345678.0,
        ("fz_iproute_watch_last_good_pass_seconds", ()): 1795721812.25,
    } == samples
