"""Specs: golden ones, every option, and the runtime-spec's own schema."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.models import Mount, Ulimit
from longshore.oci.build import build_spec
from longshore.oci.context import HostDevice, SpecContext
from longshore.oci.privilege import ALL_CAPABILITIES_MASK, SYS_RESOURCE, names_of
from longshore.oci.seccomp import read_profile
from longshore.oci.users import ResolvedUser
from longshore.options import ContainerConfig, normalize

DATA = Path(__file__).parents[2] / "data"
PROFILE = read_profile(str(DATA / "containers-common/seccomp.json"))
NO_SYS_RESOURCE = ALL_CAPABILITIES_MASK & ~(1 << SYS_RESOURCE)


def _validator() -> Draft4Validator:
    documents = {
        path.name: json.loads(path.read_text()) for path in (DATA / "runtime-spec").glob("*.json")
    }
    registry: Registry[Any] = Registry().with_resources(
        (name, Resource.from_contents(content, default_specification=DRAFT4))
        for name, content in documents.items()
    )
    return Draft4Validator(documents["config-schema.json"], registry=registry)


VALIDATOR = _validator()


def spec_of(config: dict[str, Any] | None = None, **host: Any) -> dict[str, Any]:
    """Build a spec, hold it against the schema, and return it as JSON would."""
    made = ContainerConfig(
        **{"name": "box", "rootfs": "/srv", "command": ("true",), **(config or {})}
    )
    context = SpecContext(
        **{"id": "0123456789ab" * 5, "rootfs": "/m", "cgroup_path": "/p/x", **host}
    )
    spec: dict[str, Any] = json.loads(json.dumps(build_spec(made, context)))
    VALIDATOR.validate(spec)
    return spec


def env_of(spec: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a spec."""
    return dict(entry.split("=", 1) for entry in spec["process"]["env"])


def mounts_of(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the mounts of a spec by their targets."""
    return {mount["destination"]: mount for mount in spec["mounts"]}


CAPS = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
]  # fmt: skip
SAFE = ["nosuid", "noexec", "nodev"]


def test_the_whole_of_a_small_one() -> None:
    spec = spec_of()
    del spec["linux"]["maskedPaths"], spec["linux"]["readonlyPaths"]  # held against podman's
    assert spec == {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0, "umask": 0o22},
            "args": ["true"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
                "container=longshore",
                "HOSTNAME=0123456789ab",
                "HOME=/",
            ],
            "cwd": "/",
            "capabilities": {"bounding": CAPS, "effective": CAPS, "permitted": CAPS},
        },
        "root": {"path": "/m"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": SAFE},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*SAFE, "ro"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": [
                    "nosuid",
                    "noexec",
                    "newinstance",
                    "ptmxmode=0666",
                    "mode=0620",
                    "gid=5",
                ],
            },
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": SAFE},
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": [*SAFE, "mode=1777", "size=67108864"],
            },
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": ["rprivate", *SAFE, "relatime", "ro"],
            },
        ],
        "linux": {
            "cgroupsPath": "/p/x",
            "namespaces": [
                {"type": "pid"},
                {"type": "network"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
            ],
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                "pids": {"limit": 2048},
            },
        },
        "hostname": "0123456789ab",
    }


def test_everything_at_once_is_in_the_schema() -> None:
    spec = spec_of(
        {
            "entrypoint": ("/init",),
            "env": {"A": "1\n2"},
            "workdir": "/srv",
            "tty": True,
            "init": True,
            "umask": 0o77,
            "mounts": (Mount(type="tmpfs", source="tmpfs", target="/t", options=("ro",)),),
            "read_only": True,
            "memory": 1 << 26,
            "memory_swap": -1,
            "memory_reservation": 1 << 25,
            "memory_swappiness": 10,
            "cpu_shares": 512,
            "cpu_period": 100_000,
            "cpu_quota": 50_000,
            "cpuset_cpus": "0",
            "cpuset_mems": "0",
            "pids_limit": 5,
            "blkio_weight": 100,
            "ulimits": (Ulimit(name="RLIMIT_CORE", soft=0, hard=-1),),
            "oom_score_adj": 5,
            "no_new_privileges": True,
            "apparmor": "box",
            "selinux_opts": ("user:u", "role:r", "type:t", "level:s0:c1"),
            "mask": ("/a",),
            "sysctls": {"net.core.somaxconn": "1"},
            "annotations": {"a": "b"},
            "cgroupns": "private",
        },
        user=ResolvedUser(uid=5, gid=6, groups=(6, 7), home="/h"),
        devices=(HostDevice(path="/dev/x", type="c", major=1, minor=3, access="rw"),),
        seccomp=PROFILE,
        hostname_path="/r/hostname",
        hosts_path="/r/hosts",
        resolv_path="/r/resolv.conf",
        init_path="/usr/bin/catatonit",
        annotations={"a": "lost", "c": "d"},
        hooks={"poststop": [{"path": "/bin/true"}]},
        lsms=frozenset({"apparmor", "selinux"}),
        apparmor="box",
        process_label="u:r:t:s0:c1",
        mount_label="u:object_r:f:s0:c1",
        default_sysctls={"net.ipv4.ping_group_range": "0 0"},
    )
    process, linux = spec["process"], spec["linux"]
    assert process["args"] == ["/run/longshore-init", "--", "/init", "true"]
    assert process["user"] == {"uid": 5, "gid": 6, "umask": 0o77, "additionalGids": [6, 7]}
    assert process["terminal"] is True
    assert process["noNewPrivileges"] is True
    assert process["oomScoreAdj"] == 5
    assert process["apparmorProfile"] == "box"
    assert process["selinuxLabel"] == "u:r:t:s0:c1"
    assert process["rlimits"] == [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]
    assert env_of(spec)["A"] == "1\n2"
    assert env_of(spec)["HOME"] == "/h"
    assert linux["resources"] == {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
        ],
        "memory": {"limit": 1 << 26, "swap": -1, "reservation": 1 << 25, "swappiness": 10},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 5},
        "blockIO": {"weight": 100},
    }
    assert linux["devices"] == [
        {
            "path": "/dev/x",
            "type": "c",
            "major": 1,
            "minor": 3,
            "fileMode": 0o600,
            "uid": 0,
            "gid": 0,
        }
    ]
    assert linux["sysctl"] == {"net.ipv4.ping_group_range": "0 0", "net.core.somaxconn": "1"}
    assert spec["annotations"] == {"a": "b", "c": "d"}
    assert spec["hooks"] == {"poststop": [{"path": "/bin/true"}]}
    assert spec["root"] == {"path": "/m", "readonly": True}
    assert linux["maskedPaths"][-1] == "/a"


def test_the_schema_would_notice() -> None:
    spec = spec_of()
    spec["process"]["cwd"] = 5
    assert not VALIDATOR.is_valid(spec)


# --- environment, names, programs


def test_env_is_overridden_from_left_to_right() -> None:
    spec = spec_of({"env": {"TERM": "dumb", "HOME": "/x"}}, default_env={"PATH": "/bin", "B": "1"})
    assert env_of(spec) == {
        "PATH": "/bin",
        "TERM": "dumb",
        "container": "longshore",
        "B": "1",
        "HOSTNAME": "0123456789ab",
        "HOME": "/x",
    }


@pytest.mark.parametrize(
    ("config", "in_spec", "in_env"),
    [
        ({}, "0123456789ab", "0123456789ab"),
        ({"hostname": "web"}, "web", "web"),
        ({"network": "host"}, "machine", "machine"),
        ({"network": "host", "uts": "private"}, "0123456789ab", "0123456789ab"),
        ({"network": "host", "hostname": "web"}, "web", "web"),
        ({"uts": "host"}, None, "machine"),
        ({"uts": "ns:/run/uts"}, None, None),
    ],
)
def test_hostnames(config: dict[str, Any], in_spec: str | None, in_env: str | None) -> None:
    spec = spec_of(config, nodename="machine")
    assert spec.get("hostname") == in_spec
    assert env_of(spec).get("HOSTNAME") == in_env


def test_init_needs_a_program() -> None:
    with pytest.raises(HostUnsupported, match="init"):
        spec_of({"init": True})
    spec = spec_of({"init": True, "command": ("-x",)}, init_path="/usr/bin/catatonit")
    assert spec["process"]["args"] == ["/run/longshore-init", "--", "-x"]
    assert mounts_of(spec)["/run/longshore-init"] == {
        "destination": "/run/longshore-init",
        "type": "bind",
        "source": "/usr/bin/catatonit",
        "options": ["bind", "ro", "rprivate"],
    }


# --- mounts


def test_what_was_asked_for_replaces_what_else_would_be_there() -> None:
    asked = (
        Mount(type="bind", source="/h", target="/etc/hosts", options=("ro", "rbind")),
        Mount(type="bind", source="/p", target="/proc", options=("rbind",)),
        Mount(type="tmpfs", source="tmpfs", target="/tmp", options=("size=1m",)),
    )
    spec = spec_of({"mounts": asked, "read_only": True}, hosts_path="/r/hosts")
    found = mounts_of(spec)
    assert len(found) == len(spec["mounts"])
    assert found["/etc/hosts"]["source"] == "/h"
    assert found["/proc"]["source"] == "/p"
    assert found["/tmp"]["options"] == ["size=1m"]


def test_parents_are_mounted_first() -> None:
    asked = tuple(Mount(type="tmpfs", target=target) for target in ("/a/b/c", "/a", "/run", "/a/b"))
    spec = spec_of({"mounts": asked, "init": True, "read_only": True}, init_path="/i")
    order = [mount["destination"] for mount in spec["mounts"]]
    for target in order:
        for other in order[order.index(target) :]:
            assert not target.startswith(other + "/")


def test_generated_files_are_locked_in_a_read_only_root() -> None:
    paths = {"hostname_path": "/r/n", "hosts_path": "/r/h", "resolv_path": "/r/r"}
    for target in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
        plain = mounts_of(spec_of({}, **paths))[target]
        assert plain["options"] == ["bind", "rprivate"]
        locked = mounts_of(spec_of({"read_only": True}, **paths))[target]
        assert locked["options"] == ["bind", "rprivate", "ro", *SAFE]
        assert target not in mounts_of(spec_of())


def test_a_read_only_root_without_its_tmpfs() -> None:
    found = mounts_of(spec_of({"read_only": True, "read_only_tmpfs": False}))
    assert not {"/run", "/tmp", "/var/tmp"} & set(found)


def test_dev_shm() -> None:
    def shm(config: dict[str, Any], **host: Any) -> dict[str, Any] | None:
        return mounts_of(spec_of(config, **host)).get("/dev/shm")

    bound = {"destination": "/dev/shm", "type": "bind", "options": ["bind", "rprivate", *SAFE]}
    assert shm({"ipc": "host"}) == {**bound, "source": "/dev/shm"}
    assert shm({"ipc": "none"}) is None
    own = shm({"shm_size": 5}, default_shm_size=6)
    assert own is not None
    assert own["options"][-1] == "size=5"


@pytest.mark.parametrize("word", ["z", "Z"])
def test_relabelling_is_not_the_runtimes_business(word: str) -> None:
    config = {"mounts": (Mount(type="bind", source="/a", target="/b", options=(word, "ro")),)}
    for lsms in (frozenset({"selinux"}), frozenset[str]()):
        assert mounts_of(spec_of(config, lsms=lsms))["/b"]["options"] == ["ro"]


# --- privilege


def test_privileged() -> None:
    devices = (HostDevice(path="/dev/null", type="c", major=1, minor=3),)
    spec = spec_of({"privileged": True}, bounding_mask=NO_SYS_RESOURCE, devices=devices)
    assert spec["process"]["capabilities"]["effective"] == sorted(names_of(NO_SYS_RESOURCE))
    assert "maskedPaths" not in spec["linux"]
    assert "readonlyPaths" not in spec["linux"]
    assert "seccomp" not in spec["linux"]
    assert spec["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in mounts_of(spec)["/sys"]["options"]
    assert "rw" in mounts_of(spec)["/sys/fs/cgroup"]["options"]


def test_what_is_dropped_is_dropped_even_when_privileged() -> None:
    spec = spec_of({"privileged": True, "cap_drop": ("CAP_KILL",)})
    assert "CAP_KILL" not in spec["process"]["capabilities"]["bounding"]
    spec = spec_of({"privileged": True, "cap_drop": ("CAP_ALL",), "cap_add": ("CAP_KILL",)})
    assert spec["process"]["capabilities"]["bounding"] == ["CAP_KILL"]


def test_a_capability_that_cannot_be_given() -> None:
    with pytest.raises(HostUnsupported, match="CAP_SYS_RESOURCE"):
        spec_of({"cap_add": ("CAP_SYS_RESOURCE",)}, bounding_mask=NO_SYS_RESOURCE)
    spec = spec_of({}, default_caps=("CAP_SYS_RESOURCE", "CAP_KILL"), bounding_mask=NO_SYS_RESOURCE)
    assert spec["process"]["capabilities"]["bounding"] == ["CAP_KILL"]


def test_all_but_one_capability() -> None:
    spec = spec_of({"cap_add": ("CAP_ALL",), "cap_drop": ("CAP_BPF",)})
    assert len(spec["process"]["capabilities"]["bounding"]) == 40


def test_seccomp_follows_the_capabilities() -> None:
    def calls(config: dict[str, Any]) -> set[str]:
        rules = spec_of(config, seccomp=PROFILE)["linux"]["seccomp"]["syscalls"]
        return {n for r in rules if r["action"] == "SCMP_ACT_ALLOW" for n in r["names"]}

    assert "chroot" in calls({})
    assert "chroot" not in calls({"cap_drop": ("CAP_ALL",)})
    assert "bpf" not in calls({})
    assert "bpf" in calls({"cap_add": ("CAP_SYS_ADMIN",)})


@pytest.mark.parametrize(
    ("config", "requirement"),
    [
        ({"apparmor": "x"}, "apparmor=x"),
        ({"cgroupns": "", "memory_swappiness": 5}, "memory_swappiness"),
    ],
)
def test_what_this_host_has_not(config: dict[str, Any], requirement: str) -> None:
    with pytest.raises(HostUnsupported, match=requirement):
        spec_of(config, cgroup_version=2)


def test_labels() -> None:
    assert "selinuxLabel" not in spec_of({"selinux_opts": ("type:x",)})["process"]
    assert "mountLabel" not in spec_of({})["linux"]
    spec = spec_of({}, process_label="u:r:t:s0", mount_label="u:r:f:s0", apparmor="box")
    assert spec["process"]["selinuxLabel"] == "u:r:t:s0"
    assert spec["process"]["apparmorProfile"] == "box"
    assert spec["linux"]["mountLabel"] == "u:r:f:s0"


def test_a_container_that_may_label() -> None:
    config = {"selinux_opts": ("nested",)}
    spec = spec_of(config, lsms=frozenset({"selinux"}))
    assert "/sys/fs/selinux" not in spec["linux"]["maskedPaths"]
    assert mounts_of(spec)["/sys/fs/selinux"]["type"] == "bind"
    assert spec["annotations"]["run.oci.mount_context_type"] == "rootcontext"
    assert "/sys/fs/selinux" not in mounts_of(spec_of(config))
    assert "/sys/fs/selinux" in spec_of({})["linux"]["maskedPaths"]


def test_oom_score_adj_can_only_be_raised_without_privilege() -> None:
    host = {"bounding_mask": NO_SYS_RESOURCE, "oom_score_adj": 0}
    assert spec_of({"oom_score_adj": 0}, **host)["process"]["oomScoreAdj"] == 0
    with pytest.raises(HostUnsupported, match="oom_score_adj of -1"):
        spec_of({"oom_score_adj": -1}, **host)
    assert spec_of({"oom_score_adj": -1}, oom_score_adj=0)["process"]["oomScoreAdj"] == -1


# --- namespaces


def kinds(spec: dict[str, Any]) -> list[Any]:
    """Return the namespaces of a spec: a kind for a new one, kind and path for another's."""
    found = spec["linux"]["namespaces"]
    return [(n["type"], n["path"]) if "path" in n else n["type"] for n in found]


def test_namespaces() -> None:
    assert kinds(spec_of(cgroup_version=2)) == ["pid", "network", "ipc", "uts", "cgroup", "mount"]
    host = dict.fromkeys(("pid", "network", "ipc", "uts", "cgroupns"), "host")
    assert kinds(spec_of(host, cgroup_version=2)) == ["mount"]
    assert kinds(spec_of({"network": "ns:/run/netns/a", "cgroupns": "private"})) == [
        "pid",
        ("network", "/run/netns/a"),
        "ipc",
        "uts",
        "cgroup",
        "mount",
    ]
    joined = spec_of({"pid": "container:a"}, namespace_paths={"pid": "/proc/7/ns/pid"})
    assert kinds(joined)[0] == ("pid", "/proc/7/ns/pid")
    with pytest.raises(InvalidArgument, match="container a"):
        spec_of({"pid": "container:a"})


def test_default_sysctls_never_change_others() -> None:
    defaults = {"net.x.y": "1", "kernel.msgmax": "2"}
    found = {
        mode: spec_of({"network": mode, "ipc": mode}, default_sysctls=defaults)["linux"].get(
            "sysctl"
        )
        for mode in ("", "private", "host")
    }
    assert found == {"": defaults, "private": defaults, "host": None}
    joined = spec_of({"network": "ns:/n"}, default_sysctls=defaults)
    assert joined["linux"]["sysctl"] == {"kernel.msgmax": "2"}


# --- what is asked for, to the end

_MAYBE: Any = {
    "memory": st.sampled_from(["64m", 1 << 30]),
    "cpus": st.floats(0.01, 64),
    "cpu_shares": st.integers(2, 1000),
    "cpuset_cpus": st.sampled_from(["0", "0-3"]),
    "pids_limit": st.integers(-1, 5000),
    "env": st.dictionaries(st.text("AB", min_size=1), st.text(st.characters(codec="utf-8"))),
    "user": st.sampled_from(["", "5", "5:6"]),
    "ulimits": st.sampled_from([["core=0"], {"nofile": (1, 2)}]),
    "cap_add": st.lists(st.sampled_from(["NET_ADMIN", "ALL", "SYS_TIME"])),
    "cap_drop": st.lists(st.sampled_from(["KILL", "CHOWN"])),
    "security_opt": st.lists(st.sampled_from(["no-new-privileges", "unmask=ALL", "mask=/a"])),
    "read_only": st.booleans(),
    "privileged": st.booleans(),
    "volumes": st.sampled_from([["/usr:/a"], ["/tmp:/b:ro,z"]]),
    "tmpfs": st.sampled_from([["/c"], {"/c": "size=1m,mode=700"}]),
    "sysctls": st.just({"kernel.msgmax": "1"}),
    "network": st.sampled_from(["none", "host", "private", "ns:/proc/self/ns/net"]),
    "pid": st.sampled_from(["host", "private"]),
    "uts": st.sampled_from(["host", "private"]),
    "cgroupns": st.sampled_from(["host", "private"]),
    "oom_score_adj": st.integers(0, 1000),
    "umask": st.integers(0, 0o777),
    "tty": st.booleans(),
    "annotations": st.dictionaries(st.text("ab", min_size=1), st.text("xy")),
}


@given(st.fixed_dictionaries({}, optional=_MAYBE), st.sampled_from([1, 2]))
def test_whatever_normalize_lets_through_is_a_spec(options: Any, version: int) -> None:
    try:
        config = normalize(None, ["true"], {"rootfs": "/usr", **options}, name="box")
    except InvalidArgument:  # a NUL in the environment
        return
    spec_of(dict(config.__dict__), cgroup_version=version, seccomp=PROFILE)


# --- the caller's patch


def test_spec_patch() -> None:
    spec = spec_of(
        {"spec_patch": {"process": {"args": ["x"], "capabilities": None}, "hostname": "patched"}}
    )
    assert spec["process"]["args"] == ["x"]
    assert "capabilities" not in spec["process"]
    assert spec["hostname"] == "patched"
    assert spec["process"]["cwd"] == "/"


def test_nothing_is_shared_between_two_specs() -> None:
    config = ContainerConfig(name="a", rootfs="/srv", command=("true",))
    host = SpecContext(
        id="a" * 64, rootfs="/m", cgroup_path="/x", hooks={"poststop": [{"path": "/a"}]}
    )
    first: Any = build_spec(config, host)
    before = json.dumps(first)
    _scribble(first)
    assert json.dumps(build_spec(config, host)) == before


def _scribble(value: Any) -> None:
    for item in list(value.values() if isinstance(value, dict) else value):
        if isinstance(item, (dict, list)):
            _scribble(item)
    if isinstance(value, dict):
        value["scribble"] = 1
    else:
        value.append("scribble")


def test_a_spec_is_built_in_no_time() -> None:
    config = ContainerConfig(name="a", rootfs="/srv", command=("true",))
    host = SpecContext(id="a" * 64, rootfs="/m", cgroup_path="/x")

    def best(work: Callable[[], object]) -> float:
        took = []
        for _ in range(50):
            start = time.perf_counter()
            work()
            took.append(time.perf_counter() - start)
        return min(took)

    spec = build_spec(config, host)
    # Measured on any machine by what has to be done with it anyway, which takes 0.9 times as long
    assert best(lambda: build_spec(config, host)) < 5 * best(lambda: json.dumps(spec))


def test_importing_is_cheap() -> None:
    code = "import longshore.options.check, longshore.oci.build, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(DATA.parents[1] / "src")},
        check=True,
        capture_output=True,
        text=True,
    )
    found = set(done.stdout.split())
    heavy = {"typing", "dataclasses", "inspect", "json", "subprocess", "pathlib", "difflib", "csv"}
    assert not found & heavy
    assert len([name for name in found if name.startswith("longshore.oci")]) <= 8
