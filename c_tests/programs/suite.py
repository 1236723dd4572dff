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
    def startTest(self, test):
        super().startTest(test)
        signal.alarm(15)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def say(self, test, outcome):
        print(test.id(), outcome, file=out, flush=True)

    def addSuccess(self, test):
        self.say(test, "ok")

    def addSkip(self, test, reason):
        self.say(test, "skipped")

    def addExpectedFailure(self, test, error):
        self.say(test, "ok")

    def addUnexpectedSuccess(self, test):
        self.say(test, "bad")

    def addError(self, test, error):
        self.say(test, "bad")
        super().addError(test, error)

    def addFailure(self, test, error):
        self.say(test, "bad")
        super().addFailure(test, error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.say(test, "bad")
            super().addSubTest(test, subtest, error)


out = sys.stdout
# Nothing that wants another host.
support.use_resources = []
support.verbose = 0
signal.signal(signal.SIGALRM, too_long)
result = Outcomes()
unittest.defaultTestLoader.loadTestsFromNames("test." + name for name in sys.argv[1:]).run(result)
for test, error in result.errors + result.failures:
    print(test, error, file=sys.stderr)
