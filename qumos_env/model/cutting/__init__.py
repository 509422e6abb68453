"""Circuit cutting: parts that meet through a gate, a wire or a number, run apart and put together by the owner."""
