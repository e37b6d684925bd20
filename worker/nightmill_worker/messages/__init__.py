"""The Messages endpoint: one call, its answer, and what the answer means for the job."""
