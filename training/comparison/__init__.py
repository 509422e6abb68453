"""Several agents over several scenarios at equal draws: the runs, what they say together, and how it is shown."""
