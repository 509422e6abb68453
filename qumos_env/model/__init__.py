"""The trainable model of a design: its circuits, training, heads, noise and cuts, and its hybrid and sequential forms."""
