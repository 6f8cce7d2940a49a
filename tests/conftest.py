"""What all tests share: the Hypothesis profiles.

``HYPOTHESIS_PROFILE`` picks one of ``dev``, ``ci``, ``nightly``. Without it, ``CI=true`` picks ``ci`` and all
else ``dev``.
"""

import os
from collections.abc import Mapping

from hypothesis import HealthCheck, settings

# No deadline for one example: the first call of a kernel compiles it. pytest's timeout bounds the whole test.
settings.register_profile("dev", max_examples=50, deadline=None)
# The same examples in each run, so that a red run is about the change; nightly looks for new ones.
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "nightly",
    max_examples=5_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def profile_name(environ: Mapping[str, str]) -> str:
    """Name the profile that an environment asks for."""
    return environ.get("HYPOTHESIS_PROFILE") or ("ci" if environ.get("CI") == "true" else "dev")


settings.load_profile(profile_name(os.environ))
