"""Writes completions for shells from a parser of argparse."""

from argparse import Action, ArgumentParser
from collections.abc import Callable, Mapping
from typing import NamedTuple

# How to complete a value of each kind, in bash (words for compgen), zsh and fish.
_KINDS = {
    "file": ("-f", "_files", "(__fish_complete_path (commandline -ct))"),
    "folder": ("-d", "_files -/", "(__fish_complete_directories (commandline -ct))"),
    "interface": (
        '-W "$(command ls /sys/class/net)"',
        "compadd -- /sys/class/net/*(N:t)",
        "(command ls /sys/class/net)",
    ),
    "namespace": (
        '-W "$(command ls /run/netns 2>/dev/null)"',
        "compadd -- /run/netns/*(N:t)",
        "(command ls /run/netns 2>/dev/null)",
    ),
    "any": ('-W ""', "_message value", ""),
}
_DESTINATIONS = {"netns": "namespace", "iif": "interface", "oif": "interface"}
_METAVARS = {"FILE": "file", "JOURNAL": "file", "DIR": "folder", "VERB": "verb"}


class Option(NamedTuple):
    """An option of the command line."""

    names: tuple[str, ...]  # all of them, as `-c` and `--config`
    text: str
    value: str  # the kind of its value, or its choices; "" if it takes none


class Verb(NamedTuple):
    """A verb, or the program itself."""

    name: str  # "" for the program
    text: str
    options: list[Option]
    argument: str  # the kind of its argument, or its choices


def verbs(parser: ArgumentParser) -> list[Verb]:
    """The program and its verbs."""
    found = [_verb("", "", parser)]
    for action in parser._actions:
        if isinstance(action.choices, dict):
            texts = {each.dest: each.help for each in vars(action)["_choices_actions"]}
            for name, below in action.choices.items():
                below.fill()
                found.append(_verb(name, texts[name] or "", below))
    names = " ".join(verb.name for verb in found[1:])
    return [verb._replace(argument=names) if verb.argument == "verb" else verb for verb in found]


def _verb(name: str, text: str, parser: ArgumentParser) -> Verb:
    options = [
        Option(tuple(action.option_strings), _plain(action.help or ""), _value(action))
        for action in parser._actions
        if action.option_strings
    ]
    arguments = [_value(action) for action in parser._actions if not action.option_strings]
    return Verb(name, _plain(text), options, arguments[0] if arguments else "any")


def _plain(text: str) -> str:
    return text.replace("'", "").replace("`", "").replace("%%", "%")


def _value(action: Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return " ".join(map(str, action.choices))
    return _DESTINATIONS.get(action.dest) or _METAVARS.get(str(action.metavar), "any")


def bash(found: list[Verb], templates: Mapping[str, str]) -> str:
    """For bash 4 and newer. `templates` are the texts of the package's folder `completion`, by name."""

    def offer(value: str) -> str:
        how = _KINDS[value][0] if value in _KINDS else f'-W "{value}"'
        names = "compopt -o filenames; " if value in ("file", "folder") else ""
        return f'{names}mapfile -t COMPREPLY < <(compgen {how} -- "$current")'

    def describe(what: str, texts: Mapping[str, str]) -> str:
        return offer(" ".join(texts))  # bash cannot show the texts

    return templates["bash"].replace("{body}", _body(found, templates["body"], offer, describe))


def zsh(found: list[Verb], templates: Mapping[str, str]) -> str:
    """For zsh."""

    def offer(value: str) -> str:
        return _KINDS[value][1] if value in _KINDS else f"compadd -- {value}"

    def describe(what: str, texts: Mapping[str, str]) -> str:
        lines = " ".join(f"'{name}:{text}'" for name, text in texts.items())
        return f"offered=({lines}); _describe {what} offered"

    return templates["zsh"].replace("{body}", _body(found, templates["body"], offer, describe))


def _body(
    found: list[Verb], template: str, offer: Callable[[str], str], describe: Callable[[str, Mapping[str, str]], str]
) -> str:
    """The part that bash and zsh have in common.

    `offer` returns the shell's command to complete a value, and `describe` the one to complete a name with its text.
    """
    program, *others = found
    cases = []
    for verb in found:
        for option in _own(verb, found):
            patterns = " | ".join(f"{verb.name or '*'}:{name}:*" for name in option.names)
            cases += [f"{patterns}) {offer(option.value)} ;;"] if option.value else []
    for verb in found:
        texts = {name: option.text for option in verb.options for name in option.names}
        cases.append(f"{verb.name}:*:-*) {describe('-o option', texts)} ;;")
    cases.append(f":*) {describe('verb', {verb.name: verb.text for verb in others})} ;;")
    cases += [f"{verb.name}:*) {offer(verb.argument)} ;;" for verb in others]
    skipped = " | ".join(name for option in program.options if option.value for name in option.names)
    return template.replace("{skipped}", skipped).replace("{cases}", "\n        ".join(cases))


def fish(found: list[Verb], _: Mapping[str, str]) -> str:
    """For fish."""
    start = f"not __fish_seen_subcommand_from {' '.join(verb.name for verb in found[1:])}"
    lines = ["# Completes the command line of fz-iproute.", "complete -c fz-iproute -f"]
    for verb in found:
        command = "complete -c fz-iproute"
        if verb.name:
            lines.append(f"{command} -n '{start}' -a {verb.name} -d '{verb.text}'")
            command = f"{command} -n '__fish_seen_subcommand_from {verb.name}'"
        for option in _own(verb, found):
            flags = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = f" -x -a '{_fish_words(option.value)}'" if option.value else ""
            lines.append(f"{command} {flags}{value} -d '{option.text}'")
        if verb.name and verb.argument != "any":
            lines.append(f"{command} -a '{_fish_words(verb.argument)}'")
    return "\n".join([*lines, ""])


def _fish_words(value: str) -> str:
    return _KINDS[value][2] if value in _KINDS else value


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


def _own(verb: Verb, found: list[Verb]) -> list[Option]:
    """The options of the verb, without those that all verbs have."""
    common = {option.names for option in found[0].options}
    return [option for option in verb.options if not verb.name or option.names not in common]
