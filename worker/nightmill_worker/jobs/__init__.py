"""One claimed job: its facts, its call, and the decision that follows from the answer."""
