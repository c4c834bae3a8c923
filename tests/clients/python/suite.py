"""Named cases, one line each: `ok`, or `FAILED` with what was expected."""

import itertools
import os
import time
import traceback

BOOTSTRAP = os.environ.get("CONVEYOR_BOOTSTRAP")
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]

_run = f"{time.time_ns() // 1_000_000:x}"
_names = itertools.count(1)


def unique(name):
    """A name for a topic, group or transactional id that no other case or run has."""
    return f"{name}-{_run}-{next(_names)}"


def equal(expected, found, what):
    """Fails unless both are equal."""
    if expected != found:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def check(condition, expectation):
    """Fails unless the condition holds."""
    if not condition:
        raise AssertionError(f"expected: {expectation}")


def eventually(seconds, expectation, condition):
    """Waits until `condition()` is true; gives back what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"expected within {seconds} s: {expectation}")
        time.sleep(0.05)


def fails(types, body):
    """Runs `body`, which must raise one of `types`; gives the exception back."""
    try:
        body()
    except types as error:
        return error
    except Exception as error:
        raise AssertionError(f"expected {types}, found {error!r}") from error
    raise AssertionError(f"expected {types}, but nothing failed")


class Suite:
    """The cases of one client."""

    def __init__(self, client):
        self.client = client
        self.cases = []

    def case(self, name, *arguments):
        """Registers a function as a case; more than once with other arguments."""

        def register(function):
            self.cases.append((name, function, arguments))
            return function

        return register

    def run(self, name_filter):
        """Runs the cases whose full names contain the filter; how many ran and how many failed."""
        chosen = [c for c in self.cases if name_filter in f"{self.client} {c[0]}"]
        failed = 0
        for name, function, arguments in chosen:
            start = time.monotonic()
            try:
                function(*arguments)
            except Exception as error:  # whatever it is, the next case runs
                failed += 1
                print(f"FAILED  {self.client} {name} ({time.monotonic() - start:.1f} s): {error!r}", flush=True)
                frames = traceback.extract_tb(error.__traceback__)[-4:]
                for frame in frames:
                    print(f"        at {os.path.basename(frame.filename)}:{frame.lineno} {frame.line}", flush=True)
            else:
                print(f"ok      {self.client} {name} ({time.monotonic() - start:.1f} s)", flush=True)
        return len(chosen), failed
