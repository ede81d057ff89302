"""How soon people who speak into Longhand read what they say."""
