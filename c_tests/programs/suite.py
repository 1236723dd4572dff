"""Test modules of CPython: suite.py MODULE... prints what came of each test, as "NAME ok".

A test that takes longer than 15 seconds is bad.
"""

import signal
import sys
import unittest

from test import support


def too_long(number, frame):
    raise TimeoutError


class Outcomes(unittest.TestResult):
    def count(self):
        return len(self.errors + self.failures + self.unexpectedSuccesses), len(self.skipped)

    def startTest(self, test):
        super().startTest(test)
        self.before = self.count()
        signal.alarm(15)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)
        bad, skipped = (after > before for after, before in zip(self.count(), self.before))
        print(test.id(), "bad" if bad else "skipped" if skipped else "ok", file=out, flush=True)


out = sys.stdout
# Nothing that wants another host.
support.use_resources = []
support.verbose = 0
signal.signal(signal.SIGALRM, too_long)
result = Outcomes()
unittest.defaultTestLoader.loadTestsFromNames("test." + name for name in sys.argv[1:]).run(result)
for test, error in result.errors + result.failures:
    print(test, error, file=sys.stderr)
