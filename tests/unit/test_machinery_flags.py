"""Global flags for the runtime: from containers.conf, from the caller, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore import Engine, InvalidArgument
from longshore.config import Settings, check_runtime_flag
from longshore.engine.machinery import Machinery
from longshore.store import Record, Run

HELP = """#!/bin/sh
test "$1" = --help && echo 'GLOBAL OPTIONS:  --debug  --log-level value  --rootless value'
"""
GO_STYLE = """#!/bin/sh
case $1 in
--help) echo 'Use "x flags" for a list of top-level flags' >&2 ;;
flags) echo '  -platform string' ;;
esac
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name, text in (("oci", HELP), ("gov", GO_STYLE)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return Settings(
        root=str(tmp_path / "root"),
        run_root=str(tmp_path / "run"),
        runtimes={name: (str(tmp_path / name),) for name in ("oci", "gov")},
        runtimes_flags={"oci": ("debug",)},
    )


def test_those_of_containers_conf_are_of_one_runtime(settings: Settings) -> None:
    machinery = Machinery(settings)
    assert machinery.runtime("oci").flags == ("--debug",)
    assert machinery.runtime("oci").global_args()[2:] == ("--debug",)
    assert machinery.runtime("gov").flags == ()


def test_those_asked_for_stand_for_those_of_containers_conf(settings: Settings) -> None:
    asked = Machinery(settings, runtime_flags=["log-level=info", "rootless=auto"])
    assert asked.runtime("oci").flags == ("--log-level=info", "--rootless=auto")


def test_a_runtime_that_shows_its_flags_with_one_dash(settings: Settings) -> None:
    found = Machinery(settings, runtime_flags=["platform=ptrace"]).runtime("gov")
    assert found.flags == ("--platform=ptrace",)


def test_a_run_keeps_its_own(settings: Settings, tmp_path: Path) -> None:
    # the exit command, and a later call by somebody else, know of no flag
    from longshore.options import ContainerConfig

    run = Run(
        number=1,
        boot_id="b",
        runtime="oci",
        runtime_path=str(tmp_path / "oci"),
        runtime_flags=("--rootless=auto",),
    )
    record = Record(id="a" * 64, config=ContainerConfig(name="x"), created_ns=1, run=run)
    found = Machinery(settings.replace(runtimes_flags={})).runtime_of(record)
    assert found is not None and found.flags == ("--rootless=auto",)
    assert Run.from_json(run.to_json()) == run


@pytest.mark.parametrize("name", ["nosuch", "nosuch=1", "debu", "log"[:2]])
def test_one_that_the_runtime_does_not_have(settings: Settings, tmp_path: Path, name: str) -> None:
    engine = Engine(settings=settings, runtime="oci", runtime_flags=[name])
    with pytest.raises(InvalidArgument, match="oci has no flag --"):
        engine.create(command=["true"], rootfs="/")
    written = settings.replace(runtimes_flags={"oci": (name,)})
    with pytest.raises(InvalidArgument, match="oci has no flag --"):
        Engine(settings=written, runtime="oci").create(command=["true"], rootfs="/")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("--debug", "begins with '-'"),
        ("-d", "begins with '-'"),
        ("", "is not a flag"),
        ("=x", "is not a flag"),
        ("a b", "is not a flag"),
        ("a\n", "is not a flag"),
        ("ä", "is not a flag"),
        ("debug=\0", "is not a flag"),
        ("root=/x", "state itself"),
        ("log=/x", "log itself"),
        ("log-format=json", "log itself"),
        ("systemd-cgroup", "--cgroup-manager"),
        ("cgroup-manager=systemd", "--cgroup-manager"),
        ("help", "nothing else"),
        ("version", "nothing else"),
    ],
)
def test_flags_that_are_refused(settings: Settings, flag: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        check_runtime_flag(flag)
    with pytest.raises(InvalidArgument, match=why):
        Engine(settings=settings, runtime_flags=[flag])
