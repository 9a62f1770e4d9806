"""Reports: tables, curves and one HTML page that compares the runs of several trackers."""
