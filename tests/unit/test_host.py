"""engine/host.py on hosts that have, and lack, one thing after the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longshore import __version__
from longshore.config import Settings
from longshore.engine import checkup, context, host, machinery
from longshore.engine.host import Finding, doctor, info, version
from longshore.engine.machinery import Machinery, find_program
from longshore.errors import InvalidArgument, LongshoreError
from longshore.linux import cgroups
from longshore.linux.cgroups import Hierarchy

V1 = ("memory", "pids", "cpu", "cpuset", "blkio")


NOT_FOUND = "executable file `/longshore-doctor` not found"
CONMON = "conmon version 2.1.6\\ncommit: x\\n --full-attach --api-version --replace-listen-pid\\n"


class Bare:
    """A host with the programs that a test puts there, and cgroups as it says."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.bin = top / "bin"
        self.bin.mkdir()
        self.layout = cgroups.Layout(())

    def install(self, name: str, words: str = "", code: int = 0, script: str = "") -> str:
        program = self.bin / name
        program.write_text(f"#!/bin/sh\n{script}\nprintf '{words}'\nexit {code}\n")
        program.chmod(0o755)
        return str(program)

    def runtime(self, name: str, version: str, says: str = NOT_FOUND) -> str:
        """Install a runtime that ends with these words, whatever it is to run."""
        script = f"case $* in *version) printf '{version}';; *' run '*) echo '{says}' >&2; exit 1;;"
        return self.install(name, script=f"{script} *features) exit 1;; esac")

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
    for module in (host, checkup):
        monkeypatch.setattr(module, "find_program", lambda name, places=(): find_program(name))
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
    bare.install("conmon", CONMON)
    bare.runtime("crun", "crun version 1.8.1\\nmore\\n")
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
    bare.runtime("crun", "crun version 1.8.1\\n", says="cgroups in hybrid mode not supported")
    bare.mount(v1=V1, v2="")
    found = bare.findings()
    assert not found["runtime crun"].ok
    assert found["runtime crun"].limits[0].why == "cgroups in hybrid mode not supported"
    assert "runc" in found["runtime"].hint
    bare.runtime("runc", "runc version 1.1.5\\n")
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


# --- doctor: what others' programs can do ----------------------------------------------------


def test_a_runtime_is_tried_out(bare: Bare) -> None:
    bare.mount(v2="memory pids\n")
    bare.runtime("crun", "crun version 9\\n+SECCOMP +CRIU\\n", says="the moon is full")
    found = bare.findings()["runtime crun"]
    assert (found.ok, found.essential) == (False, True)
    assert (found.limits[0].what, found.limits[0].why) == ("containers", "the moon is full")
    assert found.hint
    # one that is not the default does without being one of the things that are needed
    bare.runtime("runc", "runc version 9\\n")
    assert not bare.findings()["runtime runc"].essential
    # a program that runs what is not there is none
    bare.install("crun", "crun version 9\\n")
    assert not bare.findings()["runtime crun"].ok


def test_what_a_runtime_was_built_without_is_named(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.mount(v2="memory pids\n")
    monkeypatch.setattr(checkup, "_modules", lambda: ("capability", "apparmor"))
    bare.install("apt-get")
    bare.runtime("crun", "crun version 9\\nspec: 1.0.0\\n+SYSTEMD +SELINUX +CAP\\n")
    found = bare.findings()
    one = found["runtime crun"]
    assert one.ok and one.features == ("runtime-spec 1.0.0", "selinux", "systemd")
    limits = {limit.what: limit for limit in one.limits}
    assert {"system call filters", "apparmor profiles and labels", "checkpoint and restore"} <= set(
        limits
    )
    assert limits["system call filters"].hint.startswith("apt-get install crun")
    assert found["security modules"].ok


def test_a_runtime_of_another_name(bare: Bare) -> None:
    bare.mount(v2="memory pids\n")
    own = bare.runtime("box-maker", "mine 7\\n")
    made = bare.machinery(
        runtimes={"mine": (own,), "gone": ("/no/such",)},
        runtimes_json=("other",),
        runtimes_kvm=("mine",),
    )
    found = {one.name: one for one in doctor(made)}
    assert found["runtime mine"].found == f"{own}: mine 7"
    assert "runtime_supports_json" in str(found["runtime mine"].limits)
    gone = found["runtime gone"]
    assert (gone.ok, gone.essential) == (False, False) and gone.hint
    assert made.runtime("mine").global_args("/log") == made.runtime("mine").global_args()
    assert "--log-format=json" in bare.machinery(runtimes={"mine": (own,)}).runtime(
        "mine"
    ).global_args("/log")


def test_a_conmon_that_lacks_an_option(bare: Bare) -> None:
    bare.install("conmon", "conmon version 1.0.0\\n --api-version\\n")
    found = bare.findings()["conmon"]
    assert not found.ok
    assert "without --full-attach --replace-listen-pid" in found.found
    bare.install("conmon", CONMON + " --log-rotate\\n")
    found = bare.findings()["conmon"]
    assert found.ok and found.features == ("rotates logs itself",) and not found.limits


def test_criu_is_asked_whether_it_works(bare: Bare) -> None:
    works = bare.install("criu", script="[ $1 = check ] || echo Version: 4.1")
    found = bare.findings()["criu"]
    assert (found.ok, found.found, found.essential) == (True, f"{works} 4.1", False)
    bare.install(
        "criu", script="[ $1 = check ] || { echo Version: 3.17; exit; }; echo too old >&2; exit 1"
    )
    found = bare.findings()["criu"]
    assert not found.ok and found.found.endswith("3.17: too old") and found.hint


def test_subordinate_ids(bare: Bare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = tmp_path / "subuid", tmp_path / "subgid"
    monkeypatch.setattr(checkup, "_SUBORDINATE", tuple(map(str, files)))
    monkeypatch.setattr(checkup.os, "geteuid", lambda: 0)
    found = checkup.subordinate_ids()
    assert not found.ok and "tee -a" in found.hint
    for file in files:
        file.write_text("# ids\nother:1:5\ncontainers:100000:65536\ncontainers:300000:10\nbad:x\n")
    found = checkup.subordinate_ids()
    assert (found.ok, found.found) == (True, "65546 uids and 65546 gids of containers")
    monkeypatch.setattr(checkup.os, "geteuid", lambda: 12345)
    found = checkup.subordinate_ids()
    assert "usermod --add-subuids" in found.hint and found.hint.endswith(" 12345")
    for file in files:
        file.write_text("12345:100000:65536\n")
    assert checkup.subordinate_ids().hint.startswith("install ")  # newuidmap
