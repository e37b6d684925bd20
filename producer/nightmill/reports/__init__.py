"""What commands show: progress, failures, lanes, the history of a job, and their labels."""
