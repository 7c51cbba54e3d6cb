"""Filters are given back exactly, and only for what they were made of."""

from __future__ import annotations

import binascii
import copy
from pathlib import Path
from typing import Any

import pytest

from longshore.runtime.filters import FilterCache

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
}
PROGRAM = bytes(range(16))


def spec_with(profile: dict[str, Any] | None) -> Any:
    return {"linux": {} if profile is None else {"seccomp": copy.deepcopy(profile)}}


@pytest.fixture
def cache(tmp_path: Path) -> FilterCache:
    binary = tmp_path / "crun"
    binary.write_text("one")
    return FilterCache(str(tmp_path / "cache"), str(binary))


def learned(cache: FilterCache, tmp_path: Path, program: bytes | None = PROGRAM) -> None:
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    if program is not None:
        (state / "seccomp.bpf").write_bytes(program)
    token = cache.give(spec_with(PROFILE))
    assert token is not None
    cache.keep(token, str(state))


def test_what_was_made_is_given_back(cache: FilterCache, tmp_path: Path) -> None:
    learned(cache, tmp_path)
    spec = spec_with(PROFILE)
    assert cache.give(spec) is None
    given = spec["annotations"]["run.oci.seccomp_bpf_data"]
    assert binascii.a2b_base64(given) == PROGRAM
    assert spec["linux"]["seccomp"] == PROFILE  # for runtimes that do not know the annotation


@pytest.mark.parametrize(
    "change",
    [
        {"defaultAction": "SCMP_ACT_ALLOW"},
        {"syscalls": []},
        {"architectures": []},
        {"defaultErrnoRet": 38},
    ],
)
def test_another_profile_gets_nothing(
    cache: FilterCache, tmp_path: Path, change: dict[str, Any]
) -> None:
    learned(cache, tmp_path)
    spec = spec_with({**PROFILE, **change})
    assert cache.give(spec) is not None
    assert "annotations" not in spec


@pytest.mark.parametrize("extra", ["flags", "listenerPath"])
def test_what_a_program_cannot_stand_for_is_left_alone(cache: FilterCache, extra: str) -> None:
    spec = spec_with({**PROFILE, extra: []})
    assert cache.give(spec) is None
    assert "annotations" not in spec
    assert cache.give(spec_with(None)) is None


def test_a_checksum_is_not_believed(
    cache: FilterCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binascii, "crc32", lambda _: 7)
    learned(cache, tmp_path)
    spec = spec_with({**PROFILE, "defaultErrnoRet": 1})
    assert cache.give(spec) is not None
    assert "annotations" not in spec


def test_another_binary_makes_its_own(cache: FilterCache, tmp_path: Path) -> None:
    learned(cache, tmp_path)
    (tmp_path / "crun").write_text("another")
    assert cache.give(spec_with(PROFILE)) is not None


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", ["run.oci.seccomp_bpf_data", "run.oci.handler"])
def test_what_a_caller_tells_the_runtime_is_neither_changed_nor_learned(
    cache: FilterCache, tmp_path: Path, known: bool, name: str
) -> None:
    if known:
        learned(cache, tmp_path)
    spec = spec_with(PROFILE)
    spec["annotations"] = {name: "mine"}
    assert cache.give(spec) is None  # no token: a program of the caller's is not the profile's
    assert spec["annotations"] == {name: "mine"}


@pytest.mark.parametrize("program", [None, b"", b"1234567"])
def test_nothing_that_is_no_program_is_kept(
    cache: FilterCache, tmp_path: Path, program: bytes | None
) -> None:
    learned(cache, tmp_path, program)
    assert cache.give(spec_with(PROFILE)) is not None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "crun").touch()
    (tmp_path / "cache").touch()  # a file where the directory should be
    learned(FilterCache(str(tmp_path / "cache"), str(tmp_path / "crun")), tmp_path)
