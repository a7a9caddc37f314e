"""The command line is explained, also where it is wrong."""

import re

import pytest

from fz_iproute.cli import VERBS, parser
from fz_iproute.log import Log
from fz_iproute.verbs import help as help_verb


def told(words: str, code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed before a verb runs: help on stdout, or what is wrong on stderr. Only the verb `help` is run."""
    with pytest.raises(SystemExit) as end:
        help_verb.run(parser().parse_args(words.split()), Log())
    out, err = capsys.readouterr()
    assert (code, "") == (end.value.code, err if code == 0 else out)
    return out + err


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("", "the following arguments are required: VERB; see `fz-iproute --help`"),
        ("--verbose", "the following arguments are required: VERB; see `fz-iproute --help`"),
        ("sing", "there is no verb sing; see `fz-iproute --help`"),
        ("stauts", "there is no verb stauts; did you mean status?"),
        ("start", "there is no verb start; did you mean watch or install?"),
        ("stop", "there is no verb stop; did you mean down or uninstall?"),
        ("status --rotes", "unrecognized arguments: --rotes; did you mean --routes?"),
        ("-n sync", "unknown before a verb: -n; see `fz-iproute --help`"),
        ("sync me", "unrecognized arguments: me; see `fz-iproute sync --help`"),
        ("sync --exit-code", "unrecognized arguments: --exit-code; see `fz-iproute sync --help`"),
        ("lab -br ip", "unrecognized arguments: -br; see `fz-iproute lab --help`"),
        ("config", "the following arguments are required: show|check; see `fz-iproute config --help`"),
        ("config check a b", "unrecognized arguments: b; see `fz-iproute config --help`"),
        ("unit", "the following arguments are required: NAME; see `fz-iproute unit --help`"),
        ("sync -q -v", "argument -v/--verbose: not allowed with argument -q/--quiet; see `fz-iproute sync --help`"),
        ("sync --log-format xml", "argument --log-format: invalid choice: 'xml' (choose from 'text', 'json'); see "),
        *(
            (f"sync --wait {wrong}", f"argument --wait: '{wrong}' is not a number of seconds between 0 and 86400; see ")
            for wrong in ("soon", "-1", "nan", "inf")
        ),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(words: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = told(words, 2, capsys).splitlines()
    assert line.startswith(f"error: {answer}")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_has_its_own_options_first_and_two_examples(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(f"{verb} --help", 0, capsys)
    assert text == told(f"help {verb}", 0, capsys)
    assert text.startswith(f"usage: fz-iproute {verb} ") and f"\n    {verb} " in told("--help", 0, capsys)
    own, common, examples = re.split(r"\n(?:options of every verb|examples):\n", text)
    assert "--netns" not in own.partition("options:")[2] and "--netns" in common
    assert 2 == len(examples.splitlines()) and all("fz-iproute" in line for line in examples.splitlines())
