"""Plain records: jobs, results, counts, limits and the states of a job. No I/O."""
