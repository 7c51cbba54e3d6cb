from typing import Any

from jeepney.low_level import Message

class DBusAddress:
    object_path: str
    bus_name: str
    interface: str
    def __init__(self, object_path: str, bus_name: str, interface: str) -> None: ...

def new_method_call(
    remote_obj: DBusAddress, method: str, signature: str | None = ..., body: tuple[Any, ...] = ...
) -> Message: ...
