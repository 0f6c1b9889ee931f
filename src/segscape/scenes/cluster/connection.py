"""The connection to a Ray cluster, and the resources of one worker."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

_THREADS = 4
"""Threads of a worker without a GPU: more speed up a convolution little; more blocks at the same time gain more."""
_BESIDE_GPU = 2
"""CPUs of a worker with a GPU; they read and write while the GPU computes."""
_PATIENCE = 10
"""Seconds after which an address that does not answer is given up."""
_LOCAL_STORE = 128 << 20
"""Bytes of Ray's object store on a single machine; it holds the network and the records."""


class WorkerShare(NamedTuple):
    """The resources of a machine that one worker takes.

    Attributes:
        cpus: The number of CPUs, and of the threads that compute.
        gpus: 0 or 1.
        memory: The bytes to reserve; 0 to reserve none.
        workers: The number of workers that the cluster has room for now.
    """

    cpus: int
    gpus: int
    memory: int
    workers: int

    @classmethod
    def of(cls, machines: Sequence[Mapping[str, float]], *, memory: int) -> WorkerShare:
        """Choose the share that suits a cluster: a GPU if there is any, else a few CPUs, or more if memory is scarce.

        Args:
            machines: The resources of each machine, by Ray's names.
            memory: The bytes that a worker takes; not considered on a cluster with GPUs.

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
    """Connect to a Ray cluster; a cluster that this process is already connected to is used and stays connected.

    Args:
        address: `"auto"`, `"host:port"`, or None for a cluster of this machine alone, which is started and stopped, and
            which no other machine can reach, unless Ray was imported before.

    Raises:
        ModuleNotFoundError: Ray is missing; the message names the extra.
        ConnectionError: There is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        # Ray reads it when it is imported. Without it, Ray listens on every network interface, on Linux.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise ModuleNotFoundError("Clusters need Ray: pip install 'segscape[cluster]'.", name="ray") from None
    if ray.is_initialized():
        yield
        return
    # Ray Data would log each step of a data set's execution.
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
    """Return the resources of each machine that is alive in the cluster, by Ray's names."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _reach(address: str | None) -> None:
    """Check that a server listens at an address: Ray itself would try for minutes.

    Raises:
        OSError: None does.
        ValueError: It is not an address that can be used.
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
    """Return how many CPUs a worker takes so that all CPUs of a machine are in use, or nearly all."""
    cpus = int(machine["CPU"])
    by_memory = max(int(machine["memory"] // memory), 1) if memory else cpus
    return max(min(_THREADS, cpus), cpus // by_memory)


def _room(machine: Mapping[str, float], cpus: int, memory: int) -> int:
    by_cpus = int(machine["CPU"]) // cpus
    return min(by_cpus, int(machine["memory"] // memory)) if memory else by_cpus
