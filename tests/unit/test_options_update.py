"""What `update` asks for, put into what a container was created with."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from longshore import InvalidArgument
from longshore.options import ContainerConfig, blockio, check
from longshore.options.update import FIELDS, KNOWN, merge

MIB = 1 << 20


def config(**fields: Any) -> ContainerConfig:
    return ContainerConfig(name="box", **fields)


def changed(given: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the fields that an update changes, and their new values."""
    before = config(**fields)
    change = merge(before, given)  # type: ignore[arg-type]
    now, then = change.config.to_json(), before.to_json()
    return {k: now.get(k) for k in {*now, *then} if now.get(k) != then.get(k)}


@pytest.mark.parametrize(
    ("given", "before", "after"),
    [
        ({"memory": "128m"}, {}, {"memory": 128 * MIB}),
        ({"memory": 0}, {"memory": 64 * MIB, "memory_swap": 64 * MIB},
         {"memory": None, "memory_swap": None}),
        ({"memory": "-1"}, {"memory": 64 * MIB}, {"memory": None}),
        ({"memory_swap": "-1"}, {"memory": 64 * MIB}, {"memory_swap": -1}),
        ({"memory_swap": 0}, {"memory": 64 * MIB, "memory_swap": -1}, {"memory_swap": None}),
        ({"memory_reservation": 0}, {"memory_reservation": MIB}, {"memory_reservation": None}),
        ({"memory_swappiness": -1}, {"memory_swappiness": 5}, {"memory_swappiness": None}),
        ({"cpus": 1.5}, {"cpu_quota": 5000, "cpu_period": 9000},
         {"cpu_quota": 150000, "cpu_period": 100000}),
        ({"cpus": 0}, {"cpu_quota": 5000, "cpu_period": 100000},
         {"cpu_quota": -1, "cpu_period": None}),
        ({"cpu_quota": 2000}, {"cpu_quota": 5000, "cpu_period": 9000}, {"cpu_quota": 2000}),
        ({"cpu_quota": 0}, {}, {"cpu_quota": -1}),
        ({"cpu_shares": 0}, {"cpu_shares": 10}, {"cpu_shares": None}),
        ({"cpuset_cpus": ""}, {"cpuset_cpus": "0"}, {"cpuset_cpus": None}),
        ({"cpuset_mems": "0"}, {}, {"cpuset_mems": "0"}),
        ({"pids_limit": 0}, {"pids_limit": 5}, {"pids_limit": -1}),
        ({"blkio_weight": 200}, {}, {"blkio_weight": 200}),
        ({"memory": "64m", "cpus": None}, {"cpu_quota": 5000}, {"memory": 64 * MIB}),
    ],
)  # fmt: skip
def test_what_is_named_changes_and_nothing_else(
    given: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert changed(given, labels={"a": "b"}, oom_score_adj=5, **before) == after


@pytest.mark.parametrize(
    ("given", "before", "words"),
    [
        ({}, {}, "nothing to change"),
        ({"memory": None}, {}, "nothing to change"),
        ({"memroy": 1}, {}, "'memroy' is no limit"),
        ({"labels": {}}, {}, "'labels' is no limit"),
        ({"memory": "128m"}, {"memory": 64 * MIB, "memory_swap": 64 * MIB}, "below the memory"),
        ({"memory_swap": "64m"}, {}, "no memory limit is given"),
        ({"memory_reservation": "64m"}, {"memory": 32 * MIB}, "above the memory limit"),
        ({"memory": "32m"}, {"memory_reservation": 64 * MIB}, "above the memory limit"),
        ({"memory": False}, {}, "is not a size"),
        ({"memory_swappiness": 101}, {}, "not between"),
        ({"cpus": 1, "cpu_period": 1000}, {}, "the same in another way"),
        ({"cpus": "many"}, {}, "is not a number"),
        ({"cpu_period": 1}, {}, "not between"),
        ({"cpuset_cpus": "1-"}, {}, "not a list"),
        ({"pids_limit": -2}, {}, "not between"),
        ({"blkio_weight": 0}, {}, "not between"),
        ({"memory": "64m"}, {"spec_patch": {"linux": {"resources": {"memory": {}}}}}, "spec patch"),
        ({"cpu_shares": 9}, {"spec_patch": {"linux": {"resources": {"cpu": {}}}}}, "spec patch"),
    ],
)
def test_what_makes_no_sense(given: dict[str, Any], before: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        merge(config(**before), given)  # type: ignore[arg-type]


def test_a_patch_for_something_else_is_in_nobodys_way() -> None:
    patched = {"linux": {"resources": {"cpu": {"shares": 3}}}}
    assert changed({"pids_limit": 9}, spec_patch=patched) == {"pids_limit": 9}


def test_every_limit_of_the_cgroup_is_known() -> None:
    fields = set(check.limits({})) - {"ulimits", "oom_score_adj"}
    assert fields == set(FIELDS)
    assert set(KNOWN) <= set(check.KNOWN)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/disk1 and /dev/disk2 are block devices."""
    real = os.stat

    def look(path: Any, **how: Any) -> Any:
        if str(path).startswith("/dev/disk"):
            number = int(str(path)[-1])
            mode = stat.S_IFBLK | 0o600
            return os.stat_result(
                (mode, 1, 1, 1, 0, 0, 0, 0, 0, 0),
                {"st_rdev": os.makedev(900, number)},
            )
        return real(path, **how)

    monkeypatch.setattr(os, "stat", look)


@pytest.mark.usefixtures("disks")
def test_devices() -> None:
    given = {
        "device_read_bps": ["/dev/disk1:1m", "/dev/disk2:5"],
        "device_write_iops": {"/dev/disk1": 7},
        "blkio_weight_device": ["/dev/disk1:200"],
    }
    found = blockio.parse_all(given)
    assert found["device_read_bps"] == {"/dev/disk1": MIB, "/dev/disk2": 5}
    assert found["device_write_iops"] == {"/dev/disk1": 7}
    assert found["blkio_weight_device"] == {"/dev/disk1": 200}
    assert found["device_write_bps"] == {}
    assert blockio.numbers("/dev/disk2", "x") == (900, 2)


@pytest.mark.usefixtures("disks")
def test_an_update_of_a_device_leaves_the_others() -> None:
    before = config(device_read_bps={"/dev/disk1": 5, "/dev/disk2": 6})
    change = merge(before, {"device_read_bps": ["/dev/disk1:0"]})
    assert change.config.device_read_bps == {"/dev/disk2": 6}
    assert change.devices == {"device_read_bps": {"/dev/disk1": 0}}
    assert change.fields == ("device_read_bps",)


@pytest.mark.usefixtures("disks")
@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["/dev/disk1"], "not PATH:NUMBER"),
        (["/dev/disk1:"], "not PATH:NUMBER"),
        (["/dev/disk1:0"], "not a size"),
        (["disk1:5"], "not absolute"),
        (["/dev/null:5"], "no block device"),
        (["/dev/nothing:5"], "No such file"),
        (["/dev/disk1:5", "/dev/disk1:6"], "given twice"),
        ("/dev/disk1:5", "not a list"),
    ],
)
def test_devices_that_make_no_sense(items: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        blockio.parse({"device_read_bps": items}, "device_read_bps")
