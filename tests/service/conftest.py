"""What tests against real programs share."""

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def program():
    """Return the path of a program of this machine; where it is missing the test skips, and fails in CI."""

    def found(name):
        path = shutil.which(name)
        if path is None:
            message = f"{name} is not installed; scripts/test-integrations says how"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        return path

    return found
