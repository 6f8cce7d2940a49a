"""Console: pages that show a server and change it, by what the routes of ``/v1`` answer and do."""
