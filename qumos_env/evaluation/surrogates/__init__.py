"""General-purpose models that an adversary fits in closed form to a few rows, with loot or without.

Everyone who attacks has a few rows with a *goal* for each (labels, or the log-odds of the service's answers) and many rows without one, the
*targets*. ``families`` says how alike two rows are, in many ways; ``regression`` turns that into scores; ``interactions`` averages over
single products of features; ``models`` joins them with what was stolen. None of them knows by what law a data set was made.
"""
