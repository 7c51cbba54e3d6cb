"""The same options give what podman wrote for them, where Longshore means to do the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longshore.oci.build import build_spec
from longshore.oci.context import SpecContext
from longshore.oci.privilege import ALL_CAPABILITIES_MASK, SYS_RESOURCE
from longshore.oci.seccomp import read_profile
from longshore.oci.users import resolve_user
from longshore.options import normalize

DATA = Path(__file__).parents[2] / "data"
FACTS: dict[str, dict[str, Any]] = json.loads((DATA / "podman/facts.json").read_text())
PROFILE = read_profile(str(DATA / "containers-common/seccomp.json"))


@pytest.fixture(params=FACTS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what podman wrote, and what Longshore builds, for one set of flags."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
    facts = dict(FACTS[request.param])
    for key, value in facts.items():
        if value == "as default":
            facts[key] = FACTS["default"][key]
    options: Any = {"rootfs": str(tmp_path), "network": "none", **facts["options"]}
    config = normalize(None, ["/bin/true"], options, name="box")
    host = SpecContext(
        id="f" * 64,
        rootfs=str(tmp_path),
        cgroup_path="/x",
        user=resolve_user(str(tmp_path), config.user, config.group_add),
        seccomp=None if config.privileged else PROFILE,
        kernel="6.18.0",
        bounding_mask=ALL_CAPABILITIES_MASK & ~(1 << SYS_RESOURCE),
        default_sysctls={"net.ipv4.ping_group_range": "0 0"},
    )
    return facts, json.loads(json.dumps(build_spec(config, host)))


def test_as_podman(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    facts, spec = pair
    process, linux = spec["process"], spec["linux"]
    home = next(e.removeprefix("HOME=") for e in process["env"] if e.startswith("HOME="))
    # podman leaves it to the runtime when the user has no entry
    assert home == (facts["home"] or "/")
    assert process["user"] == facts["user"]
    assert process["capabilities"] == facts["capabilities"]
    assert process.get("noNewPrivileges", False) == facts["noNewPrivileges"]
    assert process.get("oomScoreAdj") == facts["oomScoreAdj"]
    assert spec["root"].get("readonly", False) == facts["readonly_root"]
    assert sorted(n["type"] for n in linux["namespaces"]) == facts["namespaces"]
    assert linux["resources"] == facts["resources"]
    assert linux.get("sysctl", {}) == facts["sysctl"]
    # newer than the podman that was asked
    extra = "/sys/devices/virtual/powercap"
    assert [p for p in linux.get("maskedPaths", []) if p != extra] == facts["masked"]
    assert linux.get("readonlyPaths", []) == facts["readonly"]


_FRESH = ("/run", "/tmp", "/var/tmp")  # left empty on purpose: see `oci.mounts`


def test_mounts_as_podman(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    facts, spec = pair
    ours = {m["destination"]: [m["type"], sorted(m["options"])] for m in spec["mounts"]}
    theirs = {
        target: [kind, [o for o in options if o != "tmpcopyup" or target not in _FRESH]]
        for target, (kind, options) in facts["mounts"].items()
    }
    # podman's is a mount of the host's; ours is the container's own, and as closed as that
    if ours.get("/dev/shm", ["bind"])[0] == "tmpfs":
        own, bound = ours.pop("/dev/shm"), theirs.pop("/dev/shm")
        assert bound[0] == "bind"
        assert {"nodev", "noexec", "nosuid"} <= set(own[1]) & set(bound[1])
    if "unmask=ALL" in facts["flags"]:
        # newer than the podman that was asked: 5.4 gives the cgroups too
        assert "rw" in ours["/sys/fs/cgroup"][1]
        del ours["/sys/fs/cgroup"], theirs["/sys/fs/cgroup"]
    assert ours == theirs


def test_seccomp_as_podman(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    facts, spec = pair
    if "has_seccomp" in facts:
        assert ("seccomp" in spec["linux"]) == facts["has_seccomp"]
        return
    ours = spec["linux"]["seccomp"]
    default = FACTS["default"]["seccomp"]["rules"]
    # a number stands for the default's rule of that index
    rules = [default[r] if isinstance(r, int) else r for r in facts["seccomp"]["rules"]]
    assert ours["syscalls"] == rules
    assert {k: v for k, v in ours.items() if k != "syscalls"} == facts["seccomp"]["head"]
