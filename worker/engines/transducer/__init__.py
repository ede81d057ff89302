"""Networks with a prediction network and a joint: RNN-T and TDT."""
