"""Files that a request refers to, read when the job is called."""
