"""The workers: they get units, run the functions that work specs name, and report.

ForkWorker is the one that `coordinate_worker` runs: a parent with several children, each of
which is a LoopWorker. SingleWorker does one unit and returns.
"""

from __future__ import annotations

import abc
import functools
import importlib
import importlib.metadata
import logging
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from cProfile import Profile
from datetime import datetime
from types import FrameType
from typing import Any, ClassVar, NoReturn

import coordinate

from . import dblogger, yakonfig
from .exceptions import LostLease, ProgrammerError
from .job_client import TaskMaster, WorkUnit

logger = logging.getLogger(__name__)


def _title_setter() -> Callable[[str], object]:
    """Gives what sets the title of a process: nothing does, unless the package setproctitle is installed."""
    try:
        setter: Callable[[str], object] = importlib.import_module("setproctitle").setproctitle
    except ImportError:
        return lambda title: None
    return setter


setproctitle = _title_setter()


def nice_identifier() -> str:
    """A new id for a worker."""
    return os.urandom(16).hex()


def run_worker(worker_class: Callable[..., Worker], *args: Any, **kwargs: Any) -> None:
    """Makes a worker, registers it, runs it, and unregisters it. Logs what it raises."""
    try:
        worker = worker_class(*args, **kwargs)
    except Exception:
        logger.critical("cannot make a worker of %r", worker_class, exc_info=True)
        raise
    # No `finally`: children that a ForkWorker forks leave through here with SystemExit, and the
    # parent must not be unregistered by them.
    try:
        worker.register()
        worker.run()
        worker.unregister()
    except Exception:
        logger.error("worker %r died", worker_class, exc_info=True)
        try:
            worker.unregister()
        except Exception:
            logger.debug("and it could not be unregistered", exc_info=True)
        raise


class Worker(abc.ABC):
    """What all workers have: an id, and a heartbeat that keeps it known to the daemon."""

    def __init__(self, config: Mapping[str, Any], task_master: TaskMaster | None = None) -> None:
        """`config` is the block `coordinate` of the configuration."""
        self.config = config
        self.task_master = TaskMaster(config) if task_master is None else task_master
        #: The id, from register() to unregister().
        self.worker_id: str | None = None
        #: The id of the parent worker, if there is one.
        self.parent: str | None = None
        #: Seconds without heartbeat after which the daemon forgets the worker.
        self.lifetime = 100 * 60

    def environment(self) -> dict[str, Any]:
        """What the heartbeat tells about this worker.

        Its keys are `worker_id`, `parent`, `pid`, `hostname`, `aliases`, `ipaddrs`, `fqdn`,
        `version` (of this package), `working_set` (pairs of installed packages and their
        versions) and `memory` (total and available bytes, and the percentage in use).
        """
        return {
            "worker_id": self.worker_id,
            "parent": self.parent,
            "pid": os.getpid(),
            "memory": _memory(),
            **_host(),
            **_packages(),
        }

    def register(self, parent: str | None = None) -> str:
        """Gives the worker an id, tells the daemon, and returns the id.

        Raises ProgrammerError if it has one already.
        """
        if self.worker_id:
            raise ProgrammerError("this worker is registered already: unregister it first")
        self.parent = parent
        self.worker_id = nice_identifier()
        self.task_master.worker_id = self.worker_id
        self.heartbeat()
        return self.worker_id

    def unregister(self) -> None:
        """Tells the daemon that the worker is gone."""
        self.task_master.worker_unregister(self._id())
        self.task_master.worker_id = None
        self.worker_id = None

    def heartbeat(self) -> str:
        """Tells the daemon that the worker lives. Returns the mode, which is RUN."""
        mode = self.task_master.get_mode()
        self.task_master.worker_heartbeat(self._id(), mode, self.lifetime, self.environment(), parent=self.parent)
        return mode

    def _id(self) -> str:
        if self.worker_id is None:
            raise ProgrammerError("this worker is not registered")
        return self.worker_id

    @abc.abstractmethod
    def run(self) -> Any:
        """Does the work."""


class SingleWorker(Worker):
    """Does one unit (or `max_jobs`, got at once) and returns.

    Keys of the configuration: `worker_job_fetch`, which takes precedence over `max_jobs`; and
    `profile`, with `work_specs`, the names of work specs whose units are profiled, and
    `destination`, the file for the result, in which %(work_spec_name)s, %(work_unit_key)s,
    %(ymd)s and %(hms)s stand for those of the unit and the local date and time.
    """

    #: Exit codes of as_child: it did something; it failed; there was nothing to do.
    EXIT_SUCCESS = 0
    EXIT_EXCEPTION = 1
    EXIT_BORED = 2

    def __init__(
        self,
        config: Mapping[str, Any],
        task_master: TaskMaster | None = None,
        work_spec_names: Iterable[str] | None = None,
        max_jobs: int | None = 1,
    ) -> None:
        super().__init__(config, task_master)
        self.work_spec_names = work_spec_names
        self.max_jobs = config.get("worker_job_fetch", max_jobs)
        profile = config.get("profile", {})
        self.profile_work_specs = profile.get("work_specs", [])
        self.profile_destination = profile.get("destination")

    def run(self, set_title: bool = False) -> bool:
        """Does what there is to do, as run_one."""
        return self.run_one(set_title)

    def run_one(self, set_title: bool = False) -> bool:
        """Gets units and runs them. Returns whether there were any, even if they failed.

        With `set_title` the title of the process names the unit.
        """
        units = self.task_master.get_work(
            self._id(),
            available_gb=_memory()[1] / 2**30,
            work_spec_names=self.work_spec_names,
            max_jobs=self.max_jobs,
        )
        if not units:
            logger.info("no work to do")
            return False
        if isinstance(units, WorkUnit):
            units = [units]
        for done, unit in enumerate(units):
            try:
                self._run_unit(unit, set_title)
            except BaseException:
                # Not an exception of the run function, but the end of this process or of the connection.
                self._give_back(units[done + 1 :])
                raise
        return True

    def _run_unit(self, unit: WorkUnit, set_title: bool) -> None:
        try:
            if set_title:
                setproctitle(f"coordinate worker {unit.work_spec_name!r} {unit.key!r}")
            if self.profile_destination and unit.work_spec_name in self.profile_work_specs:
                self._profile(unit)
            else:
                unit.run()
            unit.finish()
        except LostLease:
            logger.warning("lost the lease on %r", unit.key)
        except Exception as error:
            unit.fail(error)

    def _profile(self, unit: WorkUnit) -> None:
        now = datetime.now()
        key = unit.key.decode("utf-8", "surrogateescape") if isinstance(unit.key, bytes) else unit.key
        destination = self.profile_destination % {
            "work_spec_name": unit.work_spec_name,
            "work_unit_key": key,
            "ymd": now.strftime("%Y%m%d"),
            "hms": now.strftime("%H%M%S"),
        }
        profiler = Profile()
        profiler.enable()
        try:
            unit.run()
        finally:
            profiler.disable()
        profiler.dump_stats(destination)

    def _give_back(self, units: list[WorkUnit]) -> None:
        try:
            for unit in units:
                unit.update(-1)
        except Exception:
            logger.error("cannot give back units that were not begun", exc_info=True)

    @classmethod
    def as_child(cls, global_config: dict[str, Any], parent: str | None = None) -> NoReturn:
        """Works in a child process, and ends it with one of the exit codes above."""
        try:
            setproctitle("coordinate worker")
            random.seed()  # all children have inherited the same
            yakonfig.set_default_config([yakonfig, dblogger, coordinate], config=global_config)
            worker = cls(yakonfig.get_global_config(coordinate.config_name))
            worker.register(parent=parent)
            did_work = worker.run(set_title=True)
            worker.unregister()
        except Exception as error:
            if logging.root.handlers:
                logger.critical("cannot do any work", exc_info=error)
            else:
                traceback.print_exc()
            sys.exit(cls.EXIT_EXCEPTION)
        sys.exit(cls.EXIT_SUCCESS if did_work else cls.EXIT_BORED)


class LoopWorker(SingleWorker):
    """Does units one after the other, until there are none or its time is over.

    It begins none after `child_lifetime` seconds, which is in the block `fork_worker` of the
    global configuration (10 if not).
    """

    def run(self, set_title: bool = False) -> bool:
        """Does what there is to do, as run_loop."""
        return self.run_loop(set_title)

    def run_loop(self, set_title: bool = False) -> bool:
        """Runs units. Returns False if it ended because there were none left."""
        try:
            duration = yakonfig.get_global_config("coordinate", "fork_worker", "child_lifetime")
        except KeyError:
            duration = ForkWorker.default_config["child_lifetime"]
        deadline = time.monotonic() + duration
        while self.run_one(set_title):
            if time.monotonic() >= deadline:
                return True
        return False


class ForkWorker(Worker):
    """Keeps several children at work.

    Its block `fork_worker` of the configuration, times in seconds:

    - `num_workers` children, else `num_workers_per_core` (1) for each processor;
    - `poll_interval` (1): the wait after a child found no work, or failed;
    - `spawn_interval` (0.1): the wait between the starts of two children;
    - `heartbeat_interval` (15): how often it tells the daemon that it lives, and looks after its
      children's leases;
    - `child_lifetime` (10): how long a child goes on getting units;
    - `stop_jobs_early` (15): a child whose units' leases all end within this time, or are lost, is
      killed, and its units are failed. If it is at least `heartbeat_interval`, units that take
      longer than their lease fail; otherwise another worker may start them before;
    - `debug_worker`: a list of what to log more of, `children` and `loop`; with `stdout` it is
      also printed.

    The first SIGTERM or SIGINT lets the children end their units; a second one, or SIGABRT, kills
    them.
    """

    config_name = "fork_worker"
    default_config: ClassVar[dict[str, Any]] = {
        "num_workers": None,
        "num_workers_per_core": 1,
        "poll_interval": 1,
        "spawn_interval": 0.1,
        "heartbeat_interval": 15,
        "child_lifetime": 10,
        "stop_jobs_early": 15,
        "debug_worker": None,
    }

    @classmethod
    def config_get(cls, config: Mapping[str, Any], key: str) -> Any:
        """A key of the block, or its default."""
        return config.get(key, cls.default_config[key])

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        block = config.get(self.config_name, {})
        self.num_workers = self.config_get(block, "num_workers") or (
            self.config_get(block, "num_workers_per_core") * (os.cpu_count() or 1)
        )
        self.poll_interval = self.config_get(block, "poll_interval")
        self.spawn_interval = self.config_get(block, "spawn_interval")
        self.heartbeat_interval = self.config_get(block, "heartbeat_interval")
        self.heartbeat_deadline = time.time() - 1  # now
        self.child_lifetime = self.config_get(block, "child_lifetime")
        self.stop_jobs_early = self.config_get(block, "stop_jobs_early")
        self.debug_worker = self.config_get(block, "debug_worker") or []
        #: The process ids of the children.
        self.children: set[int] = set()
        self.shutting_down = False
        self.last_mode: str | None = None
        self._old_handlers: dict[int, Any] = {}

    @staticmethod
    def pid_is_alive(pid: int) -> bool:
        """Tells whether there is a process with this id."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def set_signal_handlers(self) -> None:
        """Has signals stop this worker."""
        for number, react in (
            (signal.SIGABRT, self.scram),
            (signal.SIGINT, self.stop_gracefully),
            (signal.SIGTERM, self.stop_gracefully),
        ):

            def handler(signum: int, frame: FrameType | None, react: Callable[[], None] = react) -> None:
                react()

            self._old_handlers[number] = signal.signal(number, handler)

    def clear_signal_handlers(self) -> None:
        """Undoes set_signal_handlers; children have to do this, too."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers = {}

    def log(self, level: int, message: str) -> None:
        """Logs a message."""
        logger.log(level, "%s", message)

    def debug(self, group: str, message: str) -> None:
        """Logs a message, if `debug_worker` has its group."""
        if group in self.debug_worker:
            if "stdout" in self.debug_worker:
                print(message)
            self.log(logging.DEBUG, message)

    def run(self) -> None:
        """Works until a signal ends it."""
        setproctitle(f"coordinate fork_worker for namespace {self.config.get('namespace')}")
        self.set_signal_handlers()
        try:
            while True:
                mode = self.last_mode
                if time.time() >= self.heartbeat_deadline:
                    mode = self._look_around()
                interval = self.do_some_work(not self.shutting_down and mode == self.task_master.RUN)
                if not self.children and (self.shutting_down or mode == self.task_master.TERMINATE):
                    self.log(logging.INFO, "stopped")
                    break
                time.sleep(interval)
        finally:
            # Also in children, which come through here when they exit.
            self.clear_signal_handlers()

    def _look_around(self) -> str | None:
        """The heartbeat, and the children's leases. An error there must not end the worker."""
        try:
            mode: str | None = self.heartbeat()
            if mode != self.last_mode:
                self.log(logging.INFO, f"the mode is {mode}")
                self.last_mode = mode
            self.check_spinning_children()
        except Exception:
            logger.error("the heartbeat or the check of the children failed", exc_info=True)
        self.heartbeat_deadline = time.time() + self.heartbeat_interval
        return self.last_mode

    def do_some_work(self, can_start_more: bool) -> float:
        """Collects children that have ended, and may start one. Returns how long to wait then."""
        self.debug("loop", f"work loop, can_start_more={can_start_more!r}")
        wait = False
        for pid in list(self.children):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                self.children.remove(pid)
                continue
            if ended:
                self.children.remove(pid)
                wait = self._judge(pid, status) or wait
        if wait:
            self.debug("loop", "no work, or a child failed")
            return float(self.poll_interval)
        if not can_start_more or len(self.children) >= self.num_workers:
            self.debug("loop", "no child to start")
            return float(self.poll_interval)
        self._start_child()
        return float(self.spawn_interval)

    def _judge(self, pid: int, status: int) -> bool:
        """Tells whether the end of a child is a reason to wait before starting the next."""
        code = os.waitstatus_to_exitcode(status)
        self.debug("children", f"child {pid} ended with code {code}")
        if code == SingleWorker.EXIT_BORED:
            return True
        if code == SingleWorker.EXIT_EXCEPTION:
            self.log(logging.WARNING, f"child {pid} could not work; its log says why")
            return True
        if code < 0:
            self.log(logging.WARNING, f"child {pid} was ended by signal {-code}")
            return True
        if code != SingleWorker.EXIT_SUCCESS:
            self.log(logging.WARNING, f"child {pid} ended with code {code}")
        return False

    def _start_child(self) -> None:
        # A signal waits meanwhile, so that none that is meant for the child reaches this handler in it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, self._old_handlers.keys())
        try:
            pid = os.fork()
            if pid == 0:
                self.children = set()  # those are the parent's
                self.clear_signal_handlers()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if pid == 0:
            LoopWorker.as_child(yakonfig.get_global_config(), parent=self.worker_id)
        self.debug("children", f"started child {pid}")
        self.children.add(pid)

    def check_spinning_children(self) -> None:
        """Kills children whose units' leases are lost or about to end, and fails the latter."""
        soon = time.time() + self.stop_jobs_early
        for child, units in self.task_master.get_child_work_units(self._id()).items():
            own = [unit for unit in units if unit.worker_id == child]
            if any(unit.expires is not None and unit.expires > soon for unit in own):
                continue
            environment = self.task_master.get_heartbeat(child)
            pid = environment.get("pid") if environment else None
            if pid not in self.children:
                continue
            os.kill(pid, signal.SIGTERM)
            for unit in own:
                unit.fail("job expired")

    def stop_gracefully(self) -> None:
        """Starts no more children; the second time, as scram."""
        if self.shutting_down:
            self.log(logging.INFO, "second request to stop")
            self.scram()
        self.log(logging.INFO, "stopping once the running units have ended")
        self.shutting_down = True

    def stop_all_children(self) -> None:
        """Kills all children, and waits for their end."""
        for pid in self.children:
            try:
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # it has ended already

    def scram(self) -> NoReturn:
        """Kills all children, and exits."""
        self.stop_all_children()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(2)


def _memory() -> tuple[int, int, float]:
    """Total and available memory in bytes, and the percentage that is in use."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    available = total
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    available = int(line.split()[1]) * 1024
                    break
    except OSError:
        pass  # not Linux: all is as good as any
    return total, available, round(100 * (1 - available / total), 1)


@functools.cache
def _host() -> dict[str, Any]:
    """Asked once: children inherit it, and need not ask the name server."""
    hostname = socket.gethostname()
    aliases: list[str] = []
    ipaddrs: list[str] = []
    try:
        ip = socket.gethostbyname(hostname)
        ipaddrs = [ip]
        hostname, aliases, ipaddrs = socket.gethostbyaddr(ip)
    except OSError:
        pass  # the host's name, or its address, is not in any list
    return {
        "hostname": hostname,
        "aliases": tuple(aliases),
        "ipaddrs": tuple(ipaddrs),
        "fqdn": socket.getfqdn(),
    }


@functools.cache
def _packages() -> dict[str, Any]:
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return {
        "version": installed.get("coordinated", "unknown"),
        "working_set": sorted((str(name).lower(), version) for name, version in installed.items()),
    }
