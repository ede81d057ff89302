"""Who speaks when, and who said which word: pure functions over turns and words."""
