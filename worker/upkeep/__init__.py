"""What the beat worker does: ticks, the sweep, retention."""
