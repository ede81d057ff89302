"""Speech and text: pure functions, which know no database, no network and no queue."""
