"""Networks with a CTC head."""
