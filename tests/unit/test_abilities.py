"""What runtimes say of themselves, from what real ones have said."""

from __future__ import annotations

import pytest

from longshore.runtime.abilities import Abilities, _version, parse_features

RUNC = {  # runc 1.3.6, shortened
    "ociVersionMin": "1.0.0",
    "ociVersionMax": "1.2.1",
    "linux": {
        "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True},
        "seccomp": {"enabled": True},
        "apparmor": {"enabled": True},
        "selinux": {"enabled": False},
        "mountExtensions": {"idmap": {"enabled": True}},
    },
    "annotations": {"org.opencontainers.runc.checkpoint.enabled": "true"},
}


def test_features() -> None:
    found = parse_features(RUNC)
    assert found == Abilities(
        spec="1.2.1", seccomp=True, apparmor=True, selinux=False, cgroup_v1=True, cgroup_v2=True,
        systemd=True, idmapped_mounts=True, checkpoint=True,
    )  # fmt: skip
    assert found.words() == (
        "runtime-spec 1.2.1", "seccomp", "apparmor", "cgroup v1", "cgroup v2", "systemd",
        "idmapped mounts", "checkpoint",
    )  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [{}, {"linux": None}, {"linux": {"seccomp": []}}, {"annotations": 3, "ociVersionMax": 1}],
)
def test_what_is_not_said_is_not_known(data: object) -> None:
    assert parse_features(data) == Abilities()


def test_versions() -> None:
    crun = (
        "crun version 1.8.1\nspec: 1.0.0\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +YAJL\n"
    )
    found = _version(crun)
    assert (found.spec, found.seccomp, found.systemd, found.checkpoint) == (
        "1.0.0",
        True,
        True,
        False,
    )
    runsc = _version("runsc version 0.0~20240729.0\nspec: 1.2.0\n")
    assert runsc == Abilities(spec="1.2.0")
