"""What each command asks of the engine, prints, and ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_standin import NOW, SECOND, StandIn, ended, inspection

from longshore.cli.completing import candidates
from longshore.lifecycle import Status
from longshore.models import ExitReason, LogRecord, Mount

if TYPE_CHECKING:
    from conftest import Shell


@pytest.fixture
def three(shell: Shell) -> StandIn:
    shell.engine = StandIn(
        inspection("web", created_ns=NOW, started_ns=NOW, labels={"a": "b"}),
        inspection("job", Status.EXITED, created_ns=NOW + SECOND, exit=ended(3)),
        inspection("new", Status.CREATED, created_ns=NOW + 2 * SECOND),
    )
    return shell.engine


def ids(engine: StandIn) -> dict[str, str]:
    return {name: one.id for name, one in engine.found.items()}


@pytest.mark.parametrize(
    ("words", "asked", "printed"),
    [
        (["start", "new"], [("start", "new")], "new\n"),
        (["start", "--all"], [("start", "new"), ("start", "job")], None),
        (["start", "--filter", "name=new"], [("start", "new")], None),
        (["stop", "web"], [("stop", "web", None)], "web\n"),
        (["stop", "-t", "0", "web", "job"], [("stop", "web", 0.0), ("stop", "job", 0.0)], None),
        (["stop", "-a"], [("stop", "web", None)], None),
        (["stop", "-l"], [("stop", "new", None)], None),
        (["kill", "-s", "HUP", "web"], [("kill", "web", 1)], "web\n"),
        (["kill", "-a"], [("kill", "web", 9)], None),
        (["pause", "-a"], [("pause", "web")], None),
        (["unpause", "web"], [("unpause", "web")], "web\n"),
        (["restart", "--running"], [("restart", "web", None)], None),
        (["restart", "-t2", "job"], [("restart", "job", 2.0)], "job\n"),
        (["rm", "job"], [("remove", "job", False, None)], "job\n"),
        (["rm", "-f", "-t", "3", "web"], [("remove", "web", True, 3.0)], "web\n"),
        (["rm", "--depend", "job"], [("remove", "job", False, None, "depend")], "job\n"),
        (["rename", "web", "x"], [("rename", "web", "x")], ""),
        (["update", "-m", "64m", "--cpus=0.5", "--pids-limit", "-1", "web"],
         [("update", "web", {"cpus": "0.5", "memory": "64m", "pids_limit": -1})], None),
        (["container", "update", "-c", "5", "--device-read-bps=/dev/a:1m,/dev/b:2", "web"],
         [("update", "web", {"cpu_shares": 5, "device_read_bps": ["/dev/a:1m", "/dev/b:2"]})],
         None),
        (["wait", "job"], [("wait", "job", "exited")], "3\n"),
        (["wait", "--condition=stopped", "-i", "5s", "web"], [("wait", "web", "exited")], "7\n"),
        (["container", "cleanup", "--rm", "job"],
         [("cleanup", "job"), ("remove", "job", False, None)], "job\n"),
        (["container", "prune", "-f"], [("prune",)], None),
    ],
)  # fmt: skip
def test_requests(
    shell: Shell,
    three: StandIn,
    words: list[str],
    asked: list[tuple[object, ...]],
    printed: str | None,
) -> None:
    done = shell(*words)
    assert (done.code, done.err) == (0, "")
    assert three.asked == asked
    if printed is not None:
        assert done.out == printed


@pytest.mark.parametrize(
    ("words", "code", "out"),
    [
        (["stop", "nosuch", "web"], 125, "web\n"),
        (["stop", "-i", "nosuch", "web"], 0, "web\n"),
        (["rm", "nosuch", "web", "job"], 1, "job\n"),
        (["rm", "web", "nosuch", "job"], 2, "job\n"),
        (["rm", "--ignore", "nosuch", "job"], 0, "job\n"),
        (["rm", "-f", "nosuch"], 0, ""),  # as podman's since 4.3
        (["rm", "-f", "nosuch", "job"], 0, "job\n"),
        (["rm", "--force=false", "nosuch"], 1, ""),
        (["kill", "new", "web"], 125, "web\n"),
        (["wait", "nosuch", "job"], 125, "3\n"),
        (["container", "exists", "nosuch"], 1, ""),
        (["container", "exists", "web"], 0, ""),
    ],
)
def test_one_failure_does_not_stop_the_others(
    shell: Shell, three: StandIn, words: list[str], code: int, out: str
) -> None:
    done = shell(*words)
    assert (done.code, done.out) == (code, out)
    assert done.err.count("Error: ") == (0 if code == 0 or "exists" in words else 1) + (
        words[:3] == ["rm", "nosuch", "web"] or words[:3] == ["rm", "web", "nosuch"]
    )


def test_side_by_side_keeps_the_order(shell: Shell) -> None:
    names = [f"box{n}" for n in range(40)]
    shell.engine = StandIn(*(inspection(name) for name in names))
    done = shell("stop", *names)
    assert done.out.split() == names
    assert sorted(what[1] for what in shell.engine.asked) == sorted(names)  # type: ignore[type-var]


def test_cidfiles(shell: Shell, three: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    file.write_text(ids(three)["job"] + "\n")
    job = ids(three)["job"]
    assert shell("rm", "--cidfile", str(file)).out == job + "\n"
    done = shell("stop", "--cidfile", str(tmp_path / "no"))
    assert (done.code, "cannot read the cidfile" in done.err) == (125, True)
    assert shell("rm", "-i", "--cidfile", str(tmp_path / "no"), "new").out == "new\n"
    assert shell("rm", "-f", "--cidfile", str(tmp_path / "no"), "web").out == "web\n"


@pytest.mark.parametrize("order", [("one", "two", "three"), ("three", "one", "two")])
def test_rm_takes_first_what_needs_others(shell: Shell, order: tuple[str, ...]) -> None:
    one = inspection("one")
    two = inspection("two", network=f"container:{one.id}")
    shell.engine = StandIn(one, two, inspection("three", ipc=f"container:{two.id}"))
    assert shell("rm", "-f", *order).out.split() == ["three", "two", "one"]


def test_wait_knows_what_was_removed(shell: Shell) -> None:
    shell.engine.kept["a" * 64] = ended(5)
    assert shell("wait", "a" * 64).out == "5\n"


def test_ps(shell: Shell, three: StandIn) -> None:
    shown = shell("ps", "-a").out.splitlines()
    assert shown[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS",
                                "PORTS", "NAMES"]  # fmt: skip
    assert [line.split()[-1] for line in shown[1:]] == ["web", "job", "new"]
    assert [line.split()[-1] for line in shell("ps").out.splitlines()] == ["NAMES", "web"]
    assert shell("ps", "-q").out == ids(three)["web"][:12] + "\n"
    assert shell("ps", "-aq", "--no-trunc").out.split() == list(ids(three).values())
    assert shell("ps", "-n2", "--format", "{{.Names}}").out == "job\nnew\n"
    assert shell("ps", "-l", "--format", "{{.Names}}").out == "new\n"
    assert shell("ps", "-a", "--sort=names", "--format={{.Names}}").out == "job\nnew\nweb\n"
    assert shell("ps", "--filter", "status=exited", "--noheading", "-q").out.strip()
    assert shell("ps", "--format", r"{{.Names}}\t{{.Labels}}").out == "web\tmap[a:b]\n"


def test_ps_tables(shell: Shell, three: StandIn) -> None:
    table = shell("ps", "-a", "--format", r"table {{.Names}}\t{{.ExitCode}}").out
    assert table == ("NAMES       EXIT CODE\nweb         0\njob         3\nnew         0\n")
    bare = shell("ps", "-a", "--noheading", "--format", r"table {{.Names}}\t{{.State}}").out
    assert "NAMES" not in bare
    namespaces = shell("ps", "--ns").out.splitlines()[0].split()
    assert namespaces[3:] == ["PID", "CGROUPNS", "IPC", "MNT", "NET", "PIDNS", "USERNS", "UTS"]


def test_ps_json(shell: Shell, three: StandIn) -> None:
    rows = json.loads(shell("ps", "-a", "--format", "json").out)
    assert [row["Names"] for row in rows] == [["web"], ["job"], ["new"]]
    assert rows[0] | {"Status": "", "CreatedAt": ""} == {
        "AutoRemove": False,
        "Command": ["sleep", "1"],
        "CreatedAt": "",
        "Exited": False,
        "ExitedAt": -62135596800,
        "ExitCode": 0,
        "Id": ids(three)["web"],
        "Image": "",
        "ImageID": "",
        "IsInfra": False,
        "Labels": {"a": "b"},
        "Mounts": [],
        "Names": ["web"],
        "Namespaces": {},
        "Networks": [],
        "Pid": 0,
        "Pod": "",
        "PodName": "",
        "Ports": None,
        "Restarts": 0,
        "Runtime": "",
        "Size": None,
        "StartedAt": NOW // SECOND,
        "State": "running",
        "Status": "",
        "Created": NOW // SECOND,
    }
    assert json.loads(shell("ps", "--filter", "name=zzz", "--format=json").out) == []


def test_inspect(shell: Shell, three: StandIn) -> None:
    done = shell("inspect", "nosuch", "job")
    assert done.code == 125
    (document,) = json.loads(done.out)
    assert document["Name"] == "job"
    assert (document["Path"], document["Args"]) == ("sleep", ["1"])
    assert document["State"]["ExitCode"] == 3
    assert document["State"]["Exit"]["Reason"] == "exited"
    assert document["State"]["Exit"]["Usage"]["MemoryPeak"] is None
    assert shell("inspect", "nosuch").out == "[]\n"
    assert shell("inspect", "-f", "{{.Name}} {{.ID}}", "job").out == f"job {ids(three)['job']}\n"
    assert shell("inspect", "-f", "{{json .Config.Labels}}", "web").out == '{"a":"b"}\n'
    assert shell("inspect", "-f", "{{.Config.Labels.a}}", "web").out == "b\n"
    assert json.loads(shell("container", "inspect", "-l").out)[0]["Name"] == "new"


def test_inspect_without_labels(shell: Shell) -> None:
    shell.engine = StandIn(inspection("box"))
    for form, expected in (
        ('{{index .Config.Labels "x"}}', ""),
        ("{{len .Config.Labels}} {{len .Config.Annotations}}", "0 0"),
        ("{{.Config.Labels}} {{.Config.Annotations}}", "map[] map[]"),
        ("{{range .Config.Labels}}x{{else}}none{{end}}", "none"),
        ("{{json .Config.Labels}}", "null"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", ""),
    ):
        assert shell("inspect", "-f", form, "box").out == f"{expected}\n"
    (document,) = json.loads(shell("inspect", "box").out)
    assert document["Config"]["Labels"] is None
    assert document["NetworkSettings"]["Networks"] == {}


def test_inspect_shows_times(shell: Shell, three: StandIn) -> None:
    form = '{{.Created}} {{.Created.Format "2006-01-02"}} {{.State.StartedAt.Year}}'
    shown = shell("inspect", "-f", form, "web").out
    assert shown == "2027-01-15 08:00:00 +0000 UTC 2027-01-15 2027\n"
    form = "{{.State.Exit.FinishedAt.Unix}} {{.State.StartedAt.IsZero}}"
    assert shell("inspect", "-f", form, "job").out == f"{NOW // SECOND + 1} true\n"
    (document,) = json.loads(shell("inspect", "web").out)
    assert document["Created"] == "2027-01-15T08:00:00Z"
    assert document["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"


def test_inspect_shows_the_limit_of_swap_that_is_set(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"linux": {"resources": {"memory": {"limit": 64, "swap": 70}}}})
    )
    shell.engine = StandIn(
        inspection("asked", memory=64, memory_swap=-1),
        inspection("default", memory=64),
        inspection("none"),
        inspection("set", memory=64, bundle_path=str(tmp_path)),
        inspection("updated", memory=65, bundle_path=str(tmp_path)),
    )
    shown = shell("inspect", "-f", "{{.HostConfig.MemorySwap}}", *shell.engine.found)
    assert shown.out.split() == ["-1", "128", "0", "70", "130"]


def test_inspect_has_the_keys_of_podman(shell: Shell) -> None:
    # keys of `podman inspect` 4.3.1, of a container run from a rootfs
    shell.engine = StandIn(
        inspection(
            "box",
            memory=64 << 20,
            cpu_quota=150000,
            cpu_period=100000,
            mounts=(
                Mount(type="bind", source="/a", target="/b", options=("rbind", "ro", "rslave")),
                Mount(type="tmpfs", target="/t", options=("size=1m",)),
            ),
            no_new_privileges=True,
            seccomp="unconfined",
        )
    )
    (document,) = json.loads(shell("inspect", "box").out)
    top = """Id Created Path Args State Image ImageDigest ImageName Rootfs Pod ResolvConfPath
        HostnamePath HostsPath StaticDir OCIConfigPath OCIRuntime ConmonPidFile PidFile Name
        RestartCount Driver MountLabel ProcessLabel AppArmorProfile EffectiveCaps BoundingCaps
        ExecIDs GraphDriver Mounts Dependencies NetworkSettings Namespace IsInfra IsService Config
        HostConfig"""
    assert list(document) == top.split()
    state = """OciVersion Status Running Paused Restarting OOMKilled Dead Pid ConmonPid ExitCode
        Error StartedAt FinishedAt Health CgroupPath CheckpointedAt RestoredAt"""
    assert list(document["State"]) == [*state.split(), "Exit", "Exits"]
    host = document["HostConfig"]
    assert (host["Memory"], host["NanoCpus"]) == (64 << 20, 1_500_000_000)
    assert host["Tmpfs"] == {"/t": "size=1m"}
    assert host["Binds"] == ["/a:/b:rbind,ro,rslave"]
    assert host["SecurityOpt"] == ["seccomp=unconfined", "no-new-privileges"]
    assert document["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/a",
            "Destination": "/b",
            "Driver": "",
            "Mode": "",
            "Options": ["rbind"],
            "RW": False,
            "Propagation": "rslave",
        }
    ]


def test_logs(shell: Shell, three: StandIn) -> None:
    three.records = [
        LogRecord(stream="stdout", time_ns=NOW, data=b"a", partial=True),
        LogRecord(stream="stderr", time_ns=NOW, data=b"e\n"),
        LogRecord(stream="stdout", time_ns=NOW, data=b"b\n"),
        LogRecord(stream="stdout", time_ns=NOW + 1, data=b"c\n"),
    ]
    done = shell("logs", "--tail=5", "--since", "1800000000", "web")
    assert (done.out, done.err) == ("ab\nc\n", "e\n")
    assert three.asked == [
        ("logs", "web", {"follow": False, "tail": 5, "since_ns": NOW, "until_ns": None})
    ]
    named = shell("logs", "-n", "-t", "web").out
    assert named.startswith("web 2027-01-15T")
    assert named.count("web 2027") == 2
    assert shell("logs", "nosuch", "web").code == 125
    failed = shell("logs", "-f", "web", "nosuch")  # before anything is followed
    assert (failed.code, failed.out) == (125, "")


def test_logs_of_several(shell: Shell, three: StandIn) -> None:
    def piece(ms: int, data: bytes, stream: str = "stdout", *, partial: bool = False) -> LogRecord:
        return LogRecord(stream=stream, time_ns=NOW + ms * 10**6, data=data, partial=partial)

    three.records_of = {
        "web": [piece(1, b"w1\n"), piece(3, b"w2 ", partial=True), piece(5, b"w2\n"),
                piece(7, b"e\n", "stderr"), piece(9, b"no newline", partial=True)],
        "job": [piece(2, b"j1\n"), piece(4, b"j2\n"), piece(99, b"j3\n")],
    }  # fmt: skip
    ids = {name: three.found[name].id[:12] for name in ("web", "job")}
    lines = [("web", "w1"), ("job", "j1"), ("web", "w2 w2"), ("job", "j2"), ("web", "no newline"),
             ("job", "j3")]  # fmt: skip
    done = shell("logs", "web", "job")
    assert done.out.splitlines() == [f"{ids[name]} {text}" for name, text in lines]
    assert done.err == f"{ids['web']} e\n"
    done = shell("logs", "--names", "--color", "web", "nosuch", "job")
    colors = {"web": "\x1b[32mweb\x1b[0m", "job": "\x1b[33mjob\x1b[0m"}
    assert done.out.splitlines() == [f"{colors[name]} {text}" for name, text in lines]
    assert done.code == 125
    for _ in range(5):
        followed = shell("logs", "-f", "-n", "web", "job").out.splitlines()
        assert sorted(followed) == sorted(f"{name} {text}" for name, text in lines)
    stamped = shell("logs", "-n", "-t", "web", "job").out.splitlines()
    assert stamped[2].startswith("web 2027-01-15T") and stamped[2].endswith(" w2 w2")


def test_logs_say_what_is_missing(shell: Shell, three: StandIn) -> None:
    three.records = [
        LogRecord(stream="stdout", time_ns=NOW, data=b"a\n"),
        LogRecord(stream="stdout", time_ns=NOW, data=b"", partial=True, gap=True),
        LogRecord(stream="stdout", time_ns=NOW, data=b"z\n"),
    ]
    done = shell("logs", "-n", "-f", "web")
    assert done.out == "web a\nweb z\n"
    assert "is missing" in done.err


def test_prune_asks(shell: Shell, three: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert shell("system", "prune").out.endswith("[y/N] ")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert shell("system", "prune").code == 0
    assert three.asked == []
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert ids(three)["job"] in shell("system", "prune").out
    new = ids(three)["new"]
    assert shell("container", "prune", "-f", "--filter", "name=new").out == new + "\n"
    assert "new" not in three.found
    assert "job" in three.found


def test_create_hands_everything_on(shell: Shell, tmp_path: Path) -> None:
    cid = tmp_path / "cid"
    done = shell("create", "--cidfile", str(cid), "--name", "b", "--rootfs", "/:O", "sh", "-c", "x")
    assert done.code == 0
    ((_, image, command, options),) = shell.engine.asked
    assert (image, command) == (None, ["sh", "-c", "x"])
    assert isinstance(options, dict)
    assert options["rootfs"] == "/"
    assert options["cidfile"] == str(cid)
    assert options["create_command"][1:3] == ["create", "--cidfile"]


def test_an_exit_code_that_is_not_known(shell: Shell) -> None:
    from longshore.cli.app import App
    from longshore.cli.run import code_of

    app = App([])
    assert code_of(app, ended(3)) == 3
    assert code_of(app, ended(-1, ExitReason.MONITOR_LOST)) == 125


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["pa"], ["pause"]),
        (["container", "ex"], ["exec", "exists"]),
        (["--ru"], ["--runroot", "--runtime", "--runtime-flag"]),
        (["ps", "--no"], ["--no-trunc", "--noheading"]),
        (["ps", "--sort", "i"], ["id", "image"]),
        (["ps", "--sort=i"], ["--sort=id", "--sort=image"]),
        (["ps", "-f", "na"], ["name="]),
        (["ps", "--filter=na"], ["--filter=name="]),
        (["rm", ""], ["new", "job", "web"]),
        (["rm", "web", ""], ["new", "job"]),
        (["stop", ""], ["web"]),
        (["start", ""], ["new", "job"]),
        (["stop", "77"], ["776562000000"]),
        (["rename", "web", ""], []),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["run", "--cidfile", ""], [":file"]),
        (["run", "--rootfs", "/", "--na"], ["--name"]),
        (["run", "--rootfs", "/", "sh", "-"], [":file"]),
        (["ps", ""], []),
        (["nosuch", ""], []),
        (["kill", "-s", ""], []),
        (["kill", "-as", "x", ""], ["web"]),
        ([], []),
    ],
)
def test_completion(three: StandIn, words: list[str], lines: list[str]) -> None:
    from longshore.cli.app import App

    found = candidates(App([], engine=three), words)  # type: ignore[arg-type]  # a stand-in
    assert [line.partition("\t")[0] for line in found] == lines


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_scripts_ask_the_program(shell: Shell, tmp_path: Path, name: str) -> None:
    script = shell("completion", name).out
    assert "__complete" in script
    file = tmp_path / "script"
    assert shell("completion", name, "-f", str(file)).out == ""
    assert file.read_text() == script


def test_the_bash_script_works(shell: Shell, tmp_path: Path) -> None:
    import shutil
    import subprocess

    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    script = tmp_path / "completion"
    script.write_text(shell("completion", "bash").out)
    stub = tmp_path / "longshore"
    stub.write_text('#!/bin/sh\nprintf "%s|" "$@" >&3\nprintf "%s\\tx\\n" --sort=id --sort=image\n')
    stub.chmod(0o755)
    # readline splits words at "=", so the current word is only what follows it
    test = f"""
        source {script}
        COMP_LINE="longshore ps --sort=i" COMP_POINT=21
        COMP_WORDS=(longshore ps --sort = i) COMP_CWORD=4
        PATH={tmp_path}:$PATH
        _longshore_complete 3>{tmp_path}/asked
        printf "%s\\n" "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        [bash, "-c", test], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "id\nimage\n"
    assert (tmp_path / "asked").read_text() == "__complete|ps|--sort=i|"
