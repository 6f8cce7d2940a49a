"""Console: pages that show a server and change it. What they show and do is what the routes of ``/v1`` show and do."""
