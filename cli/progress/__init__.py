"""What a person sees on stderr while work goes on: a block that moves on a terminal, else lines."""
