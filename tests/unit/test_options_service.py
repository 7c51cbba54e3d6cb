"""What a container has to do with a service manager: sdnotify and cgroups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.options import ContainerConfig, normalize


def config(rootfs: Path, **options: Any) -> ContainerConfig:
    return normalize(None, ["true"], {"rootfs": rootfs, **options}, name="box")  # type: ignore[typeddict-item]


@pytest.mark.parametrize("mode", ["container", "conmon", "ignore", ""])
def test_whose_ready_it_is(tmp_path: Path, mode: str) -> None:
    assert config(tmp_path, sdnotify=mode).sdnotify == mode


def test_nobody_has_said_it(tmp_path: Path) -> None:
    """Then it is up to who starts it: a command line has a service to itself, a library may not."""
    assert config(tmp_path).sdnotify == ""


def test_health_comes_later(tmp_path: Path) -> None:
    with pytest.raises(HostUnsupported, match="no health checks"):
        config(tmp_path, sdnotify="healthy")


def test_another_word(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="sdnotify: 'conmo' is not known") as caught:
        config(tmp_path, sdnotify="conmo")
    assert caught.value.hint == "did you mean 'conmon'?"


def test_conmon_stays_where_it_is(tmp_path: Path) -> None:
    assert config(tmp_path, cgroups="no-conmon").cgroups == "no-conmon"
    assert config(tmp_path, cgroups="enabled").cgroups == config(tmp_path).cgroups == ""


@pytest.mark.parametrize("mode", ["disabled", "split"])
def test_cgroups_that_are_not_its_own(tmp_path: Path, mode: str) -> None:
    with pytest.raises(HostUnsupported, match=f"cgroups: {mode}"):
        config(tmp_path, cgroups=mode)


def test_another_word_for_cgroups(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cgroups: 'none' is not known"):
        config(tmp_path, cgroups="none")
