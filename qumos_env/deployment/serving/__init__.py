"""What serves bundles: providers that run their own part, and the owner's gateway. Needs the extra ``serve``; imports no torch, no Ray."""
