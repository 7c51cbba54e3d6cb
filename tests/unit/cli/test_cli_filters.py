"""`--filter`: what each key means, and how several go together."""

from __future__ import annotations

import pytest
from cli_standin import NOW, SECOND, StandIn, ended, inspection

from longshore.cli.filters import KNOWN, matcher
from longshore.errors import InvalidArgument, NoSuchContainer
from longshore.lifecycle import Status
from longshore.models import Mount

WEB = inspection(
    "web",
    labels={"app": "web", "tier": "1"},
    image="docker.io/library/alpine:3",
    network="none",
    mounts=(Mount(type="bind", source="/srv", target="/data"),),
    created_ns=NOW,
    runtime_name="crun",
)
JOB = inspection(
    "job-1", Status.EXITED, labels={"app": "job"}, exit=ended(3), created_ns=NOW + SECOND
)
NEW = inspection(
    "new",
    Status.CREATED,
    created_ns=NOW + 2 * SECOND,
    command=("true",),
    network=f"container:{WEB.id}",
)
ENGINE = StandIn(WEB, JOB, NEW)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=web"], "web"),
        (["name=^job-[0-9]$"], "job-1"),
        (["name=e"], "web new"),
        (["name=web", "name=job"], "web job-1"),
        ([f"id={WEB.id[:6]}"], "web"),
        ([f"id={WEB.id}"], "web"),
        (["id=^77.*"], "web"),
        (["status=running"], "web"),
        (["status=exited", "status=created"], "job-1 new"),
        (["status=configured"], "new"),
        (["label=app"], "web job-1"),
        (["label=app=web"], "web"),
        (["label=app", "label=tier=1"], "web"),
        (["label!=app"], "new"),
        (["label!=app=job"], "web new"),
        (["exited=3"], "job-1"),
        (["exited=0"], ""),
        (["before=new"], "web job-1"),
        (["since=web"], "job-1 new"),
        (["since=web", "before=new"], "job-1"),
        (["until=1800000000"], "web"),
        (["ancestor=alpine"], "web"),
        (["ancestor=alpine:3"], "web"),
        (["ancestor=docker.io/library/alpine:3"], "web"),
        (["ancestor=debian"], ""),
        (["command=true"], "new"),
        (["command=sleep 1"], "web job-1"),
        (["volume=/data"], "web"),
        (["volume=/srv:/data"], "web"),
        (["volume=/srv:/x"], ""),
        (["network=none"], "web job-1"),  # asked for, or the default
        (["network=container:web"], "new"),
        ([f"network=container:{WEB.id[:12]}"], "new"),
        (["runtime=crun"], "web"),
        (["name=web", "status=exited"], ""),
        ([], "web job-1 new"),
    ],
)
def test_matches(filters: list[str], names: str) -> None:
    matches = matcher(filters, ENGINE)  # type: ignore[arg-type]  # a stand-in
    assert [one.config.name for one in (WEB, JOB, NEW) if matches(one)] == names.split()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo=1", 'unknown filter "foo"'),
        ("name", 'the filter "name" needs a value: name=VALUE'),
        ("status=foo", 'unknown status "foo"'),
        ("exited=x", 'exited="x" needs an exit code'),
        ("name=[", "is not a pattern"),
        ("until=x", "the filter until"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message.replace("[", r"\[")):
        matcher([text], ENGINE)  # type: ignore[arg-type]  # a stand-in


def test_an_unknown_filter_names_the_known() -> None:
    with pytest.raises(InvalidArgument) as caught:
        matcher(["foo=1"], ENGINE)  # type: ignore[arg-type]  # a stand-in
    assert caught.value.hint is not None
    assert all(key in caught.value.hint for key in KNOWN)


def test_before_a_container_that_is_not_there() -> None:
    with pytest.raises(NoSuchContainer):
        matcher(["before=nosuch"], ENGINE)  # type: ignore[arg-type]  # a stand-in
