"""Security options, sysctls and namespace modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.options import security

NOTHING: dict[str, Any] = {
    "no_new_privileges": False,
    "seccomp": "",
    "apparmor": "",
    "selinux_opts": (),
    "mask": (),
    "unmask": (),
}


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], {}),
        (["no-new-privileges"], {"no_new_privileges": True}),
        (["no-new-privileges=true"], {"no_new_privileges": True}),
        (["no-new-privileges:true"], {"no_new_privileges": True}),
        (["no-new-privileges:false"], {"no_new_privileges": False}),
        (["seccomp=unconfined"], {"seccomp": "unconfined"}),
        (["seccomp:unconfined"], {"seccomp": "unconfined"}),
        (["apparmor=unconfined"], {"apparmor": "unconfined"}),
        (["label=disable"], {"selinux_opts": ("disable",)}),
        (["label:type:spc_t", "label=level:s0:c1,c2"],
         {"selinux_opts": ("type:spc_t", "level:s0:c1,c2")}),
        (["mask=/a:/b", "mask=/c"], {"mask": ("/a", "/b", "/c")}),
        (["unmask=ALL"], {"unmask": ("ALL",)}),
        (["unmask=all"], {"unmask": ("ALL",)}),
        (["unmask=/proc/acpi:/proc/*"], {"unmask": ("/proc/acpi", "/proc/*")}),
    ],
)  # fmt: skip
def test_security_options(values: list[str], found: dict[str, Any]) -> None:
    assert security.parse_security(values) == NOTHING | found


def test_a_seccomp_profile_is_a_file(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text("{}")
    assert security.parse_security([f"seccomp={profile}"])["seccomp"] == str(profile)
    with pytest.raises(InvalidArgument, match="not a regular file"):
        security.parse_security([f"seccomp={tmp_path}"])


@pytest.mark.parametrize(
    "value",
    ["", "seccomp", "seccomp=", "seccomp=p.json", "seccomp=/does/not/exist", "secomp=unconfined",
     "no-new-privileges=perhaps", "label=loud", "label=type:", "mask=relative", "mask=/a::/b",
     "unmask=",
     "apparmor", "-x"],
)  # fmt: skip
def test_security_options_that_make_no_sense(value: str) -> None:
    with pytest.raises(InvalidArgument, match="security_opt"):
        security.parse_security([value])


def test_security_options_to_come() -> None:
    with pytest.raises(HostUnsupported):
        security.parse_security(["proc-opts=hidepid=2"])


@pytest.mark.parametrize(
    "name",
    ["kernel.msgmax", "kernel.sem", "kernel.shm_rmid_forced", "fs.mqueue.msg_max",
     "net.core.somaxconn",
     "net.ipv4.conf.all.forwarding"],
)  # fmt: skip
def test_sysctls(name: str) -> None:
    assert security.check_sysctls({name: "1"}, ipc="", network="none") == {name: "1"}


@pytest.mark.parametrize(
    "name",
    ["vm.swappiness", "kernel.panic", "kernel.hostname", "net", "", "net/ipv4/ip_forward", "net..x",
     "fs.file-max", "net.ipv4.", "Net.ipv4", "kernel.msgmax.x", "net.\0", "net./../kernel"],
)  # fmt: skip
def test_sysctls_that_are_not_a_containers(name: str) -> None:
    with pytest.raises(InvalidArgument, match="sysctls"):
        security.check_sysctls({name: "1"}, ipc="", network="")


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        ("net.core.somaxconn", {"ipc": "", "network": "host"}),
        ("kernel.msgmax", {"ipc": "host", "network": ""}),
        ("fs.mqueue.msg_max", {"ipc": "host", "network": ""}),
    ],
)
def test_a_sysctl_never_changes_the_host(name: str, modes: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="would change the host"):
        security.check_sysctls({name: "1"}, **modes)


@pytest.mark.parametrize("kind", ["network", "pid", "ipc", "uts", "cgroupns"])
@pytest.mark.parametrize("mode", ["", "host", "private", "container:web-1", "ns:/proc/self/ns/net"])
def test_namespaces(kind: str, mode: str) -> None:
    assert security.namespace(kind, mode) == mode
    assert security.namespace(kind, None) == ""


def test_namespaces_of_one_kind_only() -> None:
    assert security.namespace("network", "none") == "none"
    assert security.namespace("ipc", "none") == "none"
    assert security.namespace("ipc", "shareable") == "shareable"
    assert security.namespace("userns", "host") == "host"


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("pid", "none"), ("uts", "none"), ("pid", "bridge"), ("pid", "container:"), ("pid",
     "container:-x"),
     ("pid", "ns:"), ("pid", "ns:relative"), ("pid", "ns:/does/not/exist"), ("network",
      "container:a b"),
     ("network", "--x"), ("uts", "shareable"), ("pid", 5), ("network", "host\0")],
)  # fmt: skip
def test_namespaces_that_make_no_sense(kind: str, mode: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{kind}: "):
        security.namespace(kind, mode)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("network", "bridge"), ("network", "slirp4netns:port_handler=rootlesskit"), ("network",
     "pasta"),
     ("network", "mynet")],
)  # fmt: skip
def test_namespaces_to_come(kind: str, mode: str) -> None:
    with pytest.raises(HostUnsupported, match=f"{kind}={mode}"):
        security.namespace(kind, mode)
