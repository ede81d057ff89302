"""From a file to planned chunks: decode, measure clipping, plan."""
