"""The flags of `run` and `create` become the options of `Engine.create`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longshore.cli import create, run
from longshore.cli.creation import FLAGS, make, options_of
from longshore.cli.flags import parse
from longshore.errors import InvalidArgument, NameInUse
from longshore.options import ContainerConfig, normalize


def asked(*words: str) -> tuple[str | None, list[str], dict[str, object]]:
    parsed = parse(words, run.COMMAND.flags, trailing=True)
    image, command, options = options_of(parsed, ["longshore", "run", *words])
    given = dict(options)
    assert given.pop("create_command") == ["longshore", "run", *words]
    return image, command, given


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--name", "box"], {"name": "box"}),
        (["-eA=1", "-e", "B"], {"env": ["A=1", "B"]}),
        (["-w", "/tmp"], {"workdir": "/tmp"}),
        (["-u", "1:2"], {"user": "1:2"}),
        (["-v", "/a:/b:ro", "-v/c:/d"], {"volumes": ["/a:/b:ro", "/c:/d"]}),
        (["--mount", "type=tmpfs,target=/x,y"], {"mounts": ["type=tmpfs,target=/x,y"]}),
        (["--tmpfs", "/t:size=1m,mode=700"], {"tmpfs": ["/t:size=1m,mode=700"]}),
        (["--read-only", "--read-only-tmpfs=false"], {"read_only": True, "read_only_tmpfs": False}),
        (["-m", "64m", "--memory-swap", "-1"], {"memory": "64m", "memory_swap": "-1"}),
        (["--memory-swappiness=-1"], {}),
        (["--memory-swappiness=10"], {"memory_swappiness": 10}),
        (["--cpus=1.5", "-c", "512"], {"cpus": "1.5", "cpu_shares": 512}),
        (["--cpu-quota", "-1", "--cpu-period=1000"], {"cpu_quota": -1, "cpu_period": 1000}),
        (["--cpuset-cpus", "0,1"], {"cpuset_cpus": "0,1"}),
        (["--pids-limit", "-1"], {"pids_limit": -1}),
        (["--ulimit", "nofile=1:2,core=0"], {"ulimits": ["nofile=1:2", "core=0"]}),
        (["--cap-add", "a,b", "--cap-drop=all"], {"cap_add": ["a", "b"], "cap_drop": ["all"]}),
        (["--security-opt", "mask=/a,/b"], {"security_opt": ["mask=/a,/b"]}),
        (["--privileged"], {"privileged": True}),
        (["--privileged=false"], {"privileged": False}),
        (["--device", "/dev/null"], {"devices": ["/dev/null"]}),
        (["--device", "a.b/c=d,a.b/c=e"], {"devices": ["a.b/c=d", "a.b/c=e"]}),
        (["--gpus", "0,device=1"], {"gpus": ["0", "device=1"]}),
        (["--sysctl", "a.b=1"], {"sysctls": ["a.b=1"]}),
        (["-h", "box"], {"hostname": "box"}),
        (["-l", "a=b,c"], {"labels": ["a=b,c"]}),
        (["--annotation", "a=b"], {"annotations": ["a=b"]}),
        (["--stop-signal", "HUP", "--stop-timeout=3"], {"stop_signal": "HUP", "stop_timeout": 3.0}),
        (["--timeout", "2.5"], {"run_timeout": 2.5}),
        (["--runtime", "runc"], {"runtime": "runc"}),
        (["--cgroup-parent=/a", "--cgroup-manager=cgroupfs"],
         {"cgroup_parent": "/a", "cgroup_manager": "cgroupfs"}),
        (["--cgroupns=host", "--ipc=host", "--pid=host", "--uts=host", "--userns=host"],
         dict.fromkeys(("cgroupns", "ipc", "pid", "uts", "userns"), "host")),
        (["--network", "none"], {"network": "none"}),
        (["--net=host"], {"network": "host"}),
        (["--init", "--init-path", "/i"], {"init": True, "init_path": "/i"}),
        (["--shm-size=1m", "--oom-score-adj", "-5"], {"shm_size": "1m", "oom_score_adj": -5}),
        (["--log-driver=none"], {"log_driver": "none"}),
        (["--log-opt", "tag=x"], {"log_opt": ["tag=x"]}),
        (["--entrypoint", '["a","b"]'], {"entrypoint": '["a","b"]'}),
        (["--group-add", "1,2", "--umask=077"], {"group_add": ["1", "2"], "umask": "077"}),
        (["-i", "--rm", "-d"], {"interactive": True, "remove": True}),
        (["--blkio-weight=10"], {"blkio_weight": 10}),
        (["--pidfile", "p"], {"pidfile": os.path.abspath("p")}),
        (["--conmon-pidfile=/p"], {"conmon_pidfile": "/p"}),
        (["--cidfile=/c"], {"cidfile": "/c"}),
    ],
)  # fmt: skip
def test_options(words: list[str], options: dict[str, object]) -> None:
    assert asked(*words, "image", "cmd", "--rm") == ("image", ["cmd", "--rm"], options)


@pytest.mark.parametrize(
    ("words", "root", "overlay", "command"),
    [
        (["--rootfs", "/:O", "sh", "-c", "x"], "/", True, ["sh", "-c", "x"]),
        (["--rootfs=/:O", "sh"], "/", True, ["sh"]),
        (["--rootfs=/srv", "--", "sh"], "/srv", False, ["sh"]),
        (["--rootfs", "--rm", "/srv:O", "sh"], "/srv", True, ["sh"]),
        (["--rootfs", "/srv", "--rm", "sh", "--rm"], "/srv", False, ["sh", "--rm"]),
        (["--rootfs=true", "/srv"], "/srv", False, []),
        (["--rootfs", "tree:O"], os.path.abspath("tree"), True, []),
    ],
)
def test_rootfs(words: list[str], root: str, overlay: bool, command: list[str]) -> None:
    image, rest, options = asked(*words)
    assert (image, rest) == (None, command)
    assert (options["rootfs"], options["overlay"]) == (root, overlay)


def test_nothing_to_run() -> None:
    with pytest.raises(InvalidArgument) as caught:
        asked()
    assert "--rootfs" in (caught.value.hint or "")
    with pytest.raises(InvalidArgument):
        asked("--rootfs")


def test_a_terminal() -> None:
    assert asked("-it", "image") == ("image", [], {"interactive": True, "tty": True})
    assert asked("--tty=false", "image") == ("image", [], {"tty": False})


def test_relative_volumes_are_the_callers() -> None:
    _, _, options = asked("-v", "./a:/b", "-v", "..:/c", "-v", "name:/d", "image")
    here = os.getcwd()
    assert options["volumes"] == [f"{here}/a:/b", f"{os.path.dirname(here)}:/c", "name:/d"]


def test_files_of_variables_come_first(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nA=file\n\nB=two words\n")
    _, _, options = asked("-e", "A=flag", "--env-file", str(file), "image")
    assert options["env"] == ["A=file", "B=two words", "A=flag"]
    labels = tmp_path / "labels"
    labels.write_text("x=1\n# no\n y=2\n")
    _, _, options = asked("--label", "x=3", "--label-file", str(labels), "image")
    assert options["labels"] == ["x=1", "y=2", "x=3"]
    with pytest.raises(InvalidArgument, match="cannot read the env file /no/such"):
        asked("--env-file", "/no/such", "image")


@pytest.mark.parametrize("text", ["[]", "{", "1", "[" * 100_000])
def test_a_patch_is_a_json_object(tmp_path: Path, text: str) -> None:
    file = tmp_path / "patch"
    file.write_text('{"process": {"cwd": null}}')
    assert asked("--spec-patch", str(file), "i")[2] == {"spec_patch": {"process": {"cwd": None}}}
    file.write_text(text)
    with pytest.raises(InvalidArgument, match="spec patch"):
        asked("--spec-patch", str(file), "i")


def test_every_flag_is_an_option_that_normalize_takes(tmp_path: Path) -> None:
    words = ["--rootfs", f"{tmp_path}:O", "-m64m", "-eA=1", "--cap-add=net_admin", "--rm", "true"]
    parsed = parse(words, run.COMMAND.flags, trailing=True)
    image, command, options = options_of(parsed, ["longshore"])
    config = normalize(image, command, options, name="box")
    assert isinstance(config, ContainerConfig)
    assert (config.memory, config.env, config.overlay) == (64 * 2**20, {"A": "1"}, True)
    assert config.create_command == ("longshore",)


def test_the_table_is_in_order_and_whole() -> None:
    names = [flag.name for flag in FLAGS]
    assert names == sorted(names)
    shorts = [flag.short for flag in run.COMMAND.flags if flag.short]
    assert len(shorts) == len(set(shorts))
    assert {flag.name for flag in create.COMMAND.flags} <= set(names)


def test_a_name_is_taken_over() -> None:
    """Only when everything that was asked for is well, and only by that name."""
    engine = Taken("box")
    parsed = parse(["--replace", "--name", "box", "--rootfs", "/srv", "x"], FLAGS, trailing=True)
    make(engine, parsed, ["longshore"])  # type: ignore[arg-type]
    assert engine.did == ["create", "get box", "remove", "create"]
    again = parse(["--name", "box", "--rootfs", "/srv", "x"], FLAGS, trailing=True)
    engine = Taken("box")
    with pytest.raises(NameInUse):
        make(engine, again, ["longshore"])  # type: ignore[arg-type]
    assert engine.did == ["create"]


class Taken:
    """An engine with one container."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.did: list[str] = []

    def _create(self, *args: object, **options: object) -> None:
        self.did.append("create")
        if self.name:
            raise NameInUse("taken")

    def get(self, ref: str) -> Taken:
        self.did.append(f"get {ref}")
        return self

    def remove(self, *, force: bool, missing_ok: bool) -> None:
        assert force and missing_ok
        self.did.append("remove")
        self.name = ""
