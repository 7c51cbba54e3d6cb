"""CDI devices: the files that describe them, which one counts, and what becomes of a spec."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_oci_build import spec_of

from hostkit import ROOT
from longshore import _log
from longshore.errors import HostUnsupported, InvalidArgument
from longshore.models import Mount
from longshore.oci.cdi import resolve
from longshore.oci.edits import EditedNode, Edits
from longshore.oci.users import ResolvedUser

KIND = "vendor.example/device"
NULL = os.stat("/dev/null")

# In the form that nvidia-ctk writes, with paths that are everywhere.
YAML = """\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
    hostPath: /dev/null
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - update-ldcache
    - --folder
    - /usr/lib
    hookName: createContainer
    path: /bin/true
  mounts:
  - containerPath: /usr/bin/nvidia-smi
    hostPath: /bin/true
    options:
    - ro
    - nosuid
    - nodev
    - rbind
    - rprivate
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      hostPath: /dev/zero
      fileMode: 438
      permissions: rw
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia1
      hostPath: /dev/full
      fileMode: 0666
  name: 1:0
- containerEdits:
    deviceNodes:
    - {path: /dev/nvidia0, hostPath: /dev/zero}
    - {path: /dev/nvidia1, hostPath: /dev/full}
  name: all
kind: nvidia.com/gpu
"""


def document(edits: dict[str, Any], /, **changes: Any) -> dict[str, Any]:
    """Return a file of devices with these edits; a change of None takes a key away."""
    made = {
        "cdiVersion": "0.6.0",
        "kind": KIND,
        "devices": [{"name": n, "containerEdits": e} for n, e in edits.items()],
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def env(value: str) -> dict[str, Any]:
    return {"env": [f"FROM={value}"]}


def one(top: Path, edits: Any, **changes: Any) -> Edits:
    """Return the edits of a device that has these."""
    write(top / "one.json", document({"d": edits}, **changes))
    return resolve([f"{KIND}=d"], [str(top)])


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(_log, "warn", said.append)
    return said


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_nvidia_ctk_writes(tmp_path: Path, form: str) -> None:
    text = YAML
    if form == "json":
        loaded = yaml.safe_load(YAML)
        loaded["devices"][1]["name"] = "1:0"  # which YAML 1.1 takes for 60
        text = json.dumps(loaded)
    write(tmp_path / f"nvidia.{form}", text)
    common = EditedNode(path="/dev/nvidiactl", type="c", major=1, minor=3)
    zero = EditedNode(path="/dev/nvidia0", type="c", major=1, minor=5, mode=0o666, access="rw")
    found = resolve(["nvidia.com/gpu=0"], [str(tmp_path)])
    assert found == Edits(
        env=("NVIDIA_VISIBLE_DEVICES=void",),
        nodes=(common, zero),
        mounts=(
            {
                "destination": "/usr/bin/nvidia-smi",
                "type": "bind",
                "source": "/bin/true",
                "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
            },
        ),
        hooks=(
            (
                "createContainer",
                {
                    "path": "/bin/true",
                    "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib"],
                },
            ),
        ),
    )
    # what is for all devices of a file is there once
    two = resolve(["nvidia.com/gpu=0", "nvidia.com/gpu=1:0"], [str(tmp_path)])
    assert [node.path for node in two.nodes] == ["/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1"]
    assert two.nodes[2].mode == 0o666
    assert resolve(["nvidia.com/gpu=all"], [str(tmp_path)]).nodes[1:] == (
        zero.replace(mode=None, access="rwm"),
        EditedNode(path="/dev/nvidia1", type="c", major=1, minor=7),
    )


def test_all_without_a_device_of_that_name_is_every_device(tmp_path: Path) -> None:
    write(tmp_path / "a.json", document({"0": env("0"), "1": env("1")}, containerEdits=env("a")))
    write(tmp_path / "b.json", document({"2": env("2")}))
    write(tmp_path / "c.json", document({"3": env("3")}, kind="other.example/device"))
    found = resolve([f"{KIND}=all", f"{KIND}=1"], [str(tmp_path)])
    assert found.env == ("FROM=a", "FROM=0", "FROM=1", "FROM=2")


def test_the_later_directory_is_stronger(tmp_path: Path) -> None:
    write(tmp_path / "1/a.json", document({"d": env("1"), "e": env("1")}, containerEdits=env("f1")))
    write(tmp_path / "2/b.yaml", json.dumps(document({"d": env("2")}, containerEdits=env("f2"))))
    directories = [str(tmp_path / "1"), str(tmp_path / "2"), str(tmp_path / "gone")]
    assert resolve([f"{KIND}=d"], directories).env == ("FROM=f2", "FROM=2")
    both = resolve([f"{KIND}=e", f"{KIND}=d"], directories)
    assert both.env == ("FROM=f1", "FROM=1", "FROM=f2", "FROM=2")


def test_files_that_disagree(tmp_path: Path) -> None:
    first = write(tmp_path / "1/a.json", document({"d": env("1"), "e": env("1")}))
    second = write(tmp_path / "1/b.json", document({"d": env("2")}))
    with pytest.raises(InvalidArgument, match="is in") as caught:
        resolve([f"{KIND}=d"], [str(tmp_path / "1")])
    assert str(first) in str(caught.value) and str(second) in str(caught.value)
    assert resolve([f"{KIND}=e"], [str(tmp_path / "1")]).env == ("FROM=1",)
    write(tmp_path / "2/c.json", document({"d": env("3")}))
    found = resolve([f"{KIND}=d"], [str(tmp_path / "1"), str(tmp_path / "2")])
    assert found.env == ("FROM=3",)


def test_an_unknown_device_lists_what_there_is(tmp_path: Path) -> None:
    write(tmp_path / "a.json", document({"d": env("1"), "c": env("1")}))
    write(tmp_path / "b.json", document({"x": env("1")}, kind="other.example/x"))
    for name in (f"{KIND}=nosuch", "nosuch.example/x=all"):
        with pytest.raises(InvalidArgument, match=f"no CDI device {name}") as caught:
            resolve([name], [str(tmp_path)])
        assert caught.value.hint == f"there are other.example/x=x, {KIND}=c, {KIND}=d"
    with pytest.raises(InvalidArgument) as caught:
        resolve([f"{KIND}=d"], ["/does/not", "/exist"])
    assert caught.value.hint == "/does/not and /exist have none"


def test_a_file_that_cannot_be_read(tmp_path: Path, warnings: list[str]) -> None:
    write(tmp_path / "a.json", document({"d": env("1")}))
    bad = write(tmp_path / "bad.json", "{")
    write(tmp_path / "notes.txt", "{")
    (tmp_path / "directory.json").mkdir()
    assert resolve([f"{KIND}=d"], [str(tmp_path)]).env == ("FROM=1",)
    assert len(warnings) == 1 and str(bad) in warnings[0]
    with pytest.raises(InvalidArgument, match="no CDI device") as caught:
        resolve([f"{KIND}=e"], [str(tmp_path)])
    assert [str(bad) in note for note in caught.value.__notes__] == [True]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cdiVersion": None}, "cdiVersion is missing"),
        ({"cdiVersion": "0.2.0"}, "cdiVersion '0.2.0' is not known"),
        ({"cdiVersion": "9.0.0"}, "cdiVersion '9.0.0' is not known"),
        ({"kind": None}, "kind is missing"),
        ({"kind": "vendor"}, "kind 'vendor' is not"),
        ({"kind": "vendor/"}, "is not VENDOR/CLASS"),
        ({"devices": []}, "there are no devices"),
        ({"devices": {}}, "devices: it is not a list"),
        ({"devices": [{"containerEdits": {}}]}, r"devices\[0\]: name is missing"),
        ({"devices": [{"name": "a b", "containerEdits": {}}]}, "'a b' is not a device's name"),
        ({"devices": [{"name": "a"}]}, "containerEdits is missing"),
        ({"devices": [{"name": "a", "containerEdits": {}}] * 2}, "another device 'a'"),
        ({"devices": [{"name": "a", "containerEdits": {}, "x": 1}]}, "'x' is not known"),
        ({"containeredits": {}}, "'containeredits' is not known"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    write(tmp_path / "a.json", document({"d": env("1")}, **changes))
    with pytest.raises(InvalidArgument) as caught:
        resolve([f"{KIND}=d"], [str(tmp_path)])
    (note,) = caught.value.__notes__  # and not the message: another file could have it
    assert str(tmp_path / "a.json") in note
    assert re.search(why, note), note


@pytest.mark.parametrize(
    "version", ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "v0.8.0"]
)
def test_versions(tmp_path: Path, version: str) -> None:
    assert one(tmp_path, env("1"), cdiVersion=version).env == ("FROM=1",)


def test_annotations_change_nothing(tmp_path: Path) -> None:
    devices = [{"name": "d", "annotations": {"a": "b"}, "containerEdits": env("1")}]
    assert one(tmp_path, {}, annotations={"a": "b"}, devices=devices) == Edits(env=("FROM=1",))


# --- YAML -------------------------------------------------------------------------------------


def test_pyyaml_has_one_door() -> None:
    users = [
        path.name
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"^\s*(?:import|from) yaml", path.read_text(), re.M)
    ]
    assert users == ["yamlfile.py"]
    code = (
        "import longshore.oci.cdi, longshore.engine.injected, sys; sys.exit('yaml' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("loader", ["CBaseLoader", "BaseLoader"])
def test_with_libyaml_and_without(monkeypatch: pytest.MonkeyPatch, loader: str) -> None:
    from longshore.oci.fields import Plain
    from longshore.oci.yamlfile import read_yaml

    monkeypatch.setattr(yaml, "CBaseLoader", getattr(yaml, loader), raising=False)
    found: Any = read_yaml(YAML.encode(), "x")
    names = [device["name"] for device in found["devices"]]
    assert names == ["0", "1:0", "all"]
    assert [isinstance(name, Plain) for name in names] == [False, True, True]


def test_yaml_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.yaml", YAML)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InvalidArgument, match=r"no CDI device nvidia\.com/gpu=0") as caught:
        resolve(["nvidia.com/gpu=0"], [str(tmp_path)])
    assert "pip install PyYAML" in str(caught.value.hint)
    assert "--format=json" in str(caught.value.hint)
    assert str(path) in "".join(caught.value.__notes__)
    from longshore.oci.yamlfile import read_yaml

    with pytest.raises(HostUnsupported, match="PyYAML"):
        read_yaml(b"a: 1", "x.yaml")


# each line is nine times the one before it
BOMB = "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}' if i else 'x'] * 9)}]\n" for i in range(9))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not YAML"),
        ("a: &x [*x]", "refers to itself"),
        ("a: 1\na: 2", "line 2: 'a' is there twice"),
        ("[1]: 2", "a key is not text"),
        ("", "not an object"),
        ("\udc80", "is not YAML"),
        ("!!python/object/apply:os.system [echo]", "not an object"),
        (BOMB, "too large"),
    ],
    ids=range(8),
)  # fmt: skip
def test_yaml_that_makes_no_sense(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidArgument) as caught:
        resolve([f"{KIND}=d"], [str(tmp_path)])
    assert why in caught.value.__notes__[0]


def test_plain_words_of_yaml_are_what_they_are_for(tmp_path: Path) -> None:
    text = f"""
cdiVersion: 0.7.0
kind: {KIND}
annotations: ~
devices:
- name: 00
  containerEdits:
    env: [A=yes, "B=1"]
    deviceNodes:
    - {{path: /dev/a, type: c, major: 0x1, minor: 0o3, uid: 010, gid: null, permissions: r}}
    mounts:
    intelRdt: {{closID: 12, enableCMT: true, enableMBM: false}}
    additionalGids: [0, 12]
"""
    write(tmp_path / "a.yaml", text)
    assert resolve([f"{KIND}=00"], [str(tmp_path)]) == Edits(
        env=("A=yes", "B=1"),
        nodes=(EditedNode(path="/dev/a", type="c", major=1, minor=3, uid=8, access="r"),),
        gids=(0, 12),
        intel_rdt={"closID": "12", "enableCMT": True},
    )


def test_quoted_numbers_are_no_numbers(tmp_path: Path) -> None:
    node = '{path: /dev/a, type: c, major: "1"}'
    devices = f"[{{name: d, containerEdits: {{deviceNodes: [{node}]}}}}]"
    write(tmp_path / "a.yaml", f"cdiVersion: 0.6.0\nkind: {KIND}\ndevices: {devices}\n")
    with pytest.raises(InvalidArgument, match=r"major: '1' is not a whole number"):
        resolve([f"{KIND}=d"], [str(tmp_path)])


# --- edits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "made"),
    [
        ({"path": "/dev/null"}, {"type": "c", "major": 1, "minor": 3}),
        ({"path": "/dev/x", "hostPath": "/dev/null"}, {"type": "c", "major": 1, "minor": 3}),
        ({"path": "/dev/null", "type": "c"}, {"type": "c", "major": 1, "minor": 3}),
        ({"path": "/dev/null", "type": "u"}, {"type": "c", "major": 1, "minor": 3}),
        ({"path": "/dev/gone", "type": "b", "major": 8, "minor": 1},
         {"type": "b", "major": 8, "minor": 1}),
        ({"path": "/dev/gone", "type": "p"}, {"type": "p"}),
        ({"path": "/dev/null", "major": 5, "minor": 6}, {"type": "c", "major": 5, "minor": 6}),
        ({"path": "/dev/null", "fileMode": 0o20660, "uid": 1, "gid": 0, "permissions": "r"},
         {"type": "c", "major": 1, "minor": 3, "mode": 0o660, "uid": 1, "gid": 0, "access": "r"}),
    ],
)  # fmt: skip
def test_device_nodes_get_the_facts_of_the_host(
    tmp_path: Path, node: dict[str, Any], made: dict[str, Any]
) -> None:
    assert stat.S_ISCHR(NULL.st_mode)
    found = one(tmp_path, {"deviceNodes": [node]})
    assert found == Edits(nodes=(EditedNode(path=node["path"], **made),))


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ({"env": ["A"]}, "'A' is not NAME=VALUE"),
        ({"env": "A=1"}, "env: it is not a list"),
        ({"devicenodes": []}, "'devicenodes' is not known"),
        ({"deviceNodes": [{}]}, r"deviceNodes\[0\]: path is missing"),
        ({"deviceNodes": [{"path": "dev/x"}]}, "not an absolute path"),
        ({"deviceNodes": [{"path": "/dev/gone-x"}]}, "/dev/gone-x: No such file"),
        ({"deviceNodes": [{"path": "/etc/passwd"}]}, "/etc/passwd is not a device"),
        ({"deviceNodes": [{"path": "/dev/null", "type": "b"}]}, "not a device of type b"),
        ({"deviceNodes": [{"path": "/dev/null", "type": "x"}]}, "type 'x' is not"),
        ({"deviceNodes": [{"path": "/dev/null", "permissions": "x"}]}, "permissions 'x'"),
        ({"deviceNodes": [{"path": "/dev/null", "uid": -1}]}, "not between 0"),
        ({"deviceNodes": [{"path": "/dev/null", "hostpath": "/x"}]}, "'hostpath' is not known"),
        ({"mounts": [{"containerPath": "/x"}]}, "hostPath is missing"),
        ({"mounts": [{"hostPath": "/etc"}]}, "containerPath is missing"),
        ({"mounts": [{"hostPath": "/gone", "containerPath": "/x"}]}, "/gone is not there"),
        ({"hooks": [{"hookName": "x", "path": "/bin/true"}]}, "hookName 'x' is not known"),
        ({"hooks": [{"hookName": "poststop", "path": "true"}]}, "'true' is not absolute"),
        ({"hooks": [{"hookName": "poststop", "path": "/gone"}]}, "/gone: No such file"),
        ({"hooks": [{"hookName": "poststop", "path": "/bin/true", "timeout": 0}]}, "timeout"),
        ({"additionalGids": [-1]}, "not between 0"),
        ({"intelRdt": {"closID": "a/b"}}, "closID 'a/b'"),
        ({"netDevices": [{}]}, "'netDevices' is not known"),
    ],
)
def test_edits_that_cannot_be(tmp_path: Path, edits: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        one(tmp_path, edits)
    assert str(tmp_path / "one.json") in str(caught.value)
    # and in what is for every device of the file
    with pytest.raises(InvalidArgument, match=why):
        one(tmp_path, {}, containerEdits=edits)


def test_mounts(tmp_path: Path) -> None:
    asked = [
        {"hostPath": "/etc", "containerPath": "/a"},
        {"hostPath": "/etc", "containerPath": "/b/", "type": "none", "options": ["ro", "bind"]},
        {"hostPath": "tmpfs", "containerPath": "/c", "type": "tmpfs", "options": ["size=1m"]},
    ]
    found = one(tmp_path, {"mounts": asked}).mounts
    assert [tuple(mount.values()) for mount in found] == [
        ("/a", "bind", "/etc", ["rbind"]),
        ("/b", "bind", "/etc", ["ro", "bind"]),
        ("/c", "tmpfs", "tmpfs", ["size=1m"]),
    ]


def test_both_spellings_of_additional_gids(tmp_path: Path) -> None:
    assert one(tmp_path, {"additionalGids": [1], "additionalGIDs": [2]}).gids == (1, 2)


# --- the spec ---------------------------------------------------------------------------------

EDITS = Edits(
    env=("A=cdi", "TERM=cdi", "NEW=1"),
    nodes=(
        EditedNode(path="/dev/x", type="c", major=1, minor=3, mode=0o660, access="rw"),
        EditedNode(path="/dev/p", type="p", uid=7, gid=8),
    ),
    mounts=(
        {"destination": "/dev/shm", "type": "bind", "source": "/s", "options": ["rbind"]},
        {"destination": "/opt/a/b", "type": "bind", "source": "/b", "options": ["rbind"]},
        {"destination": "/opt", "type": "bind", "source": "/o", "options": ["rbind"]},
    ),
    hooks=(("poststop", {"path": "/h"}), ("poststop", {"path": "/i"})),
    gids=(0, 5, 6, 5),
    intel_rdt={"closID": "x", "enableMBM": True},
)


def test_the_spec_of_everything() -> None:
    user = ResolvedUser(uid=1, gid=2, groups=(5,))
    spec = spec_of(
        {"env": {"A": "own", "B": "own"}},
        cdi=EDITS,
        user=user,
        hooks={"poststop": [{"path": "/d"}], "prestart": [{"path": "/e"}]},
    )
    plain = spec_of({"env": {"A": "own", "B": "own"}}, user=user)
    before = plain["process"]["env"]
    changed = {"A=own": "A=cdi", "TERM=xterm": "TERM=cdi"}
    assert spec["process"]["env"] == [*(changed.get(word, word) for word in before), "NEW=1"]
    assert spec["process"]["user"]["additionalGids"] == [5, 6]
    assert spec["linux"]["devices"] == [
        {
            "path": "/dev/x",
            "type": "c",
            "major": 1,
            "minor": 3,
            "uid": 1,
            "gid": 2,
            "fileMode": 432,
        },
        {"path": "/dev/p", "type": "p", "major": 0, "minor": 0, "uid": 7, "gid": 8},
    ]
    assert spec["linux"]["resources"]["devices"] == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
    ]
    targets = [mount["destination"] for mount in spec["mounts"]]
    assert targets.index("/opt") < targets.index("/dev/shm") < targets.index("/opt/a/b")
    assert targets.count("/dev/shm") == 1
    assert spec["hooks"] == {
        "poststop": [{"path": "/h"}, {"path": "/i"}, {"path": "/d"}],
        "prestart": [{"path": "/e"}],
    }
    assert spec["linux"]["intelRdt"] == {"closID": "x", "enableMBM": True}


def test_a_device_replaces_the_same_device() -> None:
    from longshore.oci.context import HostDevice

    own = HostDevice(path="/dev/x", type="c", major=1, minor=3, access="r")
    spec = spec_of(cdi=EDITS, devices=(own,))
    assert [device["path"] for device in spec["linux"]["devices"]] == ["/dev/x", "/dev/p"]
    assert spec["linux"]["devices"][0]["fileMode"] == 0o660


def test_a_mount_that_was_asked_for_is_not_replaced() -> None:
    mount = Mount(type="bind", source="/mine", target="/opt", options=("rbind",))
    with pytest.raises(InvalidArgument, match="/o on /opt, where another mount is to be"):
        spec_of({"mounts": (mount,)}, cdi=EDITS)


def test_the_patch_comes_after_cdi_devices() -> None:
    patch = {"hooks": None, "linux": {"intelRdt": {"closID": "y"}}}
    spec = spec_of({"spec_patch": patch}, cdi=EDITS, hooks={"poststop": [{"path": "/d"}]})
    assert "hooks" not in spec
    assert spec["linux"]["intelRdt"] == {"closID": "y", "enableMBM": True}


def test_edits_are_not_shared_between_specs() -> None:
    first: Any = spec_of(cdi=EDITS)
    from longshore.oci.build import build_spec
    from longshore.oci.context import SpecContext
    from longshore.options import ContainerConfig

    config = ContainerConfig(name="a", rootfs="/srv", command=("true",))
    host = SpecContext(id="a" * 64, rootfs="/m", cgroup_path="/x", cdi=EDITS)
    made: Any = build_spec(config, host)
    made["hooks"]["poststop"][0]["path"] = "/other"
    made["linux"]["intelRdt"]["closID"] = "other"
    next(m for m in made["mounts"] if m["destination"] == "/opt")["options"].append("ro")
    assert spec_of(cdi=EDITS) == first


PATCHES = (
    {"linux": {"intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=70"}}},
    {"linux": {"intelRdt": {"enableCMT": True, "enableMBM": True}}},
    {"linux": {"personality": {"domain": "LINUX32", "flags": []}}},
    {"linux": {"rootfsPropagation": "slave", "mountLabel": "x"}},
    {"linux": {"resources": {"unified": {"memory.high": "1"}}}},
    {"linux": {"resources": {"rdma": {"mlx5_1": {"hcaHandles": 3}}}}},
    {"linux": {"resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": 9}]}}},
    {"linux": {"resources": {"network": {"priorities": [{"name": "lo", "priority": 5}]}}}},
    {"linux": {"timeOffsets": {"monotonic": {"secs": 1}}}},
    {"domainname": "example", "hooks": {"createRuntime": [{"path": "/bin/true"}]}},
)  # fmt: skip


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: str(next(iter(patch.values())))[:30])
def test_what_no_option_has_goes_through_the_patch(patch: dict[str, Any]) -> None:
    spec = spec_of({"spec_patch": patch})  # which holds it against the schema

    def within(part: Any, whole: Any) -> bool:
        if isinstance(part, dict):
            return all(key in whole and within(value, whole[key]) for key, value in part.items())
        return bool(part == whole)

    assert within(patch, spec)
