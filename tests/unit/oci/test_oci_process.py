"""The process object of an exec: the container's own, then what was asked."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from longshore.errors import HostUnsupported
from longshore.oci.build import build_spec
from longshore.oci.context import SpecContext
from longshore.oci.privilege import ALL_CAPABILITIES_MASK, SYS_RESOURCE, capabilities
from longshore.oci.process import exec_process
from longshore.oci.users import ResolvedUser
from longshore.options import ContainerConfig
from longshore.options.execs import ExecConfig

SCHEMA = Path(__file__).parents[2] / "data/runtime-spec"
USER = ResolvedUser(uid=1000, gid=100, groups=(100, 2000), home="/home/user", name="user")


def _validator() -> Draft4Validator:
    documents = {path.name: json.loads(path.read_text()) for path in SCHEMA.glob("*.json")}
    registry: Registry[Any] = Registry().with_resources(
        (name, Resource.from_contents(content, default_specification=DRAFT4))
        for name, content in documents.items()
    )
    process = documents["config-schema.json"]["properties"]["process"]
    # its references are relative to the document that it stands in
    return Draft4Validator({"id": "config-schema.json", **process}, registry=registry)


VALIDATOR = _validator()


def spec_of(user: ResolvedUser = ResolvedUser(), **config: Any) -> Any:  # noqa: B008 - frozen
    made = ContainerConfig(**{"name": "box", "rootfs": "/srv", "command": ("true",), **config})
    context = SpecContext(id="0123456789ab" * 5, rootfs="/m", cgroup_path="/p/x", user=user)
    return json.loads(json.dumps(build_spec(made, context)))


def process_of(
    spec: Any = None,
    user: ResolvedUser | None = None,
    mask: int = ALL_CAPABILITIES_MASK,
    **asked: Any,
) -> dict[str, Any]:
    """Describe a process, hold it against the schema, and check that the spec is as it was."""
    spec = spec_of() if spec is None else spec
    before = copy.deepcopy(spec)
    config = ExecConfig(**{"command": ("ls", "-l"), **asked})
    process: dict[str, Any] = json.loads(
        json.dumps(exec_process(spec, config, user, bounding_mask=mask))
    )
    VALIDATOR.validate(process)
    assert spec == before
    return process


def env_of(process: dict[str, Any]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in process["env"])


def test_it_is_the_containers_own() -> None:
    spec = spec_of(
        workdir="/w", env={"A": "1"}, umask=0o27, no_new_privileges=True, oom_score_adj=500,
        group_add=("5",),
    )  # fmt: skip
    own = spec["process"]
    assert process_of(spec) == {**own, "args": ["ls", "-l"], "terminal": False}


def test_what_only_the_spec_has_is_kept() -> None:
    spec = spec_of()
    spec["process"] |= {
        "apparmorProfile": "profile", "selinuxLabel": "label", "oomScoreAdj": 7,
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    }  # fmt: skip
    process = process_of(spec)
    for key in ("apparmorProfile", "selinuxLabel", "oomScoreAdj", "rlimits"):
        assert process[key] == spec["process"][key]


def test_a_terminal_is_not_the_containers() -> None:
    spec = spec_of(tty=True)
    spec["process"]["consoleSize"] = {"height": 1, "width": 2}
    process = process_of(spec)
    assert process["terminal"] is False
    assert "consoleSize" not in process
    process = process_of(spec_of(), tty=True, console_size=(24, 80))
    assert process["terminal"] is True
    assert process["consoleSize"] == {"height": 24, "width": 80}
    assert "consoleSize" not in process_of(spec_of(), tty=True)


def test_term_of_a_terminal() -> None:
    spec = spec_of()
    spec["process"]["env"] = ["PATH=/bin"]
    assert "TERM" not in env_of(process_of(spec))
    assert env_of(process_of(spec, tty=True))["TERM"] == "xterm"
    assert env_of(process_of(spec, tty=True, env={"TERM": "vt100"}))["TERM"] == "vt100"


def test_env_and_cwd() -> None:
    spec = spec_of(env={"A": "1", "B": "2"}, workdir="/w")
    process = process_of(spec, env={"B": "3", "C": "=4"}, workdir="/x")
    assert env_of(process) == {**env_of(spec["process"]), "B": "3", "C": "=4"}
    assert process["cwd"] == "/x"


def test_activation_sockets_are_not_for_it() -> None:
    spec = spec_of()
    spec["process"]["env"] += ["LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=a", "LISTEN=x"]
    env = env_of(process_of(spec))
    assert [name for name in env if name.startswith("LISTEN")] == ["LISTEN"]


def test_another_user() -> None:
    process = process_of(user=USER)
    assert process["user"] == {
        "uid": 1000, "gid": 100, "umask": 0o22, "additionalGids": [100, 2000],
    }  # fmt: skip
    assert env_of(process)["HOME"] == "/home/user"
    assert env_of(process_of(user=USER, env={"HOME": "/x"}))["HOME"] == "/x"


def test_the_same_user_by_name_keeps_the_containers_home() -> None:
    spec = spec_of(env={"HOME": "/data"})
    root = ResolvedUser(uid=0, gid=0, home="/root", name="root")
    assert env_of(process_of(spec, root))["HOME"] == "/data"


def test_a_user_without_groups() -> None:
    spec = spec_of(ResolvedUser(groups=(5, 6)))
    nobody = ResolvedUser(uid=7, gid=9)
    process = process_of(spec, nobody)
    assert process["user"] == {"uid": 7, "gid": 9, "umask": 0o22}
    assert env_of(process)["HOME"] == "/"


# --- capabilities ------------------------------------------------------------------------------


def test_capabilities_of_another_user_are_as_in_a_container_of_that_user() -> None:
    root = spec_of()
    bounding = root["process"]["capabilities"]["bounding"]
    config = ContainerConfig(name="box", command=("true",))
    assert process_of(root, USER)["capabilities"] == capabilities(config, bounding, 1000)
    # and back
    own = spec_of(USER)
    back = process_of(own, ResolvedUser(uid=0, gid=0))["capabilities"]
    assert back == root["process"]["capabilities"]


def test_what_a_containers_user_was_given_stays_theirs() -> None:
    spec = spec_of(USER, cap_add=("CAP_NET_ADMIN",))
    assert process_of(spec)["capabilities"]["ambient"] == ["CAP_NET_ADMIN"]
    more = process_of(spec, cap_add=("CAP_SYS_TIME",))["capabilities"]
    assert more["ambient"] == ["CAP_NET_ADMIN", "CAP_SYS_TIME"]
    assert "ambient" not in process_of(spec, ResolvedUser(uid=7, gid=7))["capabilities"]


def test_cap_add() -> None:
    plain = process_of()["capabilities"]
    added = process_of(cap_add=("CAP_SYS_TIME",))["capabilities"]
    for kind in ("bounding", "effective", "permitted"):
        assert added[kind] == sorted([*plain[kind], "CAP_SYS_TIME"])
    user = process_of(user=USER, cap_add=("CAP_SYS_TIME",))["capabilities"]
    assert user["effective"] == user["ambient"] == ["CAP_SYS_TIME"]
    everything = process_of(cap_add=("CAP_ALL",), mask=0b111)["capabilities"]
    assert {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"} <= set(everything["effective"])
    assert "CAP_SYS_ADMIN" not in everything["bounding"]


def test_privileged() -> None:
    spec = spec_of(no_new_privileges=True)
    spec["process"] |= {"apparmorProfile": "profile", "selinuxLabel": "label"}
    process = process_of(spec, privileged=True)
    assert len(process["capabilities"]["effective"]) == 41
    assert "apparmorProfile" not in process and "selinuxLabel" not in process
    assert process["noNewPrivileges"] is True
    assert "effective" not in process_of(spec, USER, privileged=True)["capabilities"]


def test_a_capability_that_cannot_be_had() -> None:
    mask = ALL_CAPABILITIES_MASK & ~(1 << SYS_RESOURCE)
    with pytest.raises(HostUnsupported, match="CAP_SYS_RESOURCE"):
        process_of(cap_add=("CAP_SYS_RESOURCE",), mask=mask)
    held = process_of(privileged=True, mask=mask)["capabilities"]["bounding"]
    assert "CAP_SYS_RESOURCE" not in held


def test_no_new_privileges() -> None:
    assert process_of(no_new_privileges=True)["noNewPrivileges"] is True
    assert "noNewPrivileges" not in process_of()
