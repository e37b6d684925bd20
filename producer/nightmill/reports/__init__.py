"""What the commands show: progress, failures, lanes, the history of one job."""
