"""What keeps a worker and the platform going: heartbeat, health, the sweep, retention."""
