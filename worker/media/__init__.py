"""From a file to planned chunks, in the order of the data: decode, search for speech, plan."""
