"""engine/host.py on hosts that have, and lack, one thing after the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longshore import __version__
from longshore.config import Settings
from longshore.engine import context, host, machinery
from longshore.engine.host import Finding, doctor, info, version
from longshore.engine.machinery import Machinery, find_program
from longshore.errors import InvalidArgument, LongshoreError
from longshore.linux import cgroups
from longshore.linux.cgroups import Hierarchy

V1 = ("memory", "pids", "cpu", "cpuset", "blkio")


class Bare:
    """A host with the programs that a test puts there, and cgroups as it says."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.bin = top / "bin"
        self.bin.mkdir()
        self.layout = cgroups.Layout(())

    def install(self, name: str, words: str = "", code: int = 0) -> str:
        program = self.bin / name
        program.write_text(f"#!/bin/sh\nprintf '{words}'\nexit {code}\n")
        program.chmod(0o755)
        return str(program)

    def mount(self, *, v1: tuple[str, ...] = (), v2: str | None = None) -> None:
        top = self.top / "cgroup"
        found = [Hierarchy(str(top / name), 1, frozenset({name})) for name in v1]
        if v2 is not None:
            found.append(Hierarchy(str(top / "unified"), 2, frozenset()))
        for hierarchy in found:
            os.makedirs(hierarchy.mount, exist_ok=True)
        if v2 is not None:
            (top / "unified/cgroup.controllers").write_text(v2)
        self.layout = cgroups.Layout(tuple(found))

    def machinery(self, **changes: object) -> Machinery:
        settings = Settings(root=str(self.top / "root"), run_root=str(self.top / "run"))
        found = Machinery(settings.replace(**changes))
        found.cgroup_layout = self.layout
        return found

    def findings(self) -> dict[str, Finding]:
        return {finding.name: finding for finding in doctor(self.machinery())}


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bare:
    made = Bare(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:/no/such")
    for name in ("_PLACES", "_CONMON_PLACES"):
        monkeypatch.setattr(machinery, name, ())
    monkeypatch.setattr(host, "find_program", lambda name, places=(): find_program(name))
    monkeypatch.setattr(context, "PROFILE_PATHS", (str(tmp_path / "seccomp.json"),))
    return made


def test_a_host_with_nothing(bare: Bare) -> None:
    found = bare.findings()
    for name in ("conmon", "runtime", "cgroups", "cgroup controllers", "seccomp profile",
                 "flock", "catatonit"):  # fmt: skip
        assert not found[name].ok, name
    for finding in found.values():
        assert finding.needed_for
        assert bool(finding.hint) == (not finding.ok), finding.name
    assert "install" in found["conmon"].hint
    assert "crun" in found["runtime"].hint


def test_a_host_with_everything(bare: Bare) -> None:
    bare.install("conmon", "conmon version 2.1.6\\ncommit: x\\n")
    bare.install("crun", "crun version 1.8.1\\nmore\\n")
    bare.install("flock")
    bare.install("catatonit")
    (bare.top / "seccomp.json").touch()
    bare.mount(v2="cpuset cpu io memory pids\n")
    found = bare.findings()
    for name in ("conmon", "runtime crun", "cgroups", "cgroup controllers", "seccomp profile",
                 "flock", "catatonit"):  # fmt: skip
        assert found[name].ok, found[name]
        assert found[name].hint == ""
    assert found["conmon"].found == f"{bare.bin}/conmon 2.1.6"
    assert found["runtime crun"].found == f"{bare.bin}/crun: crun version 1.8.1"
    assert found["cgroups"].found == "v2"
    assert "runtime" not in found


@pytest.mark.parametrize(("program", "line"), [("apt-get", "apt-get install conmon"),
                                               ("dnf", "dnf install conmon")])  # fmt: skip
def test_a_hint_is_this_hosts_command(bare: Bare, program: str, line: str) -> None:
    bare.install(program)
    assert bare.findings()["conmon"].hint == line


def test_crun_on_a_hybrid_host(bare: Bare) -> None:
    bare.install("crun", "crun version 1.8.1\\n")
    bare.mount(v1=V1, v2="")
    found = bare.findings()
    assert not found["runtime crun"].ok
    assert "runc" in found["runtime"].hint
    bare.install("runc", "runc version 1.1.5\\n")
    found = bare.findings()
    assert found["runtime runc"].ok
    assert "runtime" not in found
    assert info(bare.machinery()).default_runtime == "runc"


def test_controllers_that_are_missing_are_named(bare: Bare) -> None:
    bare.mount(v2="hugetlb\n")
    finding = bare.findings()["cgroup controllers"]
    assert not finding.ok
    assert finding.hint == "missing: cpu cpuset io memory pids; enable them at boot"
    bare.mount(v1=V1)
    assert bare.findings()["cgroup controllers"].ok


@pytest.mark.parametrize(
    ("release", "ok"),
    [
        ("6.18.0", True), ("6.1.0-18-amd64", True), ("5.4.0", True), ("5.10+", True),
        ("10.0-rc1", True), ("5.3.99", False), ("4.19.0-1", False),
    ],
)  # fmt: skip
def test_kernels(monkeypatch: pytest.MonkeyPatch, release: str, ok: bool) -> None:
    real = os.uname()
    monkeypatch.setattr(
        host.os, "uname", lambda: os.uname_result((real[0], real[1], release, real[3], real[4]))
    )
    finding = host._kernel()
    assert (finding.ok, finding.found) == (ok, release)
    assert bool(finding.hint) != ok


def test_versions(bare: Bare) -> None:
    bare.install("conmon", "conmon version 2.1.6\\n")
    bare.install("crun", "crun version 1.8.1\\nrest\\n")
    own = bare.install("my-runtime", "mine 7\\n")
    found = version(bare.machinery(runtimes={"mine": (own,)}))
    assert (found.longshore, found.conmon) == (__version__, "2.1.6")
    assert found.kernel == os.uname().release
    assert [(r.name, r.path, r.version) for r in found.runtimes] == [
        ("crun", f"{bare.bin}/crun", "crun version 1.8.1"),
        ("mine", own, "mine 7"),
    ]


def test_versions_of_a_host_with_nothing(bare: Bare) -> None:
    found = version(bare.machinery())
    assert (found.conmon, found.runtimes) == ("", ())


def test_info_of_a_host_with_nothing(bare: Bare) -> None:
    """`info` works where containers cannot."""
    found = info(bare.machinery())
    assert (found.default_runtime, found.conmon_path, found.cgroup_mode) == ("", "", "none")
    assert (found.containers, found.running) == (0, 0)
    assert found.cpus > 0
    assert found.memory > 1 << 20
    assert found.rootless is (os.geteuid() != 0)


# --- finding programs ------------------------------------------------------------------------


def test_programs_are_found_by_name_and_by_path(bare: Bare) -> None:
    path = bare.install("prog")
    (bare.bin / "directory").mkdir()
    (bare.bin / "data").write_text("")
    other = bare.top / "other"
    other.mkdir()
    (other / "prog").symlink_to(path)
    assert find_program("prog") == path
    assert find_program("prog", (str(other),)) == f"{other}/prog"
    assert find_program(path) == path
    for name in ("directory", "data", "no", f"{path}-no"):
        assert find_program(name) is None


def test_an_empty_path_entry_is_not_the_working_directory(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.install("prog")
    monkeypatch.chdir(bare.bin)
    monkeypatch.setenv("PATH", ":/no/such:")
    assert find_program("prog") is None


def test_which_runtime(bare: Bare) -> None:
    crun, runc = bare.install("crun"), bare.install("runc")
    own = bare.install("mine")
    made = bare.machinery(runtimes={"crun": ("/no/such", own)})
    assert (made.runtime().name, made.runtime().path) == ("crun", own), "containers.conf's path"
    assert bare.machinery().runtime().path == crun
    assert bare.machinery(runtime="runc").runtime().path == runc
    assert bare.machinery(runtime="runc").runtime("crun").path == crun
    assert bare.machinery().runtime(own).name == "mine"
    assert made.runtime() is made.runtime()
    with pytest.raises(LongshoreError, match="nosuch"):
        made.runtime("nosuch")


def test_what_is_missing_is_said_with_what_mends_it(bare: Bare) -> None:
    made = bare.machinery()
    for look in (lambda: made.conmon, made.runtime):
        with pytest.raises(LongshoreError) as caught:
            look()
        assert "install" in (caught.value.hint or "")
        assert caught.value.exit_code == 125


def test_cgroup_managers(bare: Bare) -> None:
    settings = bare.machinery().settings
    assert Machinery(settings, cgroup_manager="cgroupfs").cgroup_manager == "cgroupfs"
    assert Machinery(settings, cgroup_manager="systemd").cgroup_manager == "systemd"
    written = settings.replace(cgroup_manager="systemd")
    assert Machinery(written).cgroup_manager == "systemd"
    assert Machinery(written, cgroup_manager="cgroupfs").cgroup_manager == "cgroupfs"
    with pytest.raises(InvalidArgument, match="'runit'"):
        Machinery(settings, cgroup_manager="runit")
