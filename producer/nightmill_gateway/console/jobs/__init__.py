"""The page of one job: its request and answer, and every call."""
