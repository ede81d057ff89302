"""What a backup holds of the database, and what a restored one needs to go on."""
