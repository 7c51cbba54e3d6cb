"""The OCI runtime-spec: what a config.json holds, and how one is built from a `ContainerConfig`.

`build.build_spec` is pure; `context.gather` reads from the host what it needs.
"""
