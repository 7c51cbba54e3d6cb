"""Limits: those that were asked for are applied or refused; defaults give way."""

from __future__ import annotations

from typing import Any

import pytest

from longshore.errors import HostUnsupported
from longshore.models import Ulimit
from longshore.oci.context import SpecContext
from longshore.oci.privilege import ALL_CAPABILITIES_MASK, SYS_RESOURCE
from longshore.oci.resources import needed_controllers, resources, rlimits
from longshore.options import ContainerConfig


def config(**fields: Any) -> ContainerConfig:
    """Return a config with some limits."""
    return ContainerConfig(name="box", rootfs="/srv", command=("true",), **fields)


def host(**facts: Any) -> SpecContext:
    """Return a host; one that may not raise limits when ``weak``."""
    if facts.pop("weak", False):
        facts["bounding_mask"] = ALL_CAPABILITIES_MASK & ~(1 << SYS_RESOURCE)
    return SpecContext(id="a" * 64, rootfs="/m", cgroup_path="/x", **facts)


@pytest.mark.parametrize(
    ("limits", "controller"),
    [
        ({"memory": 1 << 26}, "memory"),
        ({"memory_reservation": 1 << 26}, "memory"),
        ({"cpu_quota": 1000}, "cpu"),
        ({"cpu_shares": 2}, "cpu"),
        ({"cpuset_cpus": "0"}, "cpuset"),
        ({"cpuset_mems": "0"}, "cpuset"),
        ({"pids_limit": 5}, "pids"),
        ({"blkio_weight": 50}, "io"),
    ],
)
def test_a_limit_needs_its_controller(limits: dict[str, Any], controller: str) -> None:
    assert needed_controllers(config(**limits)) == (controller,)
    with pytest.raises(HostUnsupported, match=f"controller {controller}"):
        resources(config(**limits), host(controllers=frozenset({"hugetlb"}), cgroup_version=2))
    for known in (None, frozenset({controller})):
        resources(config(**limits), host(controllers=known))


def test_v1_calls_io_blkio() -> None:
    found = resources(config(blkio_weight=50), host(controllers=frozenset({"blkio"})))
    assert found.get("blockIO") == {"weight": 50}


def test_defaults_need_nothing() -> None:
    assert needed_controllers(config()) == ()
    assert needed_controllers(config(pids_limit=-1)) == ()
    bare = resources(config(), host(controllers=frozenset()))
    assert bare == {"devices": [{"allow": False, "access": "rwm"}]}
    assert resources(config(), host()).get("pids") == {"limit": 2048}
    assert "pids" not in resources(config(), host(default_pids_limit=0))
    assert "pids" not in resources(config(pids_limit=-1), host())


def test_a_host_without_controllers_is_said_to_be_one() -> None:
    with pytest.raises(HostUnsupported, match=r"found: cgroup v2 with no controllers$"):
        resources(config(memory=1 << 26), host(cgroup_version=2, controllers=frozenset()))


def test_swap() -> None:
    def memory(swap: int | None, **facts: Any) -> Any:
        return resources(config(memory=1 << 26, memory_swap=swap), host(**facts)).get("memory")

    assert memory(None) == {"limit": 1 << 26, "swap": 1 << 27}
    assert memory(-1) == {"limit": 1 << 26, "swap": -1}
    assert memory(1 << 26) == {"limit": 1 << 26, "swap": 1 << 26}
    assert memory(None, swap_accounting=False) == {"limit": 1 << 26}
    with pytest.raises(HostUnsupported, match="swap accounting"):
        memory(-1, swap_accounting=False)


NOFILE = {"RLIMIT_NOFILE": (1024, 4096)}


def limit(soft: int, hard: int, name: str = "RLIMIT_NOFILE") -> Ulimit:
    """Return a limit, of open files when nothing else is said."""
    return Ulimit(name=name, soft=soft, hard=hard)


@pytest.mark.parametrize(
    ("asked", "facts", "found"),
    [
        (limit(5, 10), {"weak": True}, (5, 10)),
        (limit(5, 4096), {"weak": True}, (5, 4096)),
        (limit(5, 5000), {}, (5, 5000)),
        (limit(-1, -1), {"weak": True}, (4096, 4096)),
        (limit(-1, -1), {}, (4096, 4096)),
        (limit(0, -1, "RLIMIT_CORE"), {"weak": True}, (0, 2**64 - 1)),
        (limit(0, -1, "RLIMIT_STACK"), {"host_rlimits": {"RLIMIT_STACK": (1, 2)}}, (0, 2**64 - 1)),
    ],
)
def test_limits_asked_for(asked: Ulimit, facts: dict[str, Any], found: tuple[int, int]) -> None:
    [result] = rlimits(config(ulimits=(asked,)), host(**{"host_rlimits": NOFILE, **facts}))
    assert (result["soft"], result["hard"]) == found
    assert result["type"] == asked.name


def test_a_limit_above_the_hosts_names_both() -> None:
    with pytest.raises(HostUnsupported, match=r"of 5000; found: a hard limit of 4096") as caught:
        rlimits(config(ulimits=(limit(5, 5000),)), host(host_rlimits=NOFILE, weak=True))
    assert caught.value.hint == "at most nofile=4096"
    with pytest.raises(HostUnsupported, match="of unlimited"):
        rlimits(
            config(ulimits=(limit(0, -1, "RLIMIT_CORE"),)),
            host(host_rlimits={"RLIMIT_CORE": (0, 0)}, weak=True),
        )


def test_default_limits_give_way() -> None:
    defaults = (limit(5000, 6000), limit(1, 2, "RLIMIT_CORE"))
    facts = {"default_ulimits": defaults, "host_rlimits": NOFILE}
    core = {"type": "RLIMIT_CORE", "soft": 1, "hard": 2}
    assert rlimits(config(), host(weak=True, **facts)) == [
        {"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096},
        core,
    ]
    assert rlimits(config(), host(**facts)) == [
        {"type": "RLIMIT_NOFILE", "soft": 5000, "hard": 6000},
        core,
    ]
    assert rlimits(config(ulimits=(limit(1, 1),)), host(**facts)) == [
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1},
        core,
    ]


def test_no_limit_that_nobody_asked_for() -> None:
    assert rlimits(config(), host(host_rlimits=NOFILE)) == []
