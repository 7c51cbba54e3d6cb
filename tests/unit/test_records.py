"""Records as JSON: the same after a round trip, and never misread when they are damaged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore._value import Value
from longshore.errors import RecordCorrupt
from longshore.lifecycle import Status
from longshore.linux.processes import ProcessId
from longshore.models import Device, ExitInfo, ExitReason, Mount, Ulimit, Usage
from longshore.options import ContainerConfig, blockio
from longshore.store import Record, Run
from longshore.store.records import FORMAT, KEPT_EXITS, _bytes, _parse

ID = "ab" * 32

# what a caller can give: `options.parse.text` and `options.names.check_name` let nothing else pass
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
container_names = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,8}", fullmatch=True)
said = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)  # by a foreign program
numbers = st.integers(-(1 << 63), (1 << 64) - 1)
names = st.dictionaries(texts, texts, max_size=3)
processes = st.builds(ProcessId, pid=st.integers(1, 1 << 22), start=st.integers(0, 1 << 60))
floats = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
FREE: dict[str, st.SearchStrategy[Any]] = {
    "mounts": st.lists(
        st.builds(Mount, type=texts, target=texts, source=texts, options=st.lists(texts).map(tuple))
    ),
    "ulimits": st.lists(st.builds(Ulimit, name=texts, soft=numbers, hard=numbers)),
    "devices": st.lists(st.builds(Device, source=texts, target=texts, permissions=texts)),
    "spec_patch": st.dictionaries(texts, plain, max_size=3),
    **dict.fromkeys(blockio.OPTIONS, st.dictionaries(texts, numbers, max_size=3)),
}


def _like(name: str, default: object) -> st.SearchStrategy[Any]:
    """Return values of the kind that a field's default is."""
    if name in FREE:
        free = FREE[name]
        return free.map(tuple) if isinstance(default, tuple) else free
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, int) or default is None:
        return st.none() | numbers if default is None else numbers
    if isinstance(default, float):
        return floats
    if isinstance(default, tuple):
        return st.lists(texts, max_size=3).map(tuple)
    return names if isinstance(default, dict) else texts


configs = st.fixed_dictionaries(
    {"name": container_names},
    optional={
        name: _like(name, getattr(ContainerConfig, name))
        for name in ContainerConfig._fields
        if name != "name"
    },
).map(lambda values: ContainerConfig(**values))
exits = st.builds(
    ExitInfo,
    code=st.integers(-1, 255),
    reason=st.sampled_from(ExitReason),
    signal=st.none() | st.integers(1, 64),
    oom_killed=st.booleans(),
    started_ns=st.none() | numbers,
    finished_ns=st.none() | numbers,
    usage=st.builds(Usage, memory_peak=st.none() | numbers, cpu_user=st.none() | floats),
    message=said,
)
runs = st.builds(
    Run,
    number=st.integers(1, 1 << 60),
    boot_id=texts,
    runtime=texts,
    runtime_path=texts,
    cgroup=texts,
    actor=st.none() | processes,
    monitor=st.none() | processes,
    init=st.none() | processes,
    started_ns=st.none() | numbers,
    intent=st.sampled_from(["", "stop", "escalate", "kill", "timeout"]),
    intent_signal=st.integers(0, 64),
    note=said,
)
records = st.builds(
    Record,
    id=st.just(ID),
    config=configs,
    created_ns=numbers,
    status=st.sampled_from(Status),
    run=st.none() | runs,
    exits=st.lists(exits, max_size=3).map(tuple),
    starts=st.integers(0, 1 << 60),
    error=said,
)


@given(configs)
def test_round_trip_of_a_config(config: ContainerConfig) -> None:
    assert ContainerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@given(records)
def test_round_trip_of_a_record(record: Record) -> None:
    again = _parse(_bytes(record), "/x", ID)
    assert again == record
    _same_types(record, again)


def _same_types(one: Value, other: Value) -> None:
    for (name, before), (_, after) in zip(one._items(), other._items(), strict=True):
        assert type(before) is type(after), name
        if isinstance(before, Value):
            _same_types(before, after)


def _record(**changes: Any) -> dict[str, Any]:
    record = Record(
        id=ID,
        config=ContainerConfig(name="box"),
        created_ns=1,
        run=Run(number=1, boot_id="b", runtime="crun", runtime_path="/usr/bin/crun"),
        exits=(ExitInfo(code=0, reason=ExitReason.EXITED),),
    )
    return {"format": FORMAT, **record.to_json(), **changes}


def test_a_plain_record_is_read() -> None:
    assert _parse(json.dumps(_record()).encode(), "/x", ID).name == "box"


def test_what_a_newer_version_adds_is_not_in_the_way() -> None:
    data = _record(colour="green")
    data["config"]["taste"] = {"sweet": [1]}
    data["run"]["speed"] = None
    assert _parse(json.dumps(data).encode(), "/x", ID) == _parse(
        json.dumps(_record()).encode(), "/x", ID
    )


def test_what_a_newer_version_adds_survives_a_change() -> None:
    data = _record(colour="green", layers=[{"deep": [1, None]}])
    data["config"]["taste"] = {"sweet": [1]}
    data["config"]["mounts"] = [{"type": "bind", "target": "/a", "idmap": True}]
    data["run"]["speed"] = None
    data["run"]["init"] = {"pid": 5, "start": 6, "pidfd_inode": 7}
    data["exits"][0]["weather"] = "fine"
    data["exits"][0]["usage"] = {"joules": 2.5}
    before = _parse(json.dumps(data).encode(), "/x", ID)
    run = before.run
    assert run is not None
    changed = before.replace(
        status=Status.STOPPED,
        run=run.replace(intent="stop"),
        config=before.config.replace(name="other"),
    ).with_exit(ExitInfo(code=1, reason=ExitReason.EXITED))
    after = json.loads(_bytes(changed))
    expected = json.loads(json.dumps(data))
    expected["status"] = "stopped"
    expected["run"]["intent"] = "stop"
    expected["config"]["name"] = "other"
    expected["exits"].append({"code": 1, "reason": "exited"})
    assert after == expected


def test_a_newer_format_is_refused_as_such() -> None:
    with pytest.raises(RecordCorrupt, match=rf"format {FORMAT + 1} is newer") as caught:
        _parse(json.dumps(_record(format=FORMAT + 1)).encode(), "/x/record.json", ID)
    assert caught.value.path == "/x/record.json"


DAMAGED = {
    "empty": b"",
    "half": json.dumps(_record()).encode()[:-30],
    "nul bytes": b"\0" * 300,
    "not UTF-8": b'{"format": 1, "id": "\xff\xfe"}',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "deep": b"[" * 200_000,
    "another's": json.dumps(_record(id="cd" * 32)).encode(),
    "a status that does not exist": json.dumps(_record(status="sleeping")).encode(),
    **{
        f"{key} = {value!r}": json.dumps(_record(**{key: value})).encode()
        for key in ("format", "id", "config", "created_ns", "status", "exits", "starts", "error")
        for value in (None, True, [1], {"x": 1}, "x")
        if (key, value) != ("error", "x")
    },
    "format 0": json.dumps(_record(format=0)).encode(),
    "a number of 5000 digits": b'{"format": 1, "created_ns": ' + b"9" * 5000 + b"}",
    **{f"run = {value!r}": json.dumps(_record(run=value)).encode() for value in ([1], {"x": 1})},
    **{
        f"no {key}": json.dumps({k: v for k, v in _record().items() if k != key}).encode()
        for key in ("format", "id", "config", "created_ns")
    },
    "a config without a name": json.dumps(_record(config={})).encode(),
    **{
        f"the name {name[:9]!r}": json.dumps(_record(config={"name": name})).encode()
        for name in ("", ".", "..", "a/b", "../names/a", "a\n", "a\0", "é", "\ud800", "a" * 251)
    },
    "a name that is a number": json.dumps(_record(config={"name": 5})).encode(),
    "exits of text": json.dumps(_record(exits=["x"])).encode(),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_told_apart(data: bytes) -> None:
    with pytest.raises(RecordCorrupt, match=r"the record /x/record\.json is damaged: .+"):
        _parse(data, "/x/record.json", ID)


@given(st.data())
def test_a_record_that_is_cut_anywhere(data: st.DataObject) -> None:
    whole = json.dumps(_record()).encode()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(RecordCorrupt):
        _parse(cut, "/x", ID)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_damaged_record(data: bytes) -> None:
    with pytest.raises(RecordCorrupt):
        _parse(data, "/x", ID)


def test_the_last_exits_are_kept() -> None:
    record = Record(id=ID, config=ContainerConfig(name="box"), created_ns=1)
    for code in range(KEPT_EXITS + 3):
        record = record.with_exit(ExitInfo(code=code, reason=ExitReason.EXITED))
    assert [e.code for e in record.exits] == list(range(3, KEPT_EXITS + 3))
