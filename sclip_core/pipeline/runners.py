"""Where the pieces of a command are executed beside its own process: processes, Dask, Ray.

A runner takes ``Work`` and gives a future of its ``Report``. What distributes the work and starts
the processes is the standard library's pool, Dask's scheduler or Ray's.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

import torch

from sclip_core.config import Settings, UserError, WorkerLostError
from sclip_core.config.optional import optional
from sclip_core.pipeline import work as working
from sclip_core.pipeline.work import Report, Work, run_shard

MOST = 8  # processes on a CPU where nobody said how many: each has the models
ROUNDS = 4  # pieces for each process where nobody said how many: the slowest is not waited for long
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
QUIET = {"DASK_LOGGING__DISTRIBUTED": "error"}  # as they end, workers of Dask warn of ending
WAITING = 30.0  # seconds for the first worker of a scheduler of Dask
STOPPING = 10.0  # seconds that workers of Ray get to store the batch that they are at
PATIENCE = 60.0  # seconds that a process of a killed command may take to store its rows


class Runner(ABC):
    """Processes that execute pieces of work; started when the first piece comes."""

    def __init__(self, settings: Settings, gpus: int) -> None:
        """Start nothing.

        Args:
            settings: of a run.
            gpus: that this machine spreads work over; 0: it computes on a CPU.
        """
        self._settings, self._gpus = settings, gpus
        self._pool: Any = None
        self._begun: dict[Future[Report], Any] = {}  # with references of Ray's own
        self._lock = threading.Lock()

    def check(self) -> None:  # noqa: B027
        """See that what it needs is installed.

        Raises:
            UserError: it is not.
        """

    @property
    def places(self) -> int:
        """How many pieces are executed at a time."""
        cores = core_count()
        given = self._settings.shards if "shards" in self._settings.model_fields_set else None
        if self._gpus:
            return min(self._gpus, given or self._gpus)
        return min(cores, given or MOST)

    @property
    def threads(self) -> int:
        """Of each process: what the user said, or its share of the cores."""
        said = os.environ.get("OMP_NUM_THREADS", "")
        return int(said) if said.isdecimal() and int(said) else max(1, core_count() // self.places)

    def start(self) -> None:
        """Start the processes, or find them; in the main thread, with which Ray's end.

        Raises:
            UserError: they cannot be started or reached.
        """
        with self._lock:
            if self._pool is None:
                self._pool = self._open()

    def submit(self, work: Work) -> Future[Report]:
        """Let one of the processes execute a piece of work."""
        with self._lock:
            if self._pool is None:
                raise UserError(f"--runner {self._settings.runner} was stopped")
            return self._sent(work)

    def result(self, work: Work) -> Report:
        """Wait for what one of the processes makes of a piece of work.

        Raises:
            UserError: what the stage raised there.
            WorkerLostError: the process ended.
        """
        return self.submit(work).result()

    def stop(self) -> None:  # noqa: B027
        """Forget the pieces that nobody has begun."""

    def close(self) -> None:  # noqa: B027
        """End the processes."""

    @abstractmethod
    def _open(self) -> Any:
        """Start, or find, the processes."""

    @abstractmethod
    def _sent(self, work: Work) -> Future[Report]:
        """Give a piece of work to them."""


class Processes(Runner):
    """Processes of this machine, each with its share of the threads, or a GPU."""

    _pool: Executor | None
    _halted: Any = None  # watched by the processes; no event: one that is killed would hold it

    def _open(self) -> Executor:
        # Not forked: neither PyTorch's threads nor CUDA survive that.
        context = multiprocessing.get_context("spawn")
        counter, self._halted = context.Value("i", 0), context.RawValue("b", 0)
        given = (counter, self._halted, self.threads)
        pool = ProcessPoolExecutor(self.places, context, begin, given)
        with _environment(self.threads), _without_interrupts():
            for _ in range(self.places):  # each starts one: none is ready before the last is asked
                pool.submit(os.getpid)
        return pool

    def _sent(self, work: Work) -> Future[Report]:
        assert self._pool is not None
        return self._pool.submit(run_shard, work)

    def result(self, work: Work) -> Report:
        """Wait for a piece of work."""
        try:
            return super().result(work)
        except BrokenProcessPool:
            raise lost("a process of --runner processes", self._settings) from None

    def stop(self) -> None:
        """Forget the pieces that nobody has begun, and end the others after their batch."""
        with self._lock:
            if self._pool is not None:
                self._halted.value = 1
                self._pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the processes, when they have stored what they are at."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None


class Dask(Runner):
    """Workers of Dask: processes of this machine, or those of a scheduler at an address."""

    _client: Any = None

    def check(self) -> None:
        """See that Dask is installed."""
        optional("distributed", "dask")

    @property
    def places(self) -> int:
        """Of a cluster as many as it has workers when the command begins."""
        if self._settings.address is None:
            return super().places
        self.start()
        with self._lock:
            return max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))

    def _open(self) -> Executor:
        distributed = optional("distributed", "dask")
        logging.getLogger("distributed").setLevel(logging.ERROR)  # as it ends, it warns of ending
        address = self._settings.address
        if address is None:
            with _environment(self.threads, QUIET), _without_interrupts():
                cluster = distributed.LocalCluster(
                    n_workers=self.places,
                    threads_per_worker=1,  # which execute pieces; each has threads of its own
                    memory_limit=0,
                    dashboard_address=None,
                    env={name: os.environ.get(name, str(self.threads)) for name in THREADS},
                )
            self._client = distributed.Client(cluster)
        else:
            try:
                self._client = distributed.Client(address, timeout=10)
                self._client.wait_for_workers(1, timeout=WAITING)
            except TimeoutError:
                if self._client is not None:  # else it would go on looking for the scheduler
                    self._client.close(timeout=1)
                    self._client = None
                raise UserError(
                    f"Dask's scheduler at {address} has no workers, or does not answer: start one, "
                    f"dask worker {address} --nthreads 1"
                ) from None
            except (OSError, ValueError) as error:
                raise _unreached("Dask's scheduler", address, error) from None
        executor: Executor = self._client.get_executor(pure=False)
        return executor

    def _sent(self, work: Work) -> Future[Report]:
        future: Future[Report] = self._pool.submit(run_shard, work)
        return future

    def result(self, work: Work) -> Report:
        """Wait for a piece of work."""
        try:
            return super().result(work)
        except Exception as error:
            if type(error).__name__ in ("KilledWorker", "CancelledError", "CommClosedError"):
                raise lost("a worker of Dask", self._settings) from None
            raise

    def stop(self) -> None:
        """Forget the pieces that nobody has begun; end workers of our own."""
        self.close()

    def close(self) -> None:
        """Leave the scheduler, or end our own with its workers."""
        with self._lock:
            client, self._client, self._pool = self._client, None, None
        if client is None:
            return
        with suppress(Exception):  # what is lost by then is computed by the next run
            cluster = client.cluster
            client.close(timeout=5)
            if cluster is not None:
                cluster.close(timeout=10)


class Ray(Runner):
    """Workers of Ray: processes of this machine, or those of a cluster at an address."""

    def check(self) -> None:
        """See that Ray is installed."""
        optional("ray", "ray")

    @property
    def places(self) -> int:
        """Of a cluster as many as it has GPUs, else cores."""
        if self._settings.address is None:
            return super().places
        self.start()
        has = optional("ray", "ray").cluster_resources()
        return max(1, int(has.get("GPU", 0) if self._takes_gpus() else has.get("CPU", 1)))

    def _takes_gpus(self) -> bool:
        if self._settings.device == "cpu":
            return False
        has: dict[str, float] = optional("ray", "ray").cluster_resources()
        return has.get("GPU", 0) > 0

    def _open(self) -> Any:
        ray = optional("ray", "ray")
        address = self._settings.address
        own = {"num_cpus": self.places * self.threads} if address is None else {}
        try:
            ray.init(
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level="ERROR",
                **own,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise _unreached("Ray", address, error) from None
        threads = self.threads if address is None else 1
        wanted = {"num_cpus": threads, "num_gpus": 1 if self._takes_gpus() else 0}
        return ray.remote(run_shard).options(**wanted)

    def _sent(self, work: Work) -> Future[Report]:
        reference = self._pool.remote(work)
        future: Future[Report] = reference.future()
        self._begun[future] = reference
        return future

    def result(self, work: Work) -> Report:
        """Wait for a piece of work."""
        errors = optional("ray", "ray").exceptions
        future = self.submit(work)
        try:
            while not wait([future], timeout=working.LOOK).done:
                if self._pool is None:  # what Ray is shut down with never gets a result
                    raise UserError(f"--runner {self._settings.runner} was stopped")
            return future.result()
        except errors.RayTaskError as error:
            raise (error.cause or error) from None
        except errors.RayError:
            raise lost("a worker of Ray", self._settings) from None

    def stop(self) -> None:
        """Interrupt the pieces, whose workers store the batch that they are at, and end."""
        ray = optional("ray", "ray")
        with self._lock:
            begun = {} if self._pool is None else dict(self._begun)
        with suppress(Exception):  # Ray may be going already
            for reference in begun.values():
                ray.cancel(reference)
            wait(begun, timeout=STOPPING)
        self.close()

    def close(self) -> None:
        """Leave the cluster, or end our own."""
        with self._lock:
            begun, self._pool = self._pool is not None, None
        if begun:
            optional("ray", "ray").shutdown()


def lost(who: str, settings: Settings) -> WorkerLostError:
    """The error of a command one of whose processes ended before its work."""
    few = ", with fewer processes (--shards N) if memory was short"
    return WorkerLostError(
        f"{who} ended before its work, killed or out of memory; what was computed is kept: run "
        f"again{few if settings.address is None else ''}"
    )


def _unreached(what: str, address: str | None, error: Exception) -> UserError:
    where = f" at {address}" if address else ""
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return UserError(f"{what}{where} cannot be reached ({reason}): see --address")


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def runner_of(settings: Settings, device: torch.device, count: int) -> Runner | None:
    """The runner of a command; None: threads of its own process.

    Args:
        settings: of a run.
        device: that it computes on.
        count: of GPUs that this machine spreads work over.
    """
    kinds: dict[str, Callable[[Settings, int], Runner]]
    kinds = {"processes": Processes, "dask": Dask, "ray": Ray}
    kind = kinds.get(settings.runner)
    return kind(settings, count if device.type == "cuda" else 0) if kind else None


def begin(counter: Any, stop: Any, threads: int) -> None:
    """Prepare a process of ours: its number, its threads, and its end with that of the command."""
    with counter.get_lock():
        working.place = counter.value
        counter.value += 1
    torch.set_num_threads(threads)
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command stops what it has begun
    threading.Thread(target=_watch, args=(stop,), daemon=True, name="sclip-parent").start()


def _watch(stop: Any) -> None:
    """Stop the work when the command says so; end the process after a command that was killed."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        time.sleep(working.LOOK)
        if stop.value:
            working.stop_all()
    working.stop_all()
    end = time.monotonic() + PATIENCE
    while working.busy() and time.monotonic() < end:
        time.sleep(0.1)
    os._exit(1)


@contextmanager
def _environment(threads: int, more: Mapping[str, str] | None = None) -> Iterator[None]:
    """Let processes that begin meanwhile have so many threads, unless the user said how many."""
    ours = {**dict.fromkeys(THREADS, str(threads)), **(more or {})}
    ours = {name: value for name, value in ours.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let Ctrl-C not reach processes that begin meanwhile: they inherit what is blocked."""
    resource_tracker.ensure_running()  # whose start would unblock it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
