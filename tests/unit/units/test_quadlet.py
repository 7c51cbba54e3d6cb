"""A .container file's keys, one by one and together."""

from __future__ import annotations

import shlex

import pytest

from longshore.errors import HostUnsupported, InvalidArgument, LongshoreError
from longshore.units import quadlet
from longshore.units.unitfile import UnitFile, parse, words


def made(text: str, name: str = "web") -> UnitFile:
    source = parse(text, "web.container")
    return quadlet.service(
        source, path="/etc/q/web.container", name=name, program="/bin/ls", exists="/dev/null".__eq__
    )


def run(lines: str, name: str = "web") -> list[str]:
    """Return the words of `run` for these lines of [Container]."""
    unit = made(f"[Container]\nRootfs=/srv\n{lines}\n", name)
    argv = words(unit.last("Service", "ExecStart"), "ExecStart")
    assert argv[:2] == ["/bin/ls", "run"]
    return argv[2:]


PLAIN = shlex.split(
    "--name systemd-%N --cidfile=%t/%N.cid --replace --rm --cgroups=no-conmon -d --sdnotify=conmon"
)


def test_a_whole_file() -> None:
    unit = made(
        "[Unit]\nDescription=a server\nAfter=x.service\n"
        "[Container]\nRootfs=/srv/web:O\nExec=server '--name=a b'\nVolume=/data:/data:ro\n"
        "[Service]\nRestart=always\nTimeoutStartSec=5\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    assert (
        unit.text()
        == """\
[Unit]
Description=a server
After=x.service
SourcePath=/etc/q/web.container
RequiresMountsFor=/srv/web
RequiresMountsFor=/data

[X-Container]
Rootfs=/srv/web:O
Exec=server '--name=a b'
Volume=/data:/data:ro

[Service]
Restart=always
TimeoutStartSec=5
KillMode=mixed
SyslogIdentifier=%N
SuccessExitStatus=143 137
RestartForceExitStatus=137
Type=notify
NotifyAccess=all
ExecStartPre=-/bin/rm -f %t/%N.cid
ExecStart=/bin/ls run --name systemd-%N --cidfile=%t/%N.cid --replace --rm --cgroups=no-conmon -d \
--sdnotify=conmon --volume /data:/data:ro --rootfs /srv/web:O server "--name=a b"
ExecStop=/bin/ls stop --ignore --cidfile=%t/%N.cid
ExecStopPost=-/bin/ls rm -f --ignore --cidfile=%t/%N.cid

[Install]
WantedBy=multi-user.target
"""
    )


KEYS = {
    "AddCapability": ("A B", "--cap-add A --cap-add B"),
    "AddDevice": ("/dev/x:/dev/y:r", "--device /dev/x:/dev/y:r"),
    "Annotation": ('a=1 "b=2 3"', "--annotation a=1 --annotation 'b=2 3'"),
    "CgroupsMode": ("enabled", "--cgroups enabled"),
    "ContainerName": ("n", "--name n"),
    "DropCapability": ("all", "--cap-drop all"),
    "Entrypoint": ("/e", "--entrypoint /e"),
    "Environment": ('A=1 "B=2 %i"', "--env A=1 --env 'B=2 %i'"),
    "EnvironmentFile": ("e/../env", "--env-file /etc/q/env"),
    "Exec": ("sh -c 'echo %i'", "--rootfs /srv sh -c 'echo %i'"),
    "GroupAdd": ("g", "--group-add g"),
    "HostName": ("h", "--hostname h"),
    "Label": ("a=1", "--label a=1"),
    "LogDriver": ("none", "--log-driver none"),
    "LogOpt": ("max-size=1m", "--log-opt max-size=1m"),
    "Mask": ("/a:/b", "--security-opt mask=/a:/b"),
    "Memory": ("64m", "--memory 64m"),
    "Mount": ("type=tmpfs,destination=/z", "--mount type=tmpfs,destination=/z"),
    "Network": ("none", "--network none"),
    "NoNewPrivileges": ("yes", "--security-opt no-new-privileges"),
    "Notify": ("true", "--sdnotify=container"),
    "PidsLimit": ("5", "--pids-limit 5"),
    "PodmanArgs": ("--cpus 3", "--cpus 3"),
    "ReadOnly": ("1", "--read-only=true"),
    "ReadOnlyTmpfs": ("no", "--read-only-tmpfs=false"),
    "RunInit": ("true", "--init=true"),
    "SeccompProfile": ("/s", "--security-opt seccomp=/s"),
    "SecurityLabelDisable": ("on", "--security-opt label=disable"),
    "SecurityLabelFileType": ("t", "--security-opt label=filetype:t"),
    "SecurityLabelLevel": ("s0", "--security-opt label=level:s0"),
    "SecurityLabelNested": ("y", "--security-opt label=nested"),
    "SecurityLabelType": ("t", "--security-opt label=type:t"),
    "ShmSize": ("1m", "--shm-size 1m"),
    "StopSignal": ("INT", "--stop-signal INT"),
    "StopTimeout": ("3", "--stop-timeout 3"),
    "Sysctl": ("a=1 b=2", "--sysctl a=1 --sysctl b=2"),
    "Tmpfs": ("/t:size=1m", "--tmpfs /t:size=1m"),
    "Ulimit": ("nofile=5", "--ulimit nofile=5"),
    "Unmask": ("ALL", "--security-opt unmask=ALL"),
    "User": ("u", "--user u"),
    "UserNS": ("host", "--userns host"),
    "Volume": ("/a:/b", "--volume /a:/b"),
    "WorkingDir": ("/w", "--workdir /w"),
}


@pytest.mark.parametrize("key", KEYS)
def test_each_key(key: str) -> None:
    value, expected = KEYS[key]
    argv, wanted = run(f"{key}={value}"), shlex.split(expected)
    at = [n for n in range(len(argv)) if argv[n : n + len(wanted)] == wanted]
    assert at, argv


def test_every_key_is_tested() -> None:
    assert quadlet.KEYS - KEYS.keys() == {"GlobalArgs", "Group", "Rootfs"}
    assert not quadlet.KEYS & quadlet.LATER


def test_each_key_s_option_is_one_of_run() -> None:
    from longshore.cli.flags import parse
    from longshore.cli.run import COMMAND

    for key, (value, _) in KEYS.items():
        parse(run(f"{key}={value}"), COMMAND.flags, verb="run", trailing=True)


def test_keys_that_go_together() -> None:
    assert run("User=u\nGroup=g")[len(PLAIN) :][:2] == ["--user", "u:g"]
    with pytest.raises(InvalidArgument, match="there is no User="):
        run("Group=g")
    unit = made("[Container]\nRootfs=/srv\nGlobalArgs=--root /r --runtime runc\n")
    for key in ("ExecStart", "ExecStop"):
        assert unit.last("Service", key).startswith("/bin/ls --root /r --runtime runc ")


@pytest.mark.parametrize(
    ("line", "option", "needed"),
    [
        ("Volume=./data:/x:ro", "--volume /etc/q/data:/x:ro", "/etc/q/data"),
        ("Volume=../data:/x", "--volume /etc/data:/x", "/etc/data"),
        ("Volume=.:/x", "--volume /etc/q:/x", "/etc/q"),
        ("Volume=%h/./data:/x", "--volume %h/./data:/x", None),
        ("Mount=type=bind,source=./d,target=/x", "--mount type=bind,source=/etc/q/d,target=/x",
         "/etc/q/d"),
        ("Mount=type=bind,src=../d,dst=/x,ro", "--mount type=bind,source=/etc/d,dst=/x,ro",
         "/etc/d"),
        ('Mount=type=bind,"source=./a,b",dst=/x',
         "--mount 'type=bind,\"source=/etc/q/a,b\",dst=/x'", "/etc/q/a,b"),
        ("Mount=type=bind,source=/d,dst=/x", "--mount type=bind,source=/d,dst=/x", "/d"),
        ("Mount=type=tmpfs,dst=/x", "--mount type=tmpfs,dst=/x", None),
    ],
)  # fmt: skip
def test_a_source_is_relative_to_where_the_file_lies(
    line: str, option: str, needed: str | None
) -> None:
    argv, wanted = run(line), shlex.split(option)
    at = argv.index(wanted[0])
    assert argv[at : at + 2] == wanted
    unit = made(f"[Container]\nRootfs=/srv\n{line}\n")
    assert unit.all("Unit", "RequiresMountsFor") == ["/srv", *([needed] if needed else [])]


def test_a_device_that_need_not_be_there() -> None:
    assert "--device" not in run("AddDevice=-/dev/nosuch")
    assert "/dev/null:/dev/x" in run("AddDevice=-/dev/null:/dev/x")


def test_a_template_names_its_container_by_the_instance() -> None:
    assert run("", "web@")[:2] == ["--name", "systemd-%p_%i"]


def test_a_command_that_looks_like_a_flag() -> None:
    assert run("Entrypoint=/e\nExec=-x y")[-4:] == ["/srv", "--", "-x", "y"]


def test_what_ends_by_itself() -> None:
    unit = made("[Container]\nRootfs=/srv\n[Service]\nType=oneshot\nRemainAfterExit=yes\n")
    assert not {"-d", "--sdnotify=conmon"} & {*unit.last("Service", "ExecStart").split()}
    assert unit.last("Service", "NotifyAccess") == ""


def test_a_long_stop_has_its_time() -> None:
    assert (
        made("[Container]\nRootfs=/s\nStopTimeout=60\n").last("Service", "TimeoutStopSec") == "120"
    )
    assert made("[Container]\nRootfs=/s\nStopTimeout=5\n").last("Service", "TimeoutStopSec") == ""


def test_a_network_is_waited_for() -> None:
    assert made("[Container]\nRootfs=/s\nNetwork=none\n").last("Unit", "After") == ""
    text = "[Container]\nRootfs=/s\nNetwork=host\n"
    assert made(text).last("Unit", "After") == "network-online.target"
    assert made(text + "[Quadlet]\nDefaultDependencies=no\n").last("Unit", "After") == ""


REFUSED = {
    "[Unit]\n": "no \\[Container\\] section",
    "[Container]\nExec=x\n": "nothing to run from",
    "[Container]\nRootfs=srv\n": "not an absolute path",
    "[Container]\nRootfs=/s\nImage=alpine\n": "Image=alpine.*directory only",
    "[Container]\nRootfs=/s\nPublishPort=80\n": "PublishPort=80.*does not have it yet",
    "[Container]\nRootfs=/s\nBogus=80\n": "Bogus= is not a key",
    "[Container]\nRootfs=/s\nReadOnly=perhaps\n": "ReadOnly=perhaps: it is neither",
    "[Container]\nRootfs=/s\nNotify=healthy\n": "no health checks",
    "[Container]\nRootfs=/s\nCgroupsMode=split\n": "CgroupsMode=split",
    "[Container]\nRootfs=/s\nVolume=x.volume:/x\n": "no named volumes",
    '[Container]\nRootfs=/s\nMount=type=bind,"source=./x,dst=/x\n': "mounts: ",
    "[Container]\nRootfs=/s\nNetwork=x.network\n": "no networks of units",
    "[Container]\nRootfs=/s\nExec='x\n": "Exec='x: a ' is not closed",
    "[Container]\nRootfs=/s\n[Service]\nExecStart=/x\n": "ExecStart= is what",
    "[Container]\nRootfs=/s\n[Service]\nType=simple\n": "Type=simple",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(LongshoreError, match=REFUSED[text]):
        made(text)


def test_a_slip_of_the_pen_gets_a_hint() -> None:
    with pytest.raises(InvalidArgument) as caught:
        run("Enviroment=A=1")
    assert caught.value.hint == "did you mean 'Environment'?"


@pytest.mark.parametrize("key", sorted(quadlet.LATER))
def test_what_comes_later_is_no_slip(key: str) -> None:
    with pytest.raises(HostUnsupported):
        run(f"{key}=x")


def links(install: str, name: str) -> list[tuple[str, str]]:
    return quadlet.enabled(parse(f"[Install]\n{install}", "x"), name)


def test_links() -> None:
    asked = "WantedBy=a.target b.target\nRequiredBy=c.service\nAlias=d.service\nUpheldBy=e.target\n"
    assert links(asked, "web") == [
        ("d.service", "web.service"),
        ("a.target.wants/web.service", "../web.service"),
        ("b.target.wants/web.service", "../web.service"),
        ("c.service.requires/web.service", "../web.service"),
        ("e.target.upholds/web.service", "../web.service"),
    ]
    wanted = "WantedBy=a.target\n"
    assert links(wanted, "web@") == []  # nobody knows of which instance
    assert links(wanted + "DefaultInstance=1\n", "web@") == [
        ("a.target.wants/web@1.service", "../web@.service")
    ]
    assert links(wanted, "web@2") == [("a.target.wants/web@2.service", "../web@2.service")]
    with pytest.raises(InvalidArgument, match="not a unit"):
        links("WantedBy=../../etc/x.target\n", "web")
