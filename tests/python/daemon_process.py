"""Starts and stops the server under test: coordinated, or the original."""
from __future__ import absolute_import, print_function
import collections
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import yaml

from coordinate.job_client import TaskMaster

# Generous, as a machine may be busy; nothing waits this long if all is well.
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30

LISTENING = re.compile(r'listening on 127\.0\.0\.1:(\d+)')


class Daemon(object):
    """A coordinated process, which can be started again on its file and port."""

    def __init__(self, folder, binary, config=None):
        self.folder = folder
        self.binary = binary
        self.config = config
        self.port = 0
        #: calls that the daemon counted, by method, over all its runs
        self.calls = collections.Counter()
        self.process = None
        self._settled = None
        self._reader = None

    @property
    def address(self):
        return '127.0.0.1:{}'.format(self.port)

    @property
    def log_path(self):
        return os.path.join(self.folder, 'daemon.log')

    def command(self):
        command = [self.binary, 'serve', '--listen', self.address, '--http', 'off',
                   '--db', os.path.join(self.folder, 'coordinate.db')]
        if self.config is not None:
            command += ['--config', self.write_config(self.config)]
        return command

    def write_config(self, config):
        path = os.path.join(self.folder, 'config.yaml')
        with open(path, 'w') as f:
            yaml.safe_dump(config, f)
        return path

    def start(self):
        """Starts the daemon; it listens when this returns."""
        self._settled = threading.Event()
        self.process = subprocess.Popen(
            self.command(), cwd=self.folder, close_fds=True,
            stdin=open(os.devnull), stdout=open(os.devnull, 'w'), stderr=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read_log, args=(self.process,))
        self._reader.daemon = True
        self._reader.start()
        self.wait_until_it_listens()

    def _read_log(self, process):
        """Keeps the daemon's log, and tells when it listens or has ended."""
        with open(self.log_path, 'a') as log:
            for line in iter(process.stderr.readline, ''):
                log.write(line)
                log.flush()
                listening = LISTENING.search(line)
                if listening:
                    self.port = int(listening.group(1))
                    self._settled.set()
        process.wait()
        self._settled.set()

    def wait_until_it_listens(self):
        self._settled.wait(START_SECONDS_MAX)
        assert self._settled.is_set() and self.process.returncode is None, (
            'the daemon does not listen; its log:\n' + self.log())

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def counted_calls(self):
        client = TaskMaster({'address': self.address, 'retries': 0})
        try:
            counted = client._rpc('server_info', ())['calls']
        finally:
            client.close()
        counted.pop('server_info', None)
        return counted

    def stop(self):
        """Stops the daemon by SIGTERM and checks that it ended well."""
        if self.process is None:
            return
        self.calls.update(self.counted_calls())
        self.process.send_signal(signal.SIGTERM)
        # The log ends when the process does.
        self._reader.join(STOP_SECONDS_MAX)
        assert not self._reader.is_alive(), (
            'the daemon goes on after SIGTERM; its log:\n' + self.log())
        ended = self.process.returncode
        self.process = None
        assert ended == 0, (
            'the daemon ended with status {}; its log:\n{}'.format(ended, self.log()))

    def kill(self):
        """Ends the daemon if it still runs."""
        if self.process is not None and self._reader.is_alive():
            self.process.kill()
            self._reader.join()
        self.process = None


class OriginalServer(Daemon):
    """The package's own server. It counts no calls and keeps nothing."""

    def command(self):
        # It cannot choose a port itself.
        with_port = socket.socket()
        with_port.bind(('127.0.0.1', 0))
        self.port = with_port.getsockname()[1]
        with_port.close()
        command = [sys.executable, '-m', 'coordinate.run',
                   '--host', '127.0.0.1', '--port', str(self.port)]
        if self.config is not None:
            command += ['--config', self.write_config(self.config)]
        return command

    def wait_until_it_listens(self):
        # It does not tell, so ask.
        deadline = time.time() + START_SECONDS_MAX
        while time.time() < deadline and self.process.returncode is None:
            try:
                socket.create_connection(('127.0.0.1', self.port)).close()
                return
            except socket.error:
                time.sleep(0.05)
        raise AssertionError('the original server does not listen:\n' + self.log())

    def counted_calls(self):
        return {}

    def stop(self):
        self.kill()
