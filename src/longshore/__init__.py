"""OCI containers from Python, with no daemon.

``from longshore import Engine`` is where to begin. Importing this package loads nothing else; each
name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.attachment import Attachment
    from longshore.engine.container import Container
    from longshore.engine.engine import Engine
    from longshore.engine.eventstream import EventStream
    from longshore.engine.inspection import Inspection
    from longshore.engine.process import Process
    from longshore.engine.trace import Trace
    from longshore.errors import (
        Busy,
        CommandFailed,
        ContainerFailed,
        HasDependents,
        HostUnsupported,
        InvalidArgument,
        LongshoreError,
        MonitorFailed,
        MonitorGone,
        NameInUse,
        NoSuchContainer,
        NoSuchExec,
        NoSuchImage,
        NoSuchPath,
        OperationTimeout,
        ProgramNotExecutable,
        ProgramNotFound,
        RecordCorrupt,
        RuntimeFailed,
        StoreError,
        WrongState,
    )
    from longshore.lifecycle import Status
    from longshore.models import (
        Device,
        Event,
        ExitInfo,
        ExitReason,
        Gap,
        LogRecord,
        Mount,
        ProcessInfo,
        RunResult,
        Stats,
        Ulimit,
        Usage,
    )

__version__ = "0.1.0"

__all__ = [
    "Attachment",
    "Busy",
    "CommandFailed",
    "Container",
    "ContainerFailed",
    "Device",
    "Engine",
    "Event",
    "EventStream",
    "ExitInfo",
    "ExitReason",
    "Gap",
    "HasDependents",
    "HostUnsupported",
    "Inspection",
    "InvalidArgument",
    "LogRecord",
    "LongshoreError",
    "MonitorFailed",
    "MonitorGone",
    "Mount",
    "NameInUse",
    "NoSuchContainer",
    "NoSuchExec",
    "NoSuchImage",
    "NoSuchPath",
    "OperationTimeout",
    "Process",
    "ProcessInfo",
    "ProgramNotExecutable",
    "ProgramNotFound",
    "RecordCorrupt",
    "RunResult",
    "RuntimeFailed",
    "Stats",
    "Status",
    "StoreError",
    "Trace",
    "Ulimit",
    "Usage",
    "WrongState",
    "__version__",
]

_HOME = {
    "Attachment": "engine.attachment",
    "Container": "engine.container",
    "Engine": "engine.engine",
    "EventStream": "engine.eventstream",
    "Inspection": "engine.inspection",
    "Process": "engine.process",
    "Trace": "engine.trace",
    "Status": "lifecycle",
    "Device": "models",
    "Event": "models",
    "ExitInfo": "models",
    "ExitReason": "models",
    "Gap": "models",
    "LogRecord": "models",
    "Mount": "models",
    "ProcessInfo": "models",
    "RunResult": "models",
    "Stats": "models",
    "Ulimit": "models",
    "Usage": "models",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'longshore' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"longshore.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
