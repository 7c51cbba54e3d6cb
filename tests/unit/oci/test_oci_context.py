"""What is read from the host for a spec."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.models import Device
from longshore.oci import context
from longshore.oci.context import HostDevice, gather, host_devices, seccomp_of
from longshore.options import ContainerConfig

PROFILE = Path(__file__).parents[2] / "data/containers-common/seccomp.json"


def config(**fields: Any) -> ContainerConfig:
    """Return a config with some fields."""
    return ContainerConfig(name="box", rootfs="/srv", command=("true",), **fields)


def test_gather(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("app:x:5:6::/h:/bin/sh\n")
    host = gather(
        config(user="app", devices=(Device(source="/dev/null", target="/dev/nil"),)),
        id="a" * 64,
        rootfs=str(tmp_path),
        cgroup_path="/x",
        seccomp_profile=str(PROFILE),
        cgroup_version=2,
    )
    assert (host.user.uid, host.user.gid) == (5, 6)
    assert [device.path for device in host.devices] == ["/dev/nil"]
    assert host.seccomp is not None
    assert host.seccomp["defaultAction"] == "SCMP_ACT_ERRNO"
    assert host.host_rlimits["RLIMIT_NOFILE"] == resource.getrlimit(resource.RLIMIT_NOFILE)
    assert host.machine == os.uname().machine
    assert host.cgroup_version == 2
    assert f"CapBnd:\t{host.bounding_mask:016x}" in Path("/proc/self/status").read_text()


def test_what_is_given_is_not_looked_up(tmp_path: Path) -> None:
    host = gather(
        config(user="nobody-there"),
        id="a" * 64,
        rootfs=str(tmp_path / "none"),
        cgroup_path="/x",
        user=context.ResolvedUser(uid=9),
        seccomp=None,
        host_rlimits={},
        nodename="n",
    )
    assert (host.user.uid, host.seccomp, host.host_rlimits, host.nodename) == (9, None, {}, "n")


def test_which_seccomp_profile(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"defaultAction": "SCMP_ACT_KILL"}))
    assert seccomp_of(config(seccomp="unconfined"), str(PROFILE)) is None
    assert seccomp_of(config(privileged=True), str(PROFILE)) is None
    for asked in ({}, {"privileged": True}):
        found = seccomp_of(config(seccomp=str(own), **asked), str(PROFILE))
        assert found == {"defaultAction": "SCMP_ACT_KILL"}
    default = seccomp_of(config(), str(PROFILE))
    assert default is not None
    assert default["defaultAction"] == "SCMP_ACT_ERRNO"
    with pytest.raises(HostUnsupported, match="seccomp"):
        seccomp_of(config(), str(tmp_path / "gone.json"))


def test_devices(tmp_path: Path) -> None:
    null = host_devices([Device(source="/dev/null", target="/dev/nil", permissions="r")])
    status = os.stat("/dev/null")
    assert null == (
        HostDevice(
            path="/dev/nil",
            type="c",
            major=1,
            minor=3,
            mode=status.st_mode & 0o7777,
            uid=status.st_uid,
            gid=status.st_gid,
            access="r",
            source="/dev/null",
        ),
    )
    with pytest.raises(InvalidArgument, match="not there any more"):
        host_devices([Device(source=str(tmp_path / "gone"), target="/dev/x")])


def test_every_device_of_the_host() -> None:
    found = {device.path: device for device in host_devices([], every=True)}
    assert found["/dev/null"].major == 1
    assert not {"/dev/console", "/dev/ptmx"} & set(found)
    assert not [path for path in found if path.startswith(("/dev/pts/", "/dev/shm/"))]
    named = host_devices([Device(source="/dev/zero", target="/dev/null")], every=True)
    assert next(device for device in named if device.path == "/dev/null").minor == 5


def test_a_directory_stands_for_its_devices(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "sub/fifo")
    assert host_devices([Device(source=str(tmp_path), target="/dev/x")]) == ()


def test_host_rlimits_are_this_process_own() -> None:
    found = context.host_rlimits()
    assert found["RLIMIT_CORE"] == resource.getrlimit(resource.RLIMIT_CORE)
    assert len(found) == 15  # all but LOCKS, which the kernel no longer has


def test_active_lsms_are_known_ones() -> None:
    assert context.active_lsms() <= {"apparmor", "selinux"}
