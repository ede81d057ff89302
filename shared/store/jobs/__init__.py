"""Jobs: created, ended, retried, shared and deleted; reads of them."""
