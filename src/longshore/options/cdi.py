"""Names of CDI devices, such as ``nvidia.com/gpu=0``. Nothing here is looked up.

The syntax is that of the Container Device Interface's SPEC.md ("Kind", "CDI Devices") and of its
parser, pkg/parser of tags.cncf.io/container-device-interface.
"""

from __future__ import annotations

import re

from longshore.errors import InvalidArgument
from longshore.options.parse import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

GPU_KIND = "nvidia.com/gpu"  # what podman-run(1), --gpus, stands for
_WORD = r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_KIND = re.compile(rf"{_WORD}/{_WORD}")
_DEVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?")


def is_kind(word: str) -> bool:
    """Whether this is VENDOR/CLASS."""
    return bool(_KIND.fullmatch(word))


def is_device(word: str) -> bool:
    """Whether this is the name of a device among those of its kind."""
    return bool(_DEVICE.fullmatch(word))


def is_qualified(spec: str) -> bool:
    """Whether a device that was asked for is one of CDI, by its looks: no path of the host's."""
    kind, equals, _ = spec.partition("=")
    return bool(equals) and not spec.startswith(("/", ".")) and "/" in kind and ":" not in kind


def parse_name(spec: str, what: str = "devices") -> str:
    """Return ``VENDOR/CLASS=NAME``, checked."""
    kind, _, name = text(spec, what).partition("=")
    if not is_kind(kind) or not is_device(name):
        wrong = f"its kind {kind!r}" if not is_kind(kind) else f"its name {name!r}"
        raise InvalidArgument(
            f"{what}: {spec!r} is not a CDI device: {wrong} cannot be",
            hint="VENDOR/CLASS=NAME, such as nvidia.com/gpu=0 or nvidia.com/gpu=all",
        )
    return spec


def parse_gpus(values: Iterable[str], what: str = "gpus") -> tuple[str, ...]:
    """Return the CDI devices of ``all``, ``0,1`` or ``device=0,1``: numbers or ids, as podman does.

    A number is a GPU's and not how many, as it is with docker.
    """
    found: list[str] = []
    for value in values:
        for word in text(value, what).split(","):
            name = word.removeprefix("device=")
            if not is_device(name):
                raise InvalidArgument(
                    f"{what}: {word!r} is not a GPU's number or id",
                    hint="all, or such as 0,1; other kinds: devices=['VENDOR/CLASS=NAME']",
                )
            found.append(f"{GPU_KIND}={name}")
    return tuple(found)
