"""Run one command in a container, give it input, and look at how it ended."""

from longshore import Engine

engine = Engine()
result = engine.run(
    command=["sh", "-c", "read name; echo hello $name, I am process $$; exit 3"],
    rootfs="/",  # this machine's own files …
    overlay=True,  # … and a layer of its own for whatever the container changes
    input=b"world\n",
    timeout=30,
)
print(result.text, end="")
print(f"it ended with {result.exit.code}: {result.exit.reason.value}")
