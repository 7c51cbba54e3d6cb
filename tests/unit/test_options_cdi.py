"""Names of CDI devices, and GPUs as another way to say them."""

from __future__ import annotations

from typing import Any

import pytest

from longshore.errors import InvalidArgument
from longshore.options import ContainerConfig, normalize
from longshore.options.cdi import is_qualified, parse_gpus, parse_name


def config(**options: Any) -> ContainerConfig:
    return normalize(None, ["true"], {"rootfs": "/", **options}, name="box")


@pytest.mark.parametrize(
    "name",
    ["nvidia.com/gpu=0", "nvidia.com/gpu=all", "vendor/class=0:1", "a/b=c", "A-b_c.d/e.f=GPU-1-2_x",
     "nvidia.com/gpu=GPU-fef8089b-4820-abfc-e83e-94318197576e"],
)  # fmt: skip
def test_names(name: str) -> None:
    assert is_qualified(name)
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["a/b=", "/b=c", "a/=c", "a/b=-c", "a/b=c.", "1a/b=c", "a/b-=c", "a/b/c=d", "a/b=c=d",
     "a/b=c d", "a_/b=c", "ä/b=c"],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidArgument, match="not a CDI device"):
        parse_name(name)


@pytest.mark.parametrize(
    "path", ["/dev/a=b", "./a/b=c", "/dev/null", "/a/b=c:/dev/x", "dev/x:/a=b"]
)
def test_paths_are_no_names(path: str) -> None:
    assert not is_qualified(path)


def test_devices_of_both_kinds() -> None:
    found = config(devices=["/dev/null:/dev/x", "a.b/c=d", "a.b/c=d", "a.b/c=e"])
    assert [device.target for device in found.devices] == ["/dev/x"]
    assert found.cdi_devices == ("a.b/c=d", "a.b/c=e")
    with pytest.raises(InvalidArgument, match="not a CDI device"):
        config(devices=["a.b/c="])
    assert ContainerConfig.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("gpus", "names"),
    [
        ("all", ["all"]),
        (["all"], ["all"]),
        ("0,1", ["0", "1"]),
        (["0", "1"], ["0", "1"]),
        ("device=0,1", ["0", "1"]),
        (["device=0", "1"], ["0", "1"]),  # --gpus device=0,1
        (["device=GPU-3a23c669"], ["GPU-3a23c669"]),
        ([], []),
        (None, []),
    ],
)
def test_gpus(gpus: Any, names: list[str]) -> None:
    expected = tuple(f"nvidia.com/gpu={name}" for name in names)
    assert config(gpus=gpus).cdi_devices == expected


@pytest.mark.parametrize(
    "value", ["", "0,", "count=1", "all,capabilities=compute", "driver=nvidia", "-1", "device="]
)
def test_gpus_that_make_no_sense(value: str) -> None:
    with pytest.raises(InvalidArgument, match="gpus"):
        parse_gpus([value])


def test_gpus_and_devices_together() -> None:
    found = config(gpus="0", devices=["nvidia.com/gpu=0", "nvidia.com/gpu=1"])
    assert found.cdi_devices == ("nvidia.com/gpu=0", "nvidia.com/gpu=1")
