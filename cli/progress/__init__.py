"""What a person sees on stderr while work goes on."""
