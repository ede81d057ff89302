"""Jobs: how they begin, end, are retried, shared and deleted, and what is seen of them."""
