"""What `generate systemd` prints, as a whole."""

from __future__ import annotations

import pytest

from longshore.units.services import RESTART_POLICIES, Service

EXISTING = Service(
    name="container-box",
    program=("/usr/bin/longshore", "--root", "/my root"),
    container="box",
    stop_timeout=10.0,
    mounts=("/my root", "/run/longshore"),
    pidfile="/run/longshore/containers/a%b/conmon.pid",
)


def test_a_container_that_exists() -> None:
    assert (
        EXISTING.unit().text()
        == """\
[Unit]
Description=Longshore container-box.service
RequiresMountsFor="/my root" /run/longshore

[Service]
Restart=on-failure
SuccessExitStatus=143 137
RestartForceExitStatus=137
TimeoutStopSec=70
ExecStart=/usr/bin/longshore --root "/my root" start box
ExecStop=/usr/bin/longshore --root "/my root" stop -t 10 box
ExecStopPost=/usr/bin/longshore --root "/my root" stop -t 10 box
Type=forking
PIDFile=/run/longshore/containers/a%%b/conmon.pid

[Install]
WantedBy=default.target
"""
    )


def test_a_container_that_it_makes() -> None:
    new = EXISTING.replace(
        program=("/usr/bin/longshore",),
        mounts=(),
        pidfile="",
        run=(("-d",), ("--label", "a=$x %n"), ("sh", "-c", 'echo "hi"')),
        restart_policy="no",
        restart_sec=1.5,
        start_timeout=30.0,
        network=True,
        env=("A=1 %h",),
        after=("a.service",),
        wants=("w.service", "v.service"),
        requires=("r.service",),
    )
    assert (
        new.unit().text()
        == """\
[Unit]
Description=Longshore container-box.service
Wants=network-online.target w.service v.service
After=network-online.target a.service
Requires=r.service

[Service]
Environment="A=1 %%h"
Restart=no
SuccessExitStatus=143
RestartSec=1.5
TimeoutStartSec=30
TimeoutStopSec=70
ExecStartPre=/bin/rm -f %t/%n.ctr-id
ExecStart=/usr/bin/longshore run \\
	--cidfile=%t/%n.ctr-id \\
	-d \\
	--label "a=$$x %%n" \\
	sh -c "echo \\"hi\\""
ExecStop=/usr/bin/longshore stop --ignore -t 10 --cidfile=%t/%n.ctr-id
ExecStopPost=/usr/bin/longshore rm -f --ignore -t 10 --cidfile=%t/%n.ctr-id
Type=notify
NotifyAccess=all

[Install]
WantedBy=default.target
"""
    )


@pytest.mark.parametrize("policy", RESTART_POLICIES)
def test_want_of_memory_is_never_taken_for_success(policy: str) -> None:
    """137 is what a stop leaves that had to kill, and what the OOM killer leaves."""
    unit = EXISTING.replace(restart_policy=policy).unit()
    forgiven = "137" in unit.last("Service", "SuccessExitStatus").split()
    assert forgiven == (unit.last("Service", "RestartForceExitStatus") == "137")
    assert forgiven == (policy != "no")
