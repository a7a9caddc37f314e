"""What the files of a service manager say."""

import shlex

import pytest

from fz_iproute.errors import UsageError
from fz_iproute.files.data import texts
from fz_iproute.mirror.config import Config
from fz_iproute.service.units import Choice, check, is_sealed, rt_tables, sealed, shared_files, unit_files

PROGRAM = ("/opt/fz-iproute/bin/fz-iproute",)
TEMPLATES = texts("units")


def written(**options: str) -> dict[str, str]:
    return {file.path: file.text for file in unit_files(Choice(PROGRAM, **options), TEMPLATES)}


def setting(text: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({}, ["/etc/systemd/system/fz-iproute.service"]),
        ({"instance": "home"}, ["/etc/systemd/system/fz-iproute@.service"]),
        ({"prefix": "/usr"}, ["/usr/lib/systemd/system/fz-iproute.service"]),
        (
            {"way": "timer", "instance": "home"},
            ["/etc/systemd/system/fz-iproute-sync@.service", "/etc/systemd/system/fz-iproute-sync@.timer"],
        ),
        ({"way": "cron"}, ["/etc/cron.d/fz-iproute"]),
        ({"way": "cron", "instance": "home"}, ["/etc/cron.d/fz-iproute-home"]),
        ({"way": "nm-dispatcher"}, ["/etc/NetworkManager/dispatcher.d/90-fz-iproute"]),
    ],
    ids=str,
)
def test_each_way_has_its_files(options: dict[str, str], paths: list[str]) -> None:
    found = written(**options)
    assert paths == list(found)
    assert all(
        is_sealed(text) and not set("{}") & set(text) - set("{}" if "logrotate" in text else "")
        for text in found.values()
    )


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({}, "/opt/fz-iproute/bin/fz-iproute watch"),
        ({"config": "/etc/my vpn.toml"}, '/opt/fz-iproute/bin/fz-iproute -c "/etc/my vpn.toml" watch'),
        ({"config": '/etc/50%$"\\'}, r'/opt/fz-iproute/bin/fz-iproute -c "/etc/50%%$$\"\\" watch'),
        ({"instance": "home"}, "/opt/fz-iproute/bin/fz-iproute -c /etc/fz-iproute/%i.toml watch"),
    ],
    ids=str,
)
def test_a_unit_starts_the_program_with_its_configuration(options: dict[str, str], command: str) -> None:
    (text,) = written(**options).values()
    assert [command] == setting(text, "ExecStart")


def test_systemd_enters_the_network_namespace_because_the_sandbox_may_not() -> None:
    (text,) = written(netns="blue").values()
    assert (["/run/netns/blue"], []) == (setting(text, "NetworkNamespacePath"), setting(text, "PrivateNetwork"))
    assert "--netns" not in text


def test_all_units_share_the_folder_of_the_locks_and_none_removes_it() -> None:
    """Systemd removes RuntimeDirectory when a unit stops, unless it is told to preserve it."""
    for way in ({}, {"instance": "home"}, {"way": "timer"}, {"way": "timer", "instance": "home"}):
        text = next(iter(written(**way).values()))
        settings = ("User", "RuntimeDirectory", "RuntimeDirectoryPreserve")
        assert [["fz-iproute"], ["fz-iproute"], ["yes"]] == [setting(text, name) for name in settings]


@pytest.mark.parametrize("way", ["cron", "nm-dispatcher"])
def test_a_shell_reads_the_words_as_they_are(way: str) -> None:
    (text,) = written(way=way, config="/etc/a b%$'.toml", netns="blue").values()
    (line,) = [line for line in text.splitlines() if "sync" in line and not line.startswith("#")]
    if way == "cron":
        assert "\\%" in line  # cron reads a bare % as the end of the line
        line = line.replace("\\%", "%")
    expected = [*PROGRAM, "-c", "/etc/a b%$'.toml", "--netns", "blue", "sync", "--quiet"]
    assert expected == shlex.split(line)[-len(expected) :]


@pytest.mark.parametrize(
    "options",
    [
        {"instance": "a/b"}, {"instance": "a.b"}, {"instance": "ü"}, {"instance": "home", "config": "/x"},
        {"instance": "home", "netns": "blue"}, {"config": "/a\nExecStart=/b"}, {"netns": "a\nb"},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_unit_cannot_hold_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        check(Choice(PROGRAM, **options))


def test_a_seal_breaks_with_any_edit() -> None:
    text = sealed("a\nb\n")
    assert is_sealed(text)
    places = (*range(4), -2)  # the content, and the end of the seal
    assert [] == [index for index in places if is_sealed(text[:index] + "x" + text[index:][1:])]
    assert not is_sealed("") and not is_sealed("\n") and not is_sealed(text + "\n") and not is_sealed("a\nb\n")


def test_everything_that_install_writes_is_sealed() -> None:
    shared = shared_files(Choice(PROGRAM), TEMPLATES, {"fz-iproute.8": ".TH a\n"}, {"zsh": "#compdef fz-iproute\n"})
    files = [*shared, rt_tables(Config(), "home")]
    assert all(is_sealed(file.text) for file in files)
    assert [
        "/etc/logrotate.d/fz-iproute",
        "/usr/local/share/man/man8/fz-iproute.8",
        "/usr/local/share/zsh/site-functions/_fz-iproute",
        "/etc/iproute2/rt_tables.d/fz-iproute-home.conf",
    ] == [file.path for file in files]
