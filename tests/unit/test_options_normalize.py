"""`normalize`: everything that can be asked, together."""

from __future__ import annotations

import ast
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

import longshore.options
from longshore.errors import HostUnsupported, InvalidArgument
from longshore.models import Device, Mount, Ulimit
from longshore.options import ContainerConfig, check, normalize


def config(tmp_path: Path, **options: Any) -> ContainerConfig:
    """Normalize options over a rootfs and a command that make sense."""
    command = options.pop("command", ["true"])
    options.setdefault("rootfs", str(tmp_path))
    return normalize(None, command, options, name="box")  # type: ignore[arg-type]


def test_the_least_that_can_be_asked(tmp_path: Path) -> None:
    found = config(tmp_path)
    assert found == ContainerConfig(name="box", rootfs=str(tmp_path), command=("true",))


def test_none_is_not_given(tmp_path: Path) -> None:
    assert config(tmp_path, **{name: None for name in check.KNOWN if name != "rootfs"}) == config(
        tmp_path
    )


def test_the_known_options_are_those_of_the_type() -> None:
    tree = ast.parse(Path(longshore.options.__file__).read_text())
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    declared = [
        node.target.id
        for node in classes["CreateOptions"].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert sorted(check.KNOWN) == sorted(declared)


def test_everything_at_once(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        command=("sh", "-c", "exit 3"),
        overlay=True,
        entrypoint=["/init"],
        env={"A": "1"},
        workdir="/srv/",
        user="1000:100",
        group_add=["audio", "20", "audio"],
        hostname="web",
        labels=["a=1", "b"],
        annotations={"c": "2"},
        volumes=["/usr:/a:ro"],
        mounts=[Mount(type="tmpfs", target="/b"), "type=tmpfs,target=/c"],
        tmpfs={"/d": "size=1m"},
        read_only=True,
        read_only_tmpfs=False,
        memory="64m",
        memory_swap="-1",
        memory_reservation="32m",
        memory_swappiness=10,
        cpus="1.5",
        cpu_shares=512,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        pids_limit=0,
        blkio_weight=100,
        ulimits={"nofile": (1, 2), "core": 0},
        cap_add=["net_admin"],
        cap_drop=["KILL"],
        security_opt=["no-new-privileges", "unmask=/proc/acpi"],
        unmask=["/proc/keys"],
        privileged=False,
        devices=[Device(source="/dev/null", target="/dev/nil"), "/dev/zero"],
        sysctls=["net.core.somaxconn=10"],
        stop_signal="INT",
        stop_timeout=3,
        run_timeout="0.5",
        runtime="crun",
        cgroup_parent="/a/b/",
        cgroup_manager="cgroupfs",
        cgroupns="private",
        ipc="shareable",
        pid="container:other",
        uts="private",
        network="none",
        init=True,
        init_path="/bin/sh",
        shm_size="1m",
        oom_score_adj=-5,
        log_driver="json-file",
        log_opt={"path": str(tmp_path / "log"), "max-size": "1m", "max-file": "3"},
        pidfile=tmp_path / "pid",
        conmon_pidfile=tmp_path / "conmon",
        cidfile=tmp_path / "cid",
        interactive=True,
        tty=True,
        remove=True,
        umask="027",
        spec=lambda spec: spec,
        spec_patch={"process": {"oomScoreAdj": 1}},
        create_command=["longshore", "run"],
    )
    assert found.command == ("sh", "-c", "exit 3")
    assert found.entrypoint == ("/init",)
    assert found.labels == {"a": "1", "b": ""}
    assert [mount.target for mount in found.mounts] == ["/a", "/b", "/c", "/d"]
    assert (found.cpu_quota, found.cpu_period) == (150_000, 100_000)
    assert (found.memory, found.memory_swap, found.memory_reservation) == (64 << 20, -1, 32 << 20)
    assert found.pids_limit == -1
    assert found.ulimits == (
        Ulimit(name="RLIMIT_NOFILE", soft=1, hard=2),
        Ulimit(name="RLIMIT_CORE", soft=0, hard=0),
    )
    assert found.unmask == ("/proc/acpi", "/proc/keys")
    assert found.no_new_privileges
    assert [device.target for device in found.devices] == ["/dev/nil", "/dev/zero"]
    assert (found.ipc, found.pid, found.cgroup_parent) == ("shareable", "container:other", "/a/b")
    assert (found.stop_signal, found.stop_timeout, found.run_timeout) == (2, 3.0, 0.5)
    assert (found.log_driver, found.log_size_max) == ("k8s-file", 1 << 20)
    assert found.log_max_files == 3
    assert (found.workdir, found.umask, found.group_add) == ("/srv", 0o27, ("audio", "20"))
    # a record keeps it
    again = ContainerConfig.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": "echo hi"}, "a list of words is meant"),
        ({"command": b"true"}, "a list of words is meant"),
        ({"command": []}, "no command"),
        ({"command": None}, "no command"),
        ({"command": 5}, "not a list of words"),
        ({"command": ["a", 5]}, "not text"),
        ({"command": ["a", "b\0"]}, "NUL"),
        ({"command": ["", "b"]}, "name is empty"),
        ({"rootfs": "relative"}, "not an absolute path"),
        ({"rootfs": "/does/not/exist"}, "No such file"),
        ({"rootfs": "/etc/passwd"}, "not a directory"),
        ({"rootfs": ""}, "not an absolute path"),
        ({"memroy": 5}, "'memroy' is not an option"),
        ({"overlay": "yes"}, "neither True nor False"),
        ({"tty": 1}, "neither True nor False"),
        ({"env": {"A": 1}}, "env: 'A': 1 is not text"),
        ({"env": "A=1"}, "env: 'A=1' is not a list"),
        ({"env": ["=x"]}, "not a variable's name"),
        ({"env": {"A\n": "x"}}, "not a variable's name"),
        ({"env": {"A": "x\0"}}, "NUL"),
        ({"env": 5}, "not a list"),
        ({"workdir": "srv"}, "workdir: 'srv' is not an absolute path"),
        ({"user": "a b"}, "not USER"),
        ({"group_add": ["a:b"]}, "group_add"),
        ({"group_add": ["-1"]}, "group_add"),
        ({"hostname": "-h"}, "hostname"),
        ({"hostname": "h", "uts": "host"}, "would be the name of others"),
        ({"hostname": "h", "uts": "container:x"}, "would be the name of others"),
        ({"labels": ["=x"]}, "has no name"),
        ({"labels": {"a": None}}, "not text"),
        ({"volumes": "/a:/b"}, "is not a list"),
        ({"volumes": ["/usr:/b", "/tmp:/b/"]}, "both to be mounted on /b"),
        ({"volumes": ["/usr:/b"], "tmpfs": ["/b"]}, "both to be mounted on /b"),
        ({"mounts": [5]}, "5 is not str or Mount"),
        ({"tmpfs": ["relative"]}, "absolute path in the container"),
        ({"memory": "5m"}, "too few"),
        ({"memory": 0}, "between 1 byte"),
        ({"memory": -1}, "between 1 byte"),
        ({"memory": "lots"}, "not a size"),
        ({"memory_swap": "1g"}, "no memory limit"),
        ({"memory": "64m", "memory_swap": "32m"}, "below the memory limit"),
        ({"memory": "64m", "memory_reservation": "65m"}, "above the memory limit"),
        ({"memory_swappiness": 101}, "between 0 and 100"),
        ({"cpus": 0}, "cpus"),
        ({"cpus": math.nan}, "cpus"),
        ({"cpus": 1, "cpu_quota": 50_000}, "the same in another way"),
        ({"cpus": 1, "cpu_period": 50_000}, "the same in another way"),
        ({"cpu_quota": 999}, "between 1000"),
        ({"cpu_period": 999}, "between 1000"),
        ({"cpu_shares": 1}, "between 2"),
        ({"cpuset_cpus": "x"}, "cpuset_cpus"),
        ({"pids_limit": -2}, "pids_limit"),
        ({"pids_limit": 1.5}, "not a whole number"),
        ({"blkio_weight": 5}, "between 10 and 1000"),
        ({"oom_score_adj": 1001}, "oom_score_adj"),
        ({"ulimits": {"nofile": "1:2:3"}}, "whole number"),
        ({"ulimits": {"nofile": (2, 1)}}, "above the hard limit"),
        ({"ulimits": {"nofile": (1, 2, 3)}}, "neither a limit"),
        ({"ulimits": {"nofile": None}}, "neither a limit"),
        ({"ulimits": ["nofile=1", "RLIMIT_NOFILE=2"]}, "given twice"),
        ({"cap_add": "NET_ADMIN"}, "is not a list"),
        ({"cap_add": ["X"]}, "not a capability"),
        ({"cap_add": ["KILL"], "cap_drop": ["CAP_KILL"]}, "in cap_drop too"),
        ({"security_opt": ["x"]}, "not known"),
        ({"devices": ["/dev/null:/x", "/dev/zero:/x"]}, "two of them"),
        ({"sysctls": {"vm.swappiness": "1"}}, "whole host"),
        ({"sysctls": {"net.core.somaxconn": "1"}, "network": "host"}, "would change the host"),
        ({"sysctls": {"net.core.somaxconn": "1\n2"}}, "newline"),
        ({"stop_signal": "X"}, "stop_signal"),
        ({"stop_timeout": -1}, "stop_timeout"),
        ({"run_timeout": math.inf}, "run_timeout"),
        ({"runtime": "./crun"}, "neither a name nor an absolute path"),
        ({"runtime": "--root"}, "neither a name nor an absolute path"),
        ({"cgroup_parent": "../x"}, "cgroup_parent"),
        ({"cgroup_parent": "/a/../b"}, "cgroup_parent"),
        ({"cgroup_parent": "a"}, "not an absolute path"),
        ({"cgroup_parent": "/"}, "cgroup_parent"),
        ({"cgroup_parent": "-x.slice"}, "cgroup_parent"),
        ({"cgroup_manager": "docker"}, "cgroup_manager"),
        ({"pid": "none"}, "pid"),
        ({"init_path": "/bin/sh"}, "init is not asked for"),
        ({"init": True, "init_path": "sh"}, "not an absolute path"),
        ({"shm_size": "1m", "ipc": "host"}, "not the container's own"),
        ({"ipc": "container:x", "tmpfs": {"/dev/shm/a": ""}}, "/dev/shm/a would be hidden"),
        ({"log_driver": "syslog"}, "not known"),
        ({"log_opt": ["path=relative"]}, "not an absolute path"),
        ({"log_opt": ["max_size=1m"]}, "'max_size' is not known"),
        ({"log_opt": ["max-size=x"]}, "not a size"),
        ({"log_opt": ["max-file=0"]}, "between 1 and 1000"),
        ({"log_opt": ["max-files=2"]}, "'max-files' is not known"),
        ({"log_driver": "none", "log_opt": ["max-size=1m"]}, "there is no log"),
        ({"pidfile": "pid"}, "not an absolute path"),
        ({"conmon_pidfile": "/does/not/exist/pid"}, "no directory"),
        ({"cidfile": "/etc/passwd"}, "exists"),
        ({"umask": "9"}, "not octal"),
        ({"unmask": ["relative"]}, "not an absolute path"),
        ({"spec": {}}, "cannot be called"),
        ({"spec_patch": [1]}, "not a mapping"),
        ({"spec_patch": {"a": object()}}, "not JSON"),
        ({"spec_patch": {"a": math.nan}}, "not JSON"),
        ({"create_command": "longshore run"}, "a list of words is meant"),
        ({"entrypoint": ["", "x"]}, "name is empty"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    before = os.listdir(tmp_path)
    with pytest.raises(InvalidArgument, match=message):
        config(tmp_path, **options)
    assert os.listdir(tmp_path) == before


@pytest.mark.parametrize(
    "options",
    [
        {"network": "bridge"},
        {"volumes": ["data:/x"]},
        {"log_driver": "journald"},
        {"log_driver": "passthrough"},
    ],
)
def test_what_is_to_come(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(HostUnsupported, match=r"yet|this version"):
        config(tmp_path, **options)


def test_there_are_no_images_yet(tmp_path: Path) -> None:
    with pytest.raises(HostUnsupported) as caught:
        normalize("alpine", ["true"], {}, name="box")
    assert "rootfs=" in str(caught.value.hint)
    with pytest.raises(InvalidArgument, match="both an image"):
        normalize("alpine", ["true"], {"rootfs": str(tmp_path)}, name="box")
    with pytest.raises(InvalidArgument, match="nothing to run from"):
        normalize(None, ["true"], {}, name="box")


def test_a_bad_name() -> None:
    with pytest.raises(InvalidArgument, match="name: '-x'"):
        normalize(None, ["true"], {"rootfs": "/"}, name="-x")


def test_the_hosts_own_root_is_no_containers(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    for rootfs in ("/", str(tmp_path / "link")):
        with pytest.raises(InvalidArgument, match="own root") as caught:
            config(tmp_path, rootfs=rootfs)
        assert "/:O" in str(caught.value.hint)
        assert config(tmp_path, rootfs=rootfs, overlay=True).rootfs == "/"


@pytest.mark.parametrize(
    ("option", "value", "words", "hint"),
    [
        ("labels", [""], "labels: '' has no name", "NAME=VALUE"),
        ("labels", ["=x"], "labels: '=x' has no name", "NAME=VALUE"),
        ("annotations", {"": "x"}, "annotations: '=x' has no name", "NAME=VALUE"),
        ("devices", [""], "devices: ''", None),
        ("env", ["A b=c"], "env: 'A b' is not a variable's name", "white space"),
        ("env", {"A\t": "c"}, "is not a variable's name", "white space"),
        ("volumes", {"/tmp": "/mnt"}, "is a mapping; a list is meant", "volumes=['/tmp:/mnt']"),
        ("cap_add", {"chown": True}, "is a mapping; a list is meant", "cap_add="),
    ],
)
def test_words_for_slips(
    tmp_path: Path, option: str, value: Any, words: str, hint: str | None
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        config(tmp_path, **{option: value})
    assert words in str(caught.value)
    assert hint is None or hint in str(caught.value.hint)


def test_a_misspelt_option_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        config(tmp_path, memroy="64m")
    assert caught.value.hint == "did you mean 'memory'?"


def test_a_text_as_command_gets_the_list_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        config(tmp_path, command="echo hi")
    assert caught.value.hint is not None
    assert "['echo', 'hi']" in caught.value.hint


@pytest.mark.parametrize(
    ("entrypoint", "words"),
    [
        ("", ()),
        ("/init", ("/init",)),
        ("/a program", ("/a program",)),
        ('["sh", "-c"]', ("sh", "-c")),
        ("[broken", ("[broken",)),
        (["a", "b"], ("a", "b")),
        ([], ()),
    ],
)
def test_entrypoints(tmp_path: Path, entrypoint: Any, words: tuple[str, ...]) -> None:
    assert config(tmp_path, entrypoint=entrypoint).entrypoint == words


def test_an_entrypoint_alone_is_a_command(tmp_path: Path) -> None:
    assert config(tmp_path, command=None, entrypoint="/init").command == ()


def test_the_callers_objects_are_not_kept(tmp_path: Path) -> None:
    env, patch = {"A": "1"}, {"process": {"args": ["x"]}}
    found = config(tmp_path, env=env, spec_patch=patch, labels=env)
    env["A"] = "2"
    patch["process"]["args"].append("y")
    assert found.env == {"A": "1"}
    assert found.labels == {"A": "1"}
    assert found.spec_patch == {"process": {"args": ["x"]}}


def test_env_by_name_takes_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_CALLER", "x")
    monkeypatch.delenv("NOT_THERE", raising=False)
    assert config(tmp_path, env=["FROM_CALLER", "NOT_THERE", "B=1"]).env == {
        "FROM_CALLER": "x",
        "B": "1",
    }


def test_a_rootfs_that_is_a_link_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    found = config(tmp_path, rootfs=tmp_path / "link")
    assert found.rootfs == str(tmp_path / "real")


def test_words_that_podman_users_write_for_the_default(tmp_path: Path) -> None:
    found = config(tmp_path, ulimits=["host"], memory_swappiness=-1, pids_limit="-1")
    assert found.ulimits == ()
    assert found.memory_swappiness is None
    assert found.pids_limit == -1
