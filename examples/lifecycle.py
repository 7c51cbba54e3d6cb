"""Create, start, follow, stop, inspect and remove a container, step by step."""

from longshore import Engine

engine = Engine()
box = engine.create(
    command=[
        "sh",
        "-c",
        "trap 'echo leaving; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
    ],
    rootfs="/",
    overlay=True,
    hostname="box",
    labels={"made-by": "examples/lifecycle.py"},
)
try:
    print(f"{box.name}: {box.inspect().status.value}")
    box.start()
    for record in box.logs(follow=True):
        print(f"it says: {record.data.decode().rstrip()}")
        if record.data == b"ready\n":
            break
    print(f"its first process is {box.inspect().pid} to this machine")

    box.pause()
    print(f"frozen: {box.inspect().status.value}")
    box.unpause()

    ended = box.stop(timeout=5)
    assert ended is not None
    print(f"it was asked to stop: code {ended.code}, {ended.reason.value}")
    print(f"its last words: {next(box.logs(tail=1)).data.decode().rstrip()}")
finally:
    box.remove(force=True)
