"""The text for a monitoring system is what two real parsers read."""

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from fz_iproute.service.figures import Figure, as_text

ODD = 'tun"\\\n\udcffü'
FIGURES = [
    Figure("tunnel_up", "gauge", "1 if it is up.", {(("interface", ODD),): 1.0}),
    Figure("copies", "gauge", "Copies.", {(("family", family), ("state", "stale")): 3 for family in ("inet", "inet6")}),
    Figure("watch_passes", "counter", "Passes.", {(): 12345678}),
    Figure("watch_last_good_pass_seconds", "gauge", "A time.", {(): 1795721812.25}),
]


@pytest.mark.parametrize("parse", [text_string_to_metric_families, parser.text_string_to_metric_families])
def test_the_parsers_of_openmetrics_and_prometheus_read_what_was_meant(parse: object) -> None:
    assert callable(parse)
    text = as_text(FIGURES)
    assert text.endswith("\n# EOF\n")
    samples = {
        (sample.name, tuple(sample.labels.items())): sample.value for family in parse(text) for sample in family.samples
    }
    odd = 'tun"\\\n\\udcffü'
    assert {
        ("fz_iproute_tunnel_up", (("interface", odd),)): 1.0,
        ("fz_iproute_copies", (("family", "inet"), ("state", "stale"))): 3.0,
        ("fz_iproute_copies", (("family", "inet6"), ("state", "stale"))): 3.0,
        ("fz_iproute_watch_passes_total", ()): 12345678.0,
        ("fz_iproute_watch_last_good_pass_seconds", ()): 1795721812.25,
    } == samples
