"""linux/apparmor.py against files and a program that stand in: no machine here has AppArmor."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.linux.apparmor import DEFAULT, AppArmor


class Host:
    """securityfs, and an apparmor_parser that keeps what it was given and loads it."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top = top
        (top / "profiles").write_text("/usr/bin/man (enforce)\nmine (a) (complain)\n")
        self.parser = top / "apparmor_parser"
        self.program(
            f'cat "$3" >>{top}/loaded\necho "$1 $2" >>{top}/argv\n'
            f'sed -n "s/^profile \\([^ ]*\\).*/\\1 (enforce)/p" "$3" >>{top}/profiles\n'
        )
        self.apparmor = AppArmor(security=str(top), parsers=("/no/parser", str(self.parser)))
        self.euid = 0
        monkeypatch.setattr(os, "geteuid", lambda: self.euid)

    def program(self, text: str) -> None:
        self.parser.write_text(f"#!/bin/sh\n{text}")
        self.parser.chmod(self.parser.stat().st_mode | stat.S_IXUSR)

    @property
    def loaded(self) -> str:
        path = self.top / "loaded"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_the_default_is_loaded_once(host: Host) -> None:
    assert host.apparmor.profile("", privileged=False) == DEFAULT
    assert host.loaded.count(f"profile {DEFAULT} ") == 1
    assert "deny mount," in host.loaded
    assert (host.top / "argv").read_text() == "--skip-cache --replace\n"
    assert host.apparmor.profile("", privileged=False) == DEFAULT
    assert host.loaded.count(f"profile {DEFAULT} ") == 1


def test_who_has_none(host: Host) -> None:
    assert host.apparmor.profile("unconfined", privileged=False) == ""
    assert host.apparmor.profile("", privileged=True) == ""
    assert host.apparmor.profile("", privileged=False, default="unconfined") == ""
    assert host.loaded == ""


def test_a_profile_that_is_there(host: Host) -> None:
    assert host.apparmor.profile("mine (a)", privileged=False) == "mine (a)"
    assert host.apparmor.profile("/usr/bin/man", privileged=True) == "/usr/bin/man"
    with pytest.raises(InvalidArgument, match="other is not loaded"):
        host.apparmor.profile("other", privileged=False)
    assert host.loaded == ""


def test_a_default_of_containers_conf(host: Host) -> None:
    found = host.apparmor.profile("", privileged=False, default="containers-default-9")
    assert found == "containers-default-9"
    assert "profile containers-default-9 " in host.loaded
    with pytest.raises(InvalidArgument, match="theirs is not loaded"):
        host.apparmor.profile("", privileged=False, default="theirs")


def test_an_ordinary_user(host: Host) -> None:
    host.euid = 1000
    assert host.apparmor.profile("", privileged=False) == ""
    with pytest.raises(HostUnsupported, match="only root"):
        host.apparmor.profile("mine (a)", privileged=False)


def test_without_the_program(host: Host) -> None:
    host.parser.unlink()
    assert host.apparmor.profile("", privileged=False) == ""
    with pytest.raises(HostUnsupported, match="no apparmor_parser"):
        host.apparmor.profile(DEFAULT, privileged=False)


def test_a_program_that_fails(host: Host) -> None:
    host.program("echo syntax error >&2; exit 1\n")
    with pytest.raises(HostUnsupported, match=r"could not load .*: syntax error") as caught:
        host.apparmor.profile("", privileged=False)
    assert "apparmor=unconfined" in (caught.value.hint or "")
