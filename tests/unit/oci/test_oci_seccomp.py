"""Seccomp profiles: which rules apply, and in which form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.oci.seccomp import convert, find_profile, read_profile

ALLOW = "SCMP_ACT_ALLOW"


def names(rules: list[dict[str, Any]], **where: Any) -> list[str]:
    """Return the system calls whose rules apply."""
    host: dict[str, Any] = {"machine": "x86_64", "kernel": "6.1.0-9-amd64", "caps": frozenset()}
    found = convert({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}, **{**host, **where})
    return [name for rule in found.get("syscalls", []) for name in rule["names"]]


@pytest.mark.parametrize(
    ("condition", "where", "applies"),
    [
        ({}, {}, True),
        ({"includes": {"arches": ["amd64", "x32"]}}, {}, True),
        ({"includes": {"arches": ["arm64"]}}, {}, False),
        ({"includes": {"arches": ["arm64"]}}, {"machine": "aarch64"}, True),
        ({"excludes": {"arches": ["amd64"]}}, {}, False),
        ({"excludes": {"arches": ["s390x"]}}, {}, True),
        ({"includes": {"caps": ["CAP_BPF"]}}, {}, False),
        ({"includes": {"caps": ["CAP_BPF"]}}, {"caps": {"CAP_BPF"}}, True),
        ({"includes": {"caps": ["CAP_BPF", "CAP_KILL"]}}, {"caps": {"CAP_BPF"}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, {"caps": {"CAP_BPF"}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, {"caps": {"CAP_KILL"}}, True),
        ({"includes": {"minKernel": "4.8"}}, {}, True),
        ({"includes": {"minKernel": "6.2"}}, {}, False),
        ({"includes": {"minKernel": "6.1"}}, {}, True),
        ({"includes": {"minKernel": "5.20"}}, {}, True),
        ({"excludes": {"minKernel": "4.8"}}, {}, False),
        ({"excludes": {"minKernel": "6.2"}}, {}, True),
        ({"includes": {}, "excludes": {}}, {}, True),
        ({"includes": None, "excludes": {"caps": None, "arches": None}}, {}, True),
    ],
)
def test_which_rules_apply(condition: dict[str, Any], where: dict[str, Any], applies: bool) -> None:
    rule = {"names": ["bpf"], "action": ALLOW, **condition}
    assert names([rule], **where) == (["bpf"] if applies else [])


def test_the_form_of_a_rule() -> None:
    found = convert(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrno": "ENOSYS",
            "defaultErrnoRet": 1,
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            ],
            "syscalls": [
                {"name": "old", "action": ALLOW, "comment": "a singular name"},
                {
                    "names": ["socket"],
                    "action": "SCMP_ACT_ERRNO",
                    "errno": "EINVAL",
                    "args": [
                        {"index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_EQ"},
                        {"index": 1, "value": 1, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"},
                    ],
                },
                {"names": ["x"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSUCH", "errnoRet": 7},
                {"names": ["y"], "action": ALLOW, "args": None},
            ],
        },
        machine="aarch64",
        kernel="6.1",
        caps=(),
    )
    assert found == {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {"names": ["old"], "action": ALLOW},
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 22,
                "args": [
                    {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
                    {"index": 1, "value": 1, "op": "SCMP_CMP_MASKED_EQ", "valueTwo": 3},
                ],
            },
            {"names": ["x"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7},
            {"names": ["y"], "action": ALLOW},
        ],
    }


def test_a_profile_in_the_specs_own_form_goes_through() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "listenerPath": "/run/listener",
        "listenerMetadata": "m",
        "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    assert convert(profile, machine="x86_64", kernel="6.1", caps=()) == profile


def test_a_machine_that_the_profile_does_not_know() -> None:
    found = convert(
        {"defaultAction": ALLOW, "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]},
        machine="vax",
        kernel="odd",
        caps=(),
    )
    assert found == {"defaultAction": ALLOW}


def test_profiles_are_found_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    second.touch()
    assert find_profile(["", str(first), str(second)]) == str(second)
    first.touch()
    assert find_profile([str(first), str(second)]) == str(first)


def test_no_profile_is_not_no_filter(tmp_path: Path) -> None:
    with pytest.raises(HostUnsupported, match="seccomp profile") as caught:
        find_profile([str(tmp_path / "none.json")])
    assert "containers-common" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "not JSON"), ("{", "not JSON"), ("[]", "no defaultAction"), ("{}", "no defaultAction")],
)
def test_profiles_that_are_none(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(InvalidArgument, match=message):
        read_profile(str(path))
    with pytest.raises(InvalidArgument, match="No such file"):
        read_profile(str(tmp_path / "none"))


def test_a_profile_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"defaultAction": ALLOW}))
    assert read_profile(str(path)) == {"defaultAction": ALLOW}
