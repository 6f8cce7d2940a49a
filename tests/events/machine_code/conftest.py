"""Fixtures of the tests of machine code."""

import pytest

from tests.support.kernel_package import make_package


@pytest.fixture
def package(tmp_path):
    """A package of two modules with kernels, and what compiles them."""
    return make_package(tmp_path)
