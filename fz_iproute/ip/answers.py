"""Parses the answers of `ip`. Whatever is in doubt is an error, never an empty table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fz_iproute.errors import ReadFailed
from fz_iproute.ip.ip import Asked, Source
from fz_iproute.mirror import ip_json, parse, parse_links
from fz_iproute.mirror.ip_json import Listed
from fz_iproute.mirror.model import Nexthop
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import FAMILY_OPTION, MAIN, of_table

# The question whose answers may lack the scope of a route.
SCOPE_LINK = f"{of_table(MAIN)} scope link"


def answer(source: Source, family: Family | None, question: str) -> list[Any]:
    """The parsed answer to one question. ReadFailed if there is any doubt."""
    (text,) = source.answers(source.ask(family, question))
    return parsed(family, question, text)


def parsed(family: Family | None, question: str, text: bytes) -> list[Any]:
    """Parse what `ip -json` printed: routes to Listed, anything else to documents. ReadFailed if it is not JSON."""
    try:
        if not question.startswith("route show"):
            return ip_json.documents_of(text)
        return ip_json.listing_of(text, scope="link" if question == SCOPE_LINK else "")
    except (ValueError, RecursionError) as error:
        option = f"{FAMILY_OPTION[family]} " if family else ""
        raise ReadFailed(f"ip -json {option}{question}: {ip_json.json_fault(error)}") from None


@contextmanager
def shape_is_known() -> Iterator[None]:
    """Turn errors inside the `with` block into ReadFailed. They mean that the JSON of `ip` has an unexpected form."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadFailed(
            f"ip printed JSON in a form that fz-iproute does not know: {ip_json.form_fault(error)}"
        ) from None


def answers_of(source: Source, asked: Sequence[Asked]) -> dict[tuple[Family, str], bytes]:
    """The JSON that `ip` printed, by family and question. ReadFailed if there is any doubt."""
    return {
        (part.family, question): answer
        for part in asked
        if part.family
        for question, answer in zip(part.questions, source.answers(part), strict=True)
    }


def nexthops_of(source: Source, listings: Iterable[list[Listed]]) -> Mapping[int, Nexthop]:
    """The nexthop objects that routes in these listings use, by their ids. `ip` is asked only if there are any."""
    if not any(map(parse.needs_nexthops, listings)):
        return {}
    return parse_links.nexthops(answer(source, None, "nexthop show"))
