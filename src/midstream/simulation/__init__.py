"""A seed comes in, a shop, its visitors and their acts go to tests, ``init``, ``simulate`` and the demo."""
