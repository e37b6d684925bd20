"""The pages of lanes and workers, and the charts of both."""
