"""Circuit cutting: parts that meet through a gate, run apart and put together by the owner."""
