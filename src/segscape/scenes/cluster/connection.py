"""A Ray cluster, and what of it one worker takes."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

_THREADS = 4
"""With more a convolution gains little; several scenes' blocks at once gain more."""
_BESIDE_GPU = 2
"""CPUs that read and write while a GPU computes."""
_PATIENCE = 10
"""Seconds until an address is given up."""
_LOCAL_STORE = 128 << 20
"""Bytes for Ray's object store on a single machine: it holds the network and records."""


class WorkerShare(NamedTuple):
    """What one worker takes of a machine.

    Attributes:
        cpus: As many threads compute.
        gpus: 0 or 1.
        memory: Bytes; 0 where nothing is said of them.
        workers: How many find room on the cluster as it is now.
    """

    cpus: int
    gpus: int
    memory: int
    workers: int

    @classmethod
    def of(cls, machines: Sequence[Mapping[str, float]], *, memory: int) -> WorkerShare:
        """The share that suits a cluster: a GPU if there are any, else a few CPUs, all of them where memory is scarce.

        Args:
            machines: The resources of each, by Ray's names.
            memory: Bytes that a worker may take; on a cluster with GPUs they are the GPU's.

        Raises:
            ValueError: No machine has room for a worker.
        """
        with_gpu = [machine for machine in machines if machine.get("GPU", 0) >= 1]
        if with_gpu:
            cpus = min(_BESIDE_GPU, *(int(machine.get("CPU", 0)) for machine in with_gpu))
            return cls(cpus, 1, 0, sum(int(machine["GPU"]) for machine in with_gpu))
        fits = [
            machine for machine in machines if machine.get("CPU", 0) >= 1 and machine.get("memory", 0) >= max(memory, 1)
        ]
        if not fits:
            raise ValueError(
                f"No machine of the cluster offers a CPU and {memory / 2**30:.1f} GiB of memory for a worker; allow "
                "less memory, or start Ray there with more (`ray start --num-cpus --memory`)."
            )
        cpus = min(_cpus(machine, memory) for machine in fits)
        return cls(cpus, 0, memory, sum(_room(machine, cpus, memory) for machine in fits))


@contextmanager
def connection(address: str | None) -> Iterator[None]:
    """Use a Ray cluster; one that this process is connected to already is used and left as it is.

    Args:
        address: `"auto"`, `"host:port"`, or nothing for a cluster of this machine alone, which is
            started and stopped.

    Raises:
        ModuleNotFoundError: Ray is missing; the message names the extra.
        ConnectionError: There is no cluster at the address.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise ModuleNotFoundError("Clusters need Ray: pip install 'segscape[cluster]'.", name="ray") from None
    if ray.is_initialized():
        yield
        return
    # It tells each step of a data set's execution.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _LOCAL_STORE} if address is None else {}
    try:
        _reach(address)
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"There is no Ray cluster at the address {address} ({error}). Start one with `ray start --head` and give "
            "its address, with its RAY_AUTH_TOKEN in the environment, or none to use this machine alone."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def machines() -> list[dict[str, float]]:
    """The resources of each machine of the cluster that is there now, by Ray's names."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _reach(address: str | None) -> None:
    """See that somebody listens at an address: Ray itself would try for minutes.

    Raises:
        OSError: Nobody does.
        ValueError: It is no address.
    """
    if address in (None, "auto"):
        return
    if address.startswith("ray://"):
        raise ValueError("Ray Data does not work through ray://; use auto, on a machine of the cluster")
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ValueError("an address is auto or HOST:PORT")
    socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


def _cpus(machine: Mapping[str, float], memory: int) -> int:
    """The CPUs of a worker with which all of a machine's are in use, or nearly."""
    cpus = int(machine["CPU"])
    by_memory = max(int(machine["memory"] // memory), 1) if memory else cpus
    return max(min(_THREADS, cpus), cpus // by_memory)


def _room(machine: Mapping[str, float], cpus: int, memory: int) -> int:
    by_cpus = int(machine["CPU"]) // cpus
    return min(by_cpus, int(machine["memory"] // memory)) if memory else by_cpus
