"""Asks a Ray cluster who it is, as a program of its own: `python -P ray_probe.py ADDRESS`.

Ray waits for minutes for a cluster that does not answer, and aborts the process where it lacks a token; a program that does nothing
else can be ended, and what it dies of does not matter. It prints `asking` once Ray is loaded, then one line of JSON: the versions that
the cluster was started with, or `error` with the message and `kind` with the name of the exception.
"""

import json
import sys


def ask(address: str) -> dict[str, str]:
    """What the cluster at ``address`` says of itself."""
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    try:
        where = canonicalize_bootstrap_address(address)
        if where is None:
            return {"kind": "ConnectionError", "error": "no cluster runs on this machine"}
        found = GcsClient(where).internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=5)
        return {"address": where, **{key: str(value) for key, value in json.loads(found or b"{}").items()}}
    except Exception as error:
        return {"kind": type(error).__name__, "error": str(error)}


if __name__ == "__main__":
    import ray  # noqa: F401 (the seconds that this takes are not the cluster's)

    print("asking", flush=True)
    print(json.dumps(ask(sys.argv[1])), flush=True)
