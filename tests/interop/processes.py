"""Programs that run while something is checked."""

import signal
import subprocess
import threading
import time


class Process:
    """A program that runs until the end; what it writes is read."""

    def __init__(self, name, command, **options):
        self.name, self.lines, self.at_line = name, [], threading.Condition()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            with self.at_line:
                self.lines.append(line.rstrip("\n"))
                self.at_line.notify_all()

    def wait_for(self, found, limit=15):
        """The first line that `found` takes."""
        end = time.monotonic() + limit
        with self.at_line:
            while True:
                for line in self.lines:
                    if found(line):
                        return line
                left = end - time.monotonic()
                if left <= 0 or not self.at_line.wait(left):
                    raise RuntimeError(f"{self.name}: the line does not come; " + " | ".join(self.lines[-20:]))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
