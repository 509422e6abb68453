"""Training, comparing and reporting: ``python -m training train | compare | resume | report``."""
