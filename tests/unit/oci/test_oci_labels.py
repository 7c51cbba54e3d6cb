"""oci/labels.py: which labels a container has."""

from __future__ import annotations

import pytest

from longshore.errors import HostUnsupported
from longshore.oci.labels import Labels, choose, copied, kind_of, level_of

CONTEXTS = {
    "process": "system_u:system_r:container_t:s0",
    "file": "system_u:object_r:container_file_t:s0",
    "init_process": "system_u:system_r:container_init_t:s0",
    "kvm_process": "system_u:system_r:container_kvm_t:s0",
}
LEVEL = "s0:c1,c2"
PROCESS, FILE = "system_u:system_r:container_t", "system_u:object_r:container_file_t"


@pytest.mark.parametrize(
    ("options", "process", "mount"),
    [
        ((), f"{PROCESS}:{LEVEL}", f"{FILE}:{LEVEL}"),
        (("nested",), f"{PROCESS}:{LEVEL}", f"{FILE}:{LEVEL}"),
        (("type:spc_t",), f"system_u:system_r:spc_t:{LEVEL}", f"{FILE}:{LEVEL}"),
        (("role:x_r",), f"system_u:x_r:container_t:{LEVEL}", f"{FILE}:{LEVEL}"),
        (
            ("user:staff_u",),
            f"staff_u:system_r:container_t:{LEVEL}",
            f"staff_u:object_r:container_file_t:{LEVEL}",
        ),
        (("level:s0:c7,c9",), f"{PROCESS}:s0:c7,c9", f"{FILE}:s0:c7,c9"),
        (("filetype:usr_t",), f"{PROCESS}:{LEVEL}", f"system_u:object_r:usr_t:{LEVEL}"),
        (("type:a_t", "type:b_t"), f"system_u:system_r:b_t:{LEVEL}", f"{FILE}:{LEVEL}"),
        (("type:a_t", "disable"), "", f"{FILE}:s0:c1022,c1023"),
    ],
)
def test_options(options: tuple[str, ...], process: str, mount: str) -> None:
    found = choose(CONTEXTS, options, kind="process", level=LEVEL)
    assert found == Labels(process=process, mount=mount)


def test_kinds() -> None:
    init = choose(CONTEXTS, (), kind="init_process", level=LEVEL)
    assert init.process == f"system_u:system_r:container_init_t:{LEVEL}"
    asked = choose(CONTEXTS, ("type:x_t",), kind="kvm_process", level=LEVEL)
    assert asked.process == f"system_u:system_r:x_t:{LEVEL}", "what was asked for wins"
    without = choose(
        {k: CONTEXTS[k] for k in ("process", "file")}, (), kind="kvm_process", level=LEVEL
    )
    assert without.process == f"{PROCESS}:{LEVEL}"


@pytest.mark.parametrize(
    ("program", "runtime", "kind"),
    [
        ("sh", "crun", "process"),
        ("/sbin/init", "crun", "init_process"),
        ("/lib/systemd/systemd", "runc", "init_process"),
        ("/sbin/init", "kata-runtime", "kvm_process"),
        ("init", "crun", "process"),
    ],
)
def test_kind_of(program: str, runtime: str, kind: str) -> None:
    assert kind_of(program, runtime) == kind


def test_a_policy_without_levels() -> None:
    plain = {"process": "u:r:container_t", "file": "u:object_r:container_file_t"}
    found = choose(plain, (), kind="process", level=LEVEL)
    assert found == Labels(process="u:r:container_t", mount="u:object_r:container_file_t")


def test_a_policy_without_containers() -> None:
    assert choose({}, (), kind="process", level=LEVEL) == Labels()
    assert choose({}, ("disable",), kind="process", level=LEVEL) == Labels()
    whole = ("user:u", "role:r", "type:t", "level:s0")
    assert choose({}, whole, kind="process", level=LEVEL) == Labels(process="u:r:t:s0")
    for option in ("type:x_t", "filetype:x_t"):
        with pytest.raises(HostUnsupported, match="no labels for containers"):
            choose({}, (option,), kind="process", level=LEVEL)


def test_the_label_of_another_is_a_set_of_options() -> None:
    other = f"{PROCESS}:s0:c3,c4"
    found = choose(CONTEXTS, copied(other), kind="process", level=LEVEL)
    assert found == Labels(process=other, mount=f"{FILE}:s0:c3,c4")
    assert copied("") == ()
    assert level_of(other) == "s0:c3,c4"
    assert level_of("u:r:t") == level_of("") == ""
